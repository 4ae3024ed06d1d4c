# SPDX-License-Identifier: MIT
"""
The public names of Hermes-Agent's pooled Modal backend, over a mount: what imported that module goes on working.

    from modalpool.seed import ModalEnvPool, ModalPooledTaskEnvironment, get_global_pool

    env = ModalPooledTaskEnvironment.acquire(image="", base_cwd="/root", timeout=60, task_id="t1", create_modal_env_fn=None)
    env.execute("pwd")          # {"output": "/root/hermes_tasks/t1\n", "returncode": 0}
    env.cleanup()

The pool is that of the mount, $MODALPOOL_MOUNT or /mnt/modalpool: it makes the sandboxes, keeps them warm, lends them to
all processes, and lets leases wait (options max, wait, oversubscribe). So a function that creates an environment is
accepted and not called, max_size is what the variables of the old module say and limits nothing, and wait_s is the
mount's wait. For an image that is not that of the mount a pool beside it is made and used.

A command that is out of time has returncode 124, and one whose sandbox is lost has 1; the last line of its output says
why. A lease ends with cleanup(), with its object and with the process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import uuid
from typing import Any, Callable, Optional

from . import Error, Lease, Result

HERMES_IMAGE = "nikolaik/python-nodejs:python3.11-nodejs20"  # what Hermes asks for where nobody has set an image


class LeasedEnvironment:
    """An environment as the pool lends it: a lease that has its sandbox."""

    def __init__(self, image: str = ""):
        self.lease = Lease(image=image if image != HERMES_IMAGE else None)
        with contextlib.ExitStack() as failed:
            failed.callback(self.lease.release)
            self.id = self.lease.environment
            failed.pop_all()

    def execute(self, command: str, cwd: str = "", *, timeout: Optional[float] = None) -> dict[str, Any]:
        try:
            return _answer(self.lease.run(command, cwd=cwd or None, timeout=timeout))
        except Error as error:
            return {"output": str(error.strerror), "returncode": 1}

    def cleanup(self) -> None:
        self.lease.release()

    stop = cleanup


def _answer(result: Result) -> dict[str, Any]:
    output = result.output if result.error is None else f"{result.output}\n{result.error}".lstrip("\n")
    return {"output": output, "returncode": 1 if result.exit_code is None else result.exit_code}


class ModalEnvPool:
    """The pool of the mount."""

    def __init__(self, max_size: int = 4):
        self.max_size = max_size

    def acquire(self, create_fn: Optional[Callable[[], Any]] = None, *, wait_s: float = 300, image: str = "") -> LeasedEnvironment:
        """An environment that nobody else has. Waits until there is one."""
        return LeasedEnvironment(image)

    def release(self, env: Any) -> None:
        env.cleanup()


_global_pool: Optional[ModalEnvPool] = None


def get_global_pool() -> ModalEnvPool:
    global _global_pool
    if _global_pool is None:
        size = os.environ.get("TERMINAL_MODAL_POOL_MAX") or os.environ.get("TERMINAL_MODAL_POOL_SIZE") or "4"
        _global_pool = ModalEnvPool(int(size))
    return _global_pool


class ModalPooledTaskEnvironment:
    """An environment for the time of a task, with a directory of its own."""

    def __init__(self, *, inner: Any, base_cwd: str, timeout: int, task_id: str):
        self._inner = inner
        self.timeout = timeout
        self.task_id = task_id or str(uuid.uuid4())
        self.base_cwd = base_cwd.rstrip("/") or "/root"
        self.cwd = f"{self.base_cwd}/hermes_tasks/{self.task_id}"
        directory = shlex.quote(self.cwd)
        self._inner.execute(f"rm -rf -- {directory}; mkdir -p -- {directory}", cwd="/", timeout=60)

    @classmethod
    def acquire(cls, *, image: str, base_cwd: str, timeout: int, task_id: str,
                create_modal_env_fn: Optional[Callable[[], Any]] = None) -> ModalPooledTaskEnvironment:
        inner = get_global_pool().acquire(create_modal_env_fn, image=image)
        return cls(inner=inner, base_cwd=base_cwd, timeout=timeout, task_id=task_id)

    def execute(self, command: str, cwd: str = "", *, timeout: Optional[int] = None) -> dict[str, Any]:
        """Run a command in the task's directory, or in the one that is given."""
        answer: dict[str, Any] = self._inner.execute(command, cwd=cwd or self.cwd, timeout=timeout or self.timeout)
        return answer

    def cleanup(self) -> None:
        """Remove the directory and give the environment back."""
        with contextlib.suppress(Exception):
            self._inner.execute(f"rm -rf -- {shlex.quote(self.cwd)}", cwd="/", timeout=60)
        get_global_pool().release(self._inner)

    def stop(self) -> None:
        self.cleanup()
