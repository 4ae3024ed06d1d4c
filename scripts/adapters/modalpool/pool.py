# SPDX-License-Identifier: MIT
"""The pool itself: the mount, and what its sandboxes are made of."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from .errors import Error


def default_mount() -> str:
    """$MODALPOOL_MOUNT, or /mnt/modalpool."""
    return os.environ.get("MODALPOOL_MOUNT") or "/mnt/modalpool"


def image(mount: str) -> str | None:
    """The image of the pool's sandboxes. None for those of the local backend, which have the files of this machine."""
    if _json(mount, "stats")["backend"] == "local":
        return None
    return str(_json(mount, "config")["image"]["value"])


def check_image(mount: str, wanted: str) -> None:
    """Raise Error if the pool's sandboxes are not made of this image."""
    has = image(mount)
    if has != wanted:
        what = f"has the image {has}" if has else "has no image, but the files of this machine"
        raise Error(errno.EOPNOTSUPP, f"the image {wanted} is asked for, but the pool {what}; use a mount with -o image={wanted}",
                    mount)


def maximum(mount: str | None = None) -> int:
    """How many sandboxes the pool may have: its option max."""
    return int(_json(mount or default_mount(), "stats")["environments_max"])


def has_fresh_sandboxes(mount: str) -> bool:
    """Whether a lease finds nothing that an earlier one left, anywhere in its sandbox."""
    options = _json(mount, "config")
    return options["reset"]["value"] != "workdir" or options["mode"]["value"] == "direct" or bool(options["workdir"]["value"])


def _json(mount: str, name: str) -> dict[str, Any]:
    path = os.path.join(mount, ".pool", name)
    try:
        with open(path, encoding="utf-8") as file:
            facts: dict[str, Any] = json.load(file)
            return facts
    except FileNotFoundError:
        raise Error(errno.ENOENT, f"no modalpool is mounted at {mount}", path) from None
