# SPDX-License-Identifier: MIT
"""
Deep Agents in a sandbox of a pool. The backend is a lease; each command and each file operation is a job.

    from deepagents import create_deep_agent
    from modalpool.deep_agents import PoolSandbox

    with PoolSandbox("/mnt/modalpool") as backend:          # default: $MODALPOOL_MOUNT, else /mnt/modalpool
        agent = create_deep_agent(model=..., backend=backend)
        agent.invoke(...)

cwd, env and timeout (seconds, 120; 0 for none) are for all commands. image is what the sandbox has to be made of: for
another one than that of the mount a pool beside it is made and used; local sandboxes have none. A command that is out of time has exit code 124, and one whose end is not
known has none; the reason is the last line of its output. Once the sandbox is lost, calls raise modalpool.Error.
Output beyond output_limit bytes is cut and says so. A command whose asyncio task is cancelled, or that is interrupted,
is killed. The file tools of Deep Agents need a python3 in the sandbox. The lease ends with the block, or else with
release(), the object or the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from deepagents.backends.protocol import ExecuteResponse, FileDownloadResponse, FileUploadResponse
from deepagents.backends.sandbox import BaseSandbox

from . import Lease, Result

ERRORS = {errno.ENOENT: "file_not_found", errno.EACCES: "permission_denied", errno.EPERM: "permission_denied",
          errno.EROFS: "permission_denied", errno.EISDIR: "is_directory", errno.ENOTDIR: "invalid_path", errno.EINVAL: "invalid_path"}


class PoolSandbox(BaseSandbox):
    def __init__(self, mount: str | os.PathLike[str] | None = None, *, name: str | None = None, cwd: str | None = None,
                 env: Mapping[str, str] | None = None, timeout: float = 120, image: str | None = None,
                 output_limit: int = 16 << 20):
        self.lease = Lease(mount, name, cwd=cwd, env=env, timeout=timeout, image=image)
        self.output_limit = output_limit

    @property
    def id(self) -> str:
        return self.lease.name

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        return _response(self.lease.run(command, timeout=timeout, limit=self.output_limit))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        return _response(await self.lease.run_async(command, timeout=timeout, limit=self.output_limit))

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        responses = []
        for path, content in files:
            try:
                self.lease.write_file(path, content)
                responses.append(FileUploadResponse(path=path))
            except OSError as error:
                responses.append(FileUploadResponse(path=path, error=_error(error)))
        return responses

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        responses = []
        for path in paths:
            try:
                responses.append(FileDownloadResponse(path=path, content=self.lease.read_file(path)))
            except OSError as error:
                responses.append(FileDownloadResponse(path=path, error=_error(error)))
        return responses

    def release(self) -> None:
        self.lease.release()

    def __enter__(self) -> PoolSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _response(result: Result) -> ExecuteResponse:
    output = result.output if result.error is None else f"{result.output}\n{result.error}".lstrip("\n")
    return ExecuteResponse(output=output, exit_code=result.exit_code, truncated=result.truncated)


def _error(error: OSError) -> str:
    return ERRORS.get(error.errno or 0, error.strerror or str(error))
