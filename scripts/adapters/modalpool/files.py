# SPDX-License-Identifier: MIT
"""Files of a sandbox, through jobs: byte by byte, and with the permissions of the job's user."""

from __future__ import annotations

import errno
import os
import shlex

from .errors import Error
from .job import Result

# What cat, mkdir and the shell say of an error is the C library's text.
ERRORS = {os.strerror(number): number for number in
          (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ENOSPC, errno.EROFS, errno.EPERM,
           errno.ENAMETOOLONG, errno.ELOOP, errno.ETXTBSY, errno.EDQUOT)}
ERRORS[os.strerror(errno.EEXIST)] = errno.ENOTDIR  # mkdir -p, where a file stands in the way


def reading(path: str, limit: int | None = None) -> str:
    """A command that prints a file, or of a long one a byte more than the limit."""
    program = "cat" if limit is None else f"head -c {limit + 1}"
    return f"LC_ALL=C exec {program} -- {shlex.quote(path)}"


def writing(path: str) -> str:
    """A command that writes its input to a file, and makes the directories above it."""
    directory, quoted = os.path.dirname(path) or ".", shlex.quote(path)
    return f"export LC_ALL=C; mkdir -p -- {shlex.quote(directory)} && exec cat > {quoted}"


def contents(path: str, result: Result, limit: int | None = None) -> bytes:
    """What such a command has printed, or an exception as from open(): FileNotFoundError, PermissionError and so on."""
    if result.ok and limit is not None and len(result.stdout_bytes) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
    if result.ok:
        return result.stdout_bytes
    for text, number in ERRORS.items():
        if result.end == "failed" and text in result.stderr:
            raise OSError(number, text, path)
    raise Error(errno.EIO, result.error or result.stderr.strip() or f"exit code {result.exit_code}", path)
