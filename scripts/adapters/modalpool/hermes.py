# SPDX-License-Identifier: MIT
"""
Hermes-Agent in sandboxes of a pool. Each environment is a lease, and each command is a job of its own, so a foreground
command, background processes and execute_code run side by side.

After `pip install` of this package beside Hermes-Agent, it is a plugin:

    hermes plugins enable modalpool
    export MODALPOOL_MOUNT=/mnt/modalpool          # the default
    export TERMINAL_ENV=modal TERMINAL_MODAL_MODE=pool          # Hermes-Agent 0.19, which has no interface for backends
    hermes config set terminal.backend modalpool          # its main branch since August 2026, which has one

Under 0.19 the plugin replaces the class that TERMINAL_ENV=modal makes if TERMINAL_MODAL_MODE is pool. The provider for
the main branch was written from its documentation and has not been run against a release.

TERMINAL_CWD is where commands start; at Hermes' own default for sandboxes, /root, that is the workdir of the lease.
TERMINAL_MODAL_IMAGE, if set, is what the sandbox has to be made of: for another one than that of the mount a pool beside
it is made and used. Resources of a sandbox are options of the mount.

An interrupt or a timeout kills the command and nothing else. When the sandbox is lost, commands raise an error with the
reason. Hermes' kill of a background process reaches its outer shell alone, as in all its sandboxes; what that has
started ends with the lease. The lease ends with cleanup(), as after TERMINAL_LIFETIME_SECONDS without a command, and
with the process. Skills and credentials are not copied into the sandbox.

By hand: PoolEnvironment(mount, cwd=, timeout=, env=, image=) is a BaseEnvironment of Hermes.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import weakref
from typing import Any

from tools.environments.base import BaseEnvironment

from . import Job, Lease, default_mount
from .seed import HERMES_IMAGE

HERMES_CWD = "/root"
PROCESS = secrets.token_hex(4)  # in names of leases: another process may have the same number


class Process:
    """A job in the form in which Hermes waits for processes. The job is removed with this object."""

    def __init__(self, job: Job):
        self._job = job
        self.returncode: int | None = None
        self.stdout = open(os.path.join(job.path, "output"), "rb", buffering=0)
        weakref.finalize(self, _remove, job)

    def poll(self) -> int | None:
        with contextlib.suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            result = self._job.wait(timeout, limit=0)
            if result.exit_code is None:
                result.check()
            self.returncode = result.exit_code
        return self.returncode or 0

    def kill(self) -> None:
        self._job.kill()


def _remove(job: Job) -> None:
    with contextlib.suppress(OSError):
        job.remove()


class PoolEnvironment(BaseEnvironment):
    """Commands in a lease, as Hermes runs them: bash, with the variables and the directory of the command before."""

    def __init__(self, mount: str | None = None, *, cwd: str = "", timeout: int = 60, env: dict[str, str] | None = None,
                 image: str | None = None, name: str | None = None):
        self.lease = Lease(mount, name, env=env, image=image)
        try:
            super().__init__(cwd=cwd or self.lease.run("pwd").check().output.strip(), timeout=timeout, env=env)
            self.init_session()
        except BaseException:
            self.lease.release()
            raise

    def _run_bash(self, cmd_string: str, *, login: bool = False, timeout: int = 120, stdin_data: str | None = None) -> Process:
        # Hermes watches the time itself. The job's own limit is for when it no longer can.
        command = ["bash", "-l", "-c", cmd_string] if login else cmd_string
        return Process(self.lease.start(command, timeout=timeout + 60, stdin=stdin_data))

    def cleanup(self) -> None:
        if hasattr(self, "lease"):
            self.lease.release()


def create(cwd: str, timeout: int, task_id: str = "default", image: str | None = None, **_: Any) -> PoolEnvironment:
    """
    An environment from Hermes' configuration. Hermes remembers the directory of a task beyond its environment: the next
    one has the same name, and so the same workdir.
    """
    name = f"hermes-{os.getpid()}-{PROCESS}-{re.sub('[^A-Za-z0-9._-]', '_', task_id)[:64]}"
    return PoolEnvironment(cwd="" if cwd == HERMES_CWD else cwd, timeout=timeout, image=None if image == HERMES_IMAGE else image,
                           name=name)


def install() -> None:
    """For Hermes-Agent 0.19: TERMINAL_ENV=modal with TERMINAL_MODAL_MODE=pool makes a PoolEnvironment."""
    from tools import terminal_tool as hermes

    def wanted() -> bool:
        return os.environ.get("TERMINAL_ENV") == "modal" and os.environ.get("TERMINAL_MODAL_MODE", "").strip().lower() == "pool"

    def configuration() -> dict[str, Any]:
        values: dict[str, Any] = config()
        if wanted() and values["cwd"] == HERMES_CWD:
            values["cwd"] = ""  # then Hermes takes the one of the environment
        return values

    # Of the two kinds of Modal that Hermes knows, managed is the one for which it asks for no package and no token.
    managed = {"mode": "managed", "selected_backend": "managed", "managed_mode_blocked": False}
    config, state, modal = hermes._get_env_config, hermes._get_modal_backend_state, hermes._ManagedModalEnvironment
    hermes._get_env_config = configuration
    hermes._get_modal_backend_state = lambda mode: managed if wanted() else state(mode)
    hermes._ManagedModalEnvironment = lambda **options: create(**options) if wanted() else modal(**options)


def register(ctx: Any) -> None:
    """What Hermes calls to load the plugin."""
    if not hasattr(ctx, "register_terminal_environment_provider"):
        install()
        return
    from agent.terminal_env_provider import TerminalEnvironmentProvider

    class PoolProvider(TerminalEnvironmentProvider):  # type: ignore[misc]
        name = "modalpool"
        display_name = "modalpool"

        def is_available(self) -> bool:
            return os.path.exists(os.path.join(default_mount(), ".pool"))

        def create_environment(self, **options: Any) -> PoolEnvironment:
            return create(**options)

    ctx.register_terminal_environment_provider(PoolProvider())
