# SPDX-License-Identifier: MIT
"""
Harbor (Terminal-Bench) in sandboxes of a pool. Each environment of a trial is a lease, and each exec is a job.

    modalpool -o reset=environment,max=8,image=python:3.12-slim modal /mnt/modalpool
    harbor run -p TASKS -a oracle -n 8 --environment-import-path modalpool.harbor:PoolEnvironment

Options of the environment, as --ek NAME=VALUE: mount (default: $MODALPOOL_MOUNT, else /mnt/modalpool), and any_image.

A trial must not see what the one before it left, or an agent that does nothing passes its tests. So the pool has to make
a new sandbox for each lease: reset=environment, mode=direct, or workdir=. On any other pool a trial ends with an error.

A task gets the image that its docker_image names: where that is not the image of the mount, in a pool beside it. A task
with a Dockerfile to build ends with an error, and one with docker_image over the local backend, unless any_image=true
says that the image of the mount serves every task. Files beside a Dockerfile are not copied then.

More trials than the pool has sandboxes wait for one. An exec that is out of time, or whose sandbox is lost, raises
RuntimeError; one that is cancelled is killed. Resources and the network of a sandbox are options of the mount, so a task
that asks for less network than everything is refused. The lease ends with stop() and with the process.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from harbor.environments.base import BaseEnvironment, ExecResult
from harbor.environments.capabilities import EnvironmentCapabilities
from harbor.environments.tar_transfer import extract_dir_from_bytes, pack_dir_to_bytes, tar_pack_succeeded

from . import Lease, Result, default_mount
from .pool import has_fresh_sandboxes

ROOT = ("root", "0", 0, None)  # who runs a job unless another user is named


class PoolEnvironment(BaseEnvironment):
    def __init__(self, *args: Any, mount: str | None = None, any_image: bool | str = False, **kwargs: Any):
        self.mount = mount or default_mount()
        self.any_image = str(any_image).lower() in ("true", "yes", "1")
        self._lease: Lease | None = None
        super().__init__(*args, **kwargs)

    @staticmethod
    def type() -> str:
        return "modalpool"

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        return EnvironmentCapabilities()

    def _validate_definition(self) -> None:
        """Left to start(): an error there is one of the trial, and here it would end the whole job."""

    @property
    def lease(self) -> Lease:
        if not self._lease:
            raise RuntimeError("the environment has not been started")
        return self._lease

    async def start(self, force_build: bool) -> None:
        if not has_fresh_sandboxes(self.mount):
            raise RuntimeError(f"the pool at {self.mount} lends a sandbox again as the trial before has left it; "
                               "mount it with -o reset=environment")
        image = None if self.any_image else self.task_env_config.docker_image
        if not image and not self.any_image and (self.environment_dir / "Dockerfile").exists():
            raise RuntimeError(f"{self.environment_name} has a Dockerfile, which a pool does not build; "
                               "any_image=true runs the task in the pool's image")
        self._lease = Lease(self.mount, image=image)
        if self.task_env_config.workdir:
            await self._tool(f"mkdir -p {shlex.quote(self.task_env_config.workdir)}")
        await self.ensure_dirs(self._mount_targets(writable_only=True))
        await self._upload_environment_dir_after_start()

    async def stop(self, delete: bool) -> None:
        if self._lease:
            self._lease.release()
            self._lease = None

    async def exec(self, command: str, cwd: str | None = None, env: dict[str, str] | None = None,
                   timeout_sec: int | None = None, user: str | int | None = None) -> ExecResult:
        who = self._resolve_user(user)
        result = await self.lease.run_async(command, cwd=cwd or self.task_env_config.workdir, env=self._merge_env(env),
                                            timeout=timeout_sec or 0, user=None if who in ROOT else str(who))
        if result.end == "timeout":
            raise RuntimeError(f"Command timed out after {timeout_sec} seconds")
        if result.exit_code is None:
            raise RuntimeError(result.error)
        return ExecResult(stdout=result.stdout, stderr=result.stderr, return_code=result.exit_code)

    # Files, as root.

    async def upload_file(self, source_path: Path | str, target_path: str) -> None:
        source = Path(source_path)
        await self.lease.write_file_async(target_path, source.read_bytes())
        await self._tool(f"chmod {source.stat().st_mode & 0o7777:o} {shlex.quote(target_path)}")

    async def upload_dir(self, source_dir: Path | str, target_dir: str) -> None:
        archive = pack_dir_to_bytes(source_dir, include_root=False).getvalue()
        directory = shlex.quote(target_dir)
        await self._tool(f"mkdir -p {directory} && tar -xf - --no-same-owner -C {directory}", archive)

    async def download_file(self, source_path: str, target_path: Path | str) -> None:
        Path(target_path).write_bytes(await self.lease.read_file_async(source_path))

    async def download_dir(self, source_dir: str, target_dir: Path | str) -> None:
        result = await self.lease.run_async(f"tar -cf - -C {shlex.quote(source_dir)} .", timeout=0)
        if not tar_pack_succeeded(result.exit_code, stderr=result.stderr, logger=self.logger):
            result.check()
        Path(target_dir).mkdir(parents=True, exist_ok=True)
        extract_dir_from_bytes(result.stdout_bytes, target_dir)

    async def _tool(self, command: str, stdin: bytes | None = None) -> Result:
        return (await self.lease.run_async(command, cwd="/", timeout=0, stdin=stdin)).check()
