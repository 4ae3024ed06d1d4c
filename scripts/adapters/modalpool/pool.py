# SPDX-License-Identifier: MIT
"""Pools: the mount, what its sandboxes are made of, and a pool of its own for each other image."""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import re
from typing import Any

from .errors import Error


def default_mount() -> str:
    """$MODALPOOL_MOUNT, or /mnt/modalpool."""
    return os.environ.get("MODALPOOL_MOUNT") or "/mnt/modalpool"


def image(pool: str) -> str | None:
    """The image of the pool's sandboxes. None for those of the local backend, which have the files of this machine."""
    if _json(pool, "stats")["backend"] == "local":
        return None
    return str(_json(pool, "config")["image"]["value"])


def with_image(pool: str, wanted: str) -> str:
    """
    The pool whose sandboxes are made of this image: the given one, or else one beside it, which is made if need be.
    Every client of such a pool sets the image before it makes a lease there, so it does not matter who made it. The one
    who did removes it at the end of its process, if it has no leases then.
    """
    has = image(pool)
    if has == wanted:
        return pool
    if has is None:
        raise Error(errno.EOPNOTSUPP, f"the image {wanted} is asked for, but the sandboxes of this pool have no image, "
                    "but the files of this machine", pool)
    pool = os.path.abspath(pool)
    root = os.path.dirname(pool) if os.path.basename(pool).startswith("@") else pool
    digest = hashlib.sha256(f"{wanted} {os.geteuid()}".encode()).hexdigest()[:12]
    path = os.path.join(root, f"@{re.sub('[^A-Za-z0-9._-]', '-', wanted)[-80:]}-{digest}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        atexit.register(_remove, path, os.getpid())
    if image(path) != wanted:
        try:
            with open(os.path.join(path, ".pool/ctl"), "wb", buffering=0) as ctl:
                ctl.write(f"image {wanted}\n".encode())
        except OSError as error:
            if image(path) != wanted:
                raise Error(error.errno, f"the pool cannot have the image {wanted}: {error.strerror}", path) from error
    return path


def maximum(pool: str | None = None) -> int:
    """How many sandboxes the pool may have: its option max."""
    return int(_json(pool or default_mount(), "stats")["environments_max"])


def has_fresh_sandboxes(pool: str) -> bool:
    """Whether a lease finds nothing that an earlier one left, anywhere in its sandbox."""
    options = _json(pool, "config")
    return options["reset"]["value"] != "workdir" or options["mode"]["value"] == "direct" or bool(options["workdir"]["value"])


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _json(pool: str, name: str) -> dict[str, Any]:
    path = os.path.join(pool, ".pool", name)
    try:
        with open(path, encoding="utf-8") as file:
            facts: dict[str, Any] = json.load(file)
            return facts
    except FileNotFoundError:
        raise Error(errno.ENOENT, f"no modalpool is mounted at {pool}", path) from None
