"""JSON web tokens: the router's bearer tokens and the control plane's own."""

import base64
import hashlib
import hmac
import json
import math
import os
import time


class BadToken(Exception):
    pass


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    def __init__(self):
        self._key = os.urandom(32)
        self._oldest = 0  # tokens with a smaller serial number count as expired
        self._serial = 0

    def issue(self, subject, lifetime):
        """Times are whole seconds, as RFC 7519 lets and Go's parser wants them; it lasts `lifetime` at least."""
        self._serial += 1
        now = time.time()
        claims = {"sub": subject, "exp": math.ceil(now + lifetime), "iat": int(now), "serial": self._serial}
        head = encode(b'{"alg":"HS256","typ":"JWT"}') + "." + encode(json.dumps(claims).encode())
        return head + "." + encode(self._sign(head))

    def check(self, token, subject):
        """Raises BadToken with a sentence unless the token is good for `subject` now."""
        head, _, signature = token.rpartition(".")
        try:
            good = hmac.compare_digest(decode(signature), self._sign(head))
            claims = json.loads(decode(head.split(".")[1])) if good else None
        except (ValueError, IndexError):
            good = False
        if not good:
            raise BadToken("the token is not one of ours")
        if claims["exp"] <= time.time() or claims["serial"] < self._oldest:
            raise BadToken("the token has expired")
        if claims["sub"] != subject:
            raise BadToken("the token is for another task")

    def expire_all(self):
        self._oldest = self._serial + 1

    def _sign(self, head):
        return hmac.new(self._key, head.encode(), hashlib.sha256).digest()
