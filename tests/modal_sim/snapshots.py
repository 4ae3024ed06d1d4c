"""Snapshots: images that are a sandbox's files, or a directory of them, as a tar file on this machine."""

import hashlib
import os
import time

import grpc
from modal_proto import api_pb2

from . import ids
from .dispatch import Refuse
from .root import system_mounts

Result = api_pb2.GenericResult
TTL_DEFAULT = 30 * 86400
TTL_NEVER = -1
KEY_MIN, KEY_MAX = 16, 512
CHANGED_MEANWHILE = 1  # of tar: a file changed as it was read

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Snapshot:
    """An image, as far as sandboxes are concerned."""

    built = True
    result = Result(status=Result.GENERIC_STATUS_SUCCESS)

    def __init__(self, sandbox, directory, ttl, key):
        self.id = ids.make("im")
        # What the sandbox got at its creation is not part of it; what its image brought is.
        self.env = dict(sandbox.image.env)
        self.workdir = sandbox.workdir
        self.archive = os.path.join(directory, self.id + ".tar")
        self.key = digest(key)
        self.ttl = ttl
        self.expires_at = float("inf") if ttl == TTL_NEVER else time.time() + ttl

    def open(self):
        return os.open(self.archive, os.O_RDONLY | os.O_CLOEXEC)

    def expired(self):
        return time.time() > self.expires_at

    def delete(self):
        if os.path.exists(self.archive):
            os.unlink(self.archive)

    async def take(self, sandbox, path):
        """Packs what lies below `path`; mounts are not part of it, nor is what every sandbox has."""
        argv = ["tar", "-C", path, "--one-file-system", "--sparse", "--numeric-owner", "-cf", "-"]
        if path == "/":
            foreign = [*system_mounts(), *(mount_path for mount_path, _, _ in sandbox.volumes)]
            argv += ["--anchored", *(f"--exclude=.{name.rstrip('/')}" for name in foreign)]
        done = await sandbox.command([*argv, "."], keep=self.archive)
        if done.code not in (0, CHANGED_MEANWHILE):
            self.delete()
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"{path} could not be read: {done.said.strip()}")


def digest(key):
    if key and not KEY_MIN <= len(key) <= KEY_MAX:
        raise Refuse(INVALID, f"customer_supplied_encryption_key must have between {KEY_MIN} and {KEY_MAX} bytes")
    return hashlib.sha256(key).digest() if key else None


def lifetime(seconds, otherwise=None):
    """The seconds of a request; `otherwise` where it may leave them out."""
    if seconds == 0 and otherwise:
        return otherwise
    if seconds < 1 and seconds != TTL_NEVER:
        raise Refuse(INVALID, "ttl_seconds must be at least 1, or -1 for no expiry")
    return seconds
