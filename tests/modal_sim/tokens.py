"""JSON web tokens.

There are three kinds: `router`, the bearer tokens of the command router, each for a task; `auth`, which the
control plane wants of those who make the second kind of sandbox; `sandbox`, each for one of these.
"""

import base64
import hashlib
import hmac
import json
import math
import os
import time

KINDS = ("router", "auth", "sandbox")


class BadToken(Exception):
    pass


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    def __init__(self):
        self._key = os.urandom(32)
        self._oldest = {}  # kind -> tokens with a smaller serial number count as expired
        self._serial = 0

    def issue(self, kind, subject, lifetime):
        """It lasts `lifetime` seconds at least, or with 0 for ever. Times are integers, as Go's parser wants them."""
        self._serial += 1
        now = time.time()
        claims = {"kind": kind, "sub": subject, "iat": int(now), "serial": self._serial}
        if lifetime:
            claims["exp"] = math.ceil(now + lifetime)
        head = encode(b'{"alg":"HS256","typ":"JWT"}') + "." + encode(json.dumps(claims).encode())
        return head + "." + encode(self._sign(head))

    def check(self, token, kind, subject):
        """Raises BadToken with a sentence unless the token is good for `subject` now."""
        head, _, signature = token.rpartition(".")
        try:
            good = hmac.compare_digest(decode(signature), self._sign(head))
            claims = json.loads(decode(head.split(".")[1])) if good else None
        except (ValueError, IndexError):
            good = False
        if not good:
            raise BadToken("the token is not one of ours")
        if claims.get("exp", math.inf) <= time.time() or claims["serial"] < self._oldest.get(kind, 0):
            raise BadToken("the token has expired")
        if (claims["kind"], claims["sub"]) != (kind, subject):
            raise BadToken("the token is for something else")

    def expire_all(self, kind):
        self._oldest[kind] = self._serial + 1

    def _sign(self, head):
        return hmac.new(self._key, head.encode(), hashlib.sha256).digest()
