"""Object ids in the shapes Modal's SDKs tell apart.

The SDKs take `sb-` and 22 letters or digits for a sandbox of the first kind
and anything else for one of the second kind, whose task ids end in V.
"""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits


def make(prefix, length=22):
    return prefix + "-" + "".join(secrets.choice(ALPHABET) for _ in range(length))


def sandbox(version):
    return make("sb") if version == 1 else "sb-" + make("", 26)[1:].upper()


def task(version):
    # The last letter is the kind, so one of the first kind must not end in V.
    return make("ta", 21) + ("0" if version == 1 else "V")
