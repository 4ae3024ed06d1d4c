# SPDX-License-Identifier: MIT
"""A sandbox from the pool: a directory of the mount."""

from __future__ import annotations

import errno
import functools
import os
import secrets
import shlex
import subprocess
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Union

from . import files
from .errors import Error, explained
from .job import GONE, Job, Result, write
from .pool import default_mount, with_image

Command = Union[str, Sequence[str]]


class Lease:
    """
    A sandbox that nobody else uses.

    name, if given, must be free. cwd, env, timeout and user are what its jobs have unless they set their own; timeout
    is in seconds from the start of a job, 0 for none. image is what the sandbox has to be made of; if the pool at mount
    has another one, a pool @NAME beside it is made and used. The sandboxes of the local backend have no image: Error.

    The lease ends with release(), at the end of a with block, when the object is collected, and at the end of the
    process: also if that is killed, for then a small process that waits for it (sh) removes the directory.
    A child process after fork may use the lease; it does not end it.
    """

    def __init__(self, mount: str | os.PathLike[str] | None = None, name: str | None = None, *,
                 cwd: str | None = None, env: Mapping[str, str] | None = None, timeout: float | None = None,
                 user: str | None = None, image: str | None = None):
        self.name = name or f"lease-{os.getpid()}-{secrets.token_hex(6)}"
        self.path = _make(os.path.abspath(os.fspath(mount or default_mount())), self.name, image)
        self._end: Callable[[], object] = weakref.finalize(self, _release, self.path, os.getpid(), _guard(self.path))
        try:
            self._write_settings(self.path, "", cwd, env, timeout, user)
        except BaseException:
            self.release()
            raise

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Lease:
        """A lease that is there already, at this path. It is not ended by this object, but for release()."""
        lease = cls.__new__(cls)
        lease.path = os.path.abspath(os.fspath(path))
        lease.name = os.path.basename(lease.path)
        with explained(lease.path):
            os.stat(os.path.join(lease.path, "cmd"))
        lease._end = functools.partial(_release, lease.path, os.getpid(), None)
        return lease

    def __repr__(self) -> str:
        return f"Lease({self.path!r})"

    # Jobs.

    def start(self, command: Command, *, name: str | None = None, cwd: str | None = None,
              env: Mapping[str, str] | None = None, timeout: float | None = None, user: str | None = None,
              stdin: str | bytes | None = None) -> Job:
        """
        Submit a command; it runs beside the other jobs. A sequence of words is quoted for the shell. env is added to
        that of the lease. A name that is taken is an Error with EEXIST: that job was asked for before, see job().
        """
        name = name or f"job-{secrets.token_hex(8)}"
        path = os.path.join(self.path, "jobs", name)
        script = command if isinstance(command, str) else shlex.join(command)
        # A variable of several lines cannot stand in the file env.
        lines = {key: value for key, value in (env or {}).items() if "\n" in value}
        script = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in lines.items()) + script
        with explained(self.path):
            os.mkdir(path)
        try:
            self._write_settings(path, self.path, cwd, {k: v for k, v in (env or {}).items() if k not in lines}, timeout, user)
            with explained(path):
                if stdin:
                    write(os.path.join(path, "stdin"), stdin.encode() if isinstance(stdin, str) else stdin)
                write(os.path.join(path, "cmd"), script.encode("utf-8", "surrogateescape"))
        except BaseException:
            Job(path).remove()
            raise
        return Job(path)

    def run(self, command: Command, *, cwd: str | None = None, env: Mapping[str, str] | None = None,
            timeout: float | None = None, user: str | None = None, stdin: str | bytes | None = None,
            limit: int | None = None) -> Result:
        """start(), wait for the end, and remove the job. An exception meanwhile, such as KeyboardInterrupt, kills it."""
        with self.start(command, cwd=cwd, env=env, timeout=timeout, user=user, stdin=stdin) as job:
            return job.wait(limit=limit)

    async def run_async(self, command: Command, *, cwd: str | None = None, env: Mapping[str, str] | None = None,
                        timeout: float | None = None, user: str | None = None, stdin: str | bytes | None = None,
                        limit: int | None = None) -> Result:
        """run() in asyncio or trio. Cancelling it kills the job."""
        with self.start(command, cwd=cwd, env=env, timeout=timeout, user=user, stdin=stdin) as job:
            return await job.wait_async(limit=limit)

    def job(self, name: str) -> Job:
        """A job that was started before, perhaps by another process."""
        path = os.path.join(self.path, "jobs", name)
        with explained(self.path):
            os.stat(path)
        return Job(path)

    # Files.

    def read_file(self, path: str, *, user: str | None = None, limit: int | None = None) -> bytes:
        """
        A file of the sandbox; a relative path begins at the workdir. FileNotFoundError and so on as from open(), and
        OSError with EFBIG for one that is longer than the limit.
        """
        return files.contents(path, self.run(files.reading(path, limit), user=user, timeout=0), limit)

    def write_file(self, path: str, data: str | bytes, *, user: str | None = None) -> None:
        """Write a file of the sandbox. Directories that it needs are made; if it is there, it keeps its mode."""
        files.contents(path, self.run(files.writing(path), user=user, timeout=0, stdin=data))

    async def read_file_async(self, path: str, *, user: str | None = None, limit: int | None = None) -> bytes:
        return files.contents(path, await self.run_async(files.reading(path, limit), user=user, timeout=0), limit)

    async def write_file_async(self, path: str, data: str | bytes, *, user: str | None = None) -> None:
        files.contents(path, await self.run_async(files.writing(path), user=user, timeout=0, stdin=data))

    # The lease itself.

    @property
    def environment(self) -> str:
        """The id of its sandbox. Waits until there is one."""
        with explained(self.path), open(os.path.join(self.path, "environment"), encoding="utf-8") as file:
            return file.read().strip()

    def status(self) -> dict[str, str]:
        """What the file status says: state, environment, running, queued and so on."""
        with explained(self.path), open(os.path.join(self.path, "status"), encoding="utf-8") as file:
            return dict(line.rstrip("\n").split(" ", 1) for line in file)

    def release(self) -> None:
        """Give the sandbox back. What still runs in it is killed. The second time nothing happens."""
        self._end()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    @staticmethod
    def _write_settings(path: str, base: str, cwd: str | None, env: Mapping[str, str] | None,
                        timeout: float | None, user: str | None) -> None:
        """The settings of a lease or of a draft. The variables are added to those of the lease at base."""
        with explained(path):
            if cwd:
                write(os.path.join(path, "cwd"), os.fsencode(cwd))
            if timeout is not None:
                write(os.path.join(path, "timeout"), f"{timeout:f}".encode())
            if env:
                before = b""
                if base:
                    with open(os.path.join(base, "env"), "rb", buffering=0) as file:
                        before = file.readall()
                lines = "".join(f"{key}={value}\n" for key, value in env.items())
                write(os.path.join(path, "env"), before + lines.encode("utf-8", "surrogateescape"))
            if user:
                try:
                    write(os.path.join(path, "user"), user.encode())
                except FileNotFoundError:
                    raise Error(errno.EOPNOTSUPP, "this modalpool has no setting user", path) from None


def _make(pool: str, name: str, image: str | None) -> str:
    """The directory of a new lease."""
    for last in (False, True):
        place = with_image(pool, image) if image else pool
        path = os.path.join(place, name)
        try:
            os.mkdir(path)
            return path
        except OSError as error:
            # The process that made this pool may have removed it a moment ago.
            if last or place == pool or error.errno != errno.ENOENT:
                raise Error(error.errno, _refusal(error, place, name), path) from error
    raise AssertionError


def _refusal(error: OSError, mount: str, name: str) -> str:
    """A sentence for a mkdir of a lease that failed: there is no file error yet."""
    if error.errno == errno.EAGAIN:
        return "the pool drains, or has as many leases as it may"
    if error.errno == errno.EEXIST:
        return f"there is a lease {name} already"
    if error.errno == errno.ENOENT or not os.path.exists(os.path.join(mount, ".pool")):
        return f"no modalpool is mounted at {mount}"
    return error.strerror or str(error)


_guards: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def _guard(path: str) -> subprocess.Popen[bytes]:
    """A process that outlives this one, and then removes the directory. A line says that there is nothing to do."""
    script = 'trap "" HUP INT TERM; read -r released || rmdir -- "$1"'
    guard = subprocess.Popen(["sh", "-c", script, "modalpool-guard", path], cwd="/", stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _guards.add(guard)
    return guard


def _forget_guards() -> None:
    """In a child after fork: a guard waits for the end of its parent alone."""
    for guard in _guards:
        if guard.stdin:
            guard.stdin.close()


os.register_at_fork(after_in_child=_forget_guards)


def _release(path: str, owner: int, guard: subprocess.Popen[bytes] | None) -> None:
    if os.getpid() != owner:
        return
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in GONE:
            raise
    if guard:
        guard.communicate(b"released\n")
