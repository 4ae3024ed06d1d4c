# SPDX-License-Identifier: MIT
"""
Inspect AI in sandboxes of a pool. Each sample has a lease, and each exec is a job of its own, so execs run side by side.

After `pip install` of this package the sandbox type is known by its entry point:

    inspect eval task.py --sandbox modalpool
    inspect eval task.py --sandbox modalpool:/mnt/other          # another mount than $MODALPOOL_MOUNT or /mnt/modalpool

    Task(..., sandbox=SandboxEnvironmentSpec("modalpool", PoolConfig(image="python:3.12-slim", user="agent")))

image is what the sandbox has to be made of. For another one than that of the mount a pool beside it is made and used.
Local sandboxes have no image: an error at the start of the sample.
user is who runs an exec that names nobody; cwd and env are for all of them. As many samples run at once as the pool may
have sandboxes (option max).

An exec that is out of time raises TimeoutError, one whose sandbox is lost SandboxUnavailableError; one that is
cancelled is killed. Leases end with their sample, and with the process. Ports and connection() are not implemented.
"""

from __future__ import annotations

import errno
from typing import Any, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from pydantic import BaseModel

from . import Error, Lease, Result
from .pool import maximum


class PoolConfig(BaseModel, frozen=True):
    mount: str | None = None
    image: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    user: str | None = None

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


@sandboxenv(name="modalpool")
class PoolSandboxEnvironment(SandboxEnvironment):
    def __init__(self, lease: Lease):
        super().__init__()
        self.lease = lease

    @classmethod
    async def sample_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None,
                          metadata: dict[str, str]) -> dict[str, SandboxEnvironment]:
        c = config if isinstance(config, PoolConfig) else PoolConfig(mount=config if isinstance(config, str) else None)
        return {"default": cls(Lease(c.mount, cwd=c.cwd, env=c.env, user=c.user, image=c.image))}

    @classmethod
    async def sample_cleanup(cls, task_name: str, config: SandboxEnvironmentConfigType | None,
                             environments: dict[str, SandboxEnvironment], interrupted: bool) -> None:
        for environment in environments.values():
            environment.as_type(cls).lease.release()

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return PoolConfig(**config)

    @classmethod
    def default_concurrency(cls) -> int | None:
        return maximum()

    def default_polling_interval(self) -> float:
        return 0.2

    async def exec(self, cmd: list[str], input: str | bytes | None = None, cwd: str | None = None,
                   env: dict[str, str] | None = None, user: str | None = None, timeout: int | None = None,
                   timeout_retry: bool = True, concurrency: bool = True) -> ExecResult[str]:
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        try:
            result = await self.lease.run_async(cmd, cwd=cwd, env=env, user=user, timeout=timeout or 0, stdin=input, limit=limit)
        except Error as error:
            raise _unavailable(error) from error
        if result.end == "timeout":
            late = TimeoutError(f"Command timed out after {timeout} seconds")
            late.truncated_output = result.output  # type: ignore[attr-defined]
            raise late
        if user and result.end == "cancelled":
            raise SandboxUserUnsupportedError(result.error)  # which the mount did not know when it took the user
        if result.exit_code is None:
            raise SandboxUnavailableError(result.error)
        if result.end == "output" or result.truncated:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, result.output)
        if result.exit_code == 126 and "permission denied" in result.stderr.lower():
            raise PermissionError(errno.EACCES, result.stderr.strip(), cmd[0])
        return ExecResult(result.ok, result.exit_code, result.stdout, _stderr(result))

    async def write_file(self, file: str, contents: str | bytes) -> None:
        await self.lease.write_file_async(file, contents)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        try:
            data = await self.lease.read_file_async(file, limit=SandboxEnvironmentLimits.MAX_READ_FILE_SIZE)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error
        return data.decode() if text else data


def _stderr(result: Result) -> str:
    """With the reason why the command could not be started: its user or directory is not there."""
    return result.stderr if result.error is None else f"{result.stderr}{result.error}\n"


def _unavailable(error: Error) -> Exception:
    if error.errno == errno.EOPNOTSUPP and "user" in (error.strerror or ""):
        return SandboxUserUnsupportedError(error.strerror)
    return error if error.errno in (errno.EINVAL, errno.EFBIG, errno.EDQUOT) else SandboxUnavailableError(error.strerror)
