# SPDX-License-Identifier: MIT
"""One command in a lease: a directory jobs/NAME."""

from __future__ import annotations

import asyncio
import codecs
import dataclasses
import errno
import json
import os
import select
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

from .errors import JobError, explained

CHUNK = 1 << 17
GONE = {errno.ENOENT, errno.ESTALE, errno.ENOTCONN, errno.ECONNABORTED}  # the job, its lease, or the daemon


@dataclasses.dataclass(frozen=True)
class Result:
    """
    How a job ended.

    end is one word: ok and failed (the command has ended by itself), timeout, killed, output (it printed too much),
    cancelled (it never ran), lost (with its sandbox), unknown. exit_code is None if there is none: cancelled, lost,
    unknown. error is a sentence wherever end is neither ok nor failed. Times are seconds since 1970. truncated says
    that a limit was given and one of the streams is longer: these are its first bytes.
    """

    job: str
    end: str
    exit_code: int | None
    signal: int | None
    submitted: float
    started: float | None
    ended: float
    error: str | None
    output_bytes: bytes = dataclasses.field(repr=False)  # both streams, in the order in which they were written
    stdout_bytes: bytes = dataclasses.field(repr=False)
    stderr_bytes: bytes = dataclasses.field(repr=False)
    truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.end == "ok"

    @property
    def output(self) -> str:
        return self.output_bytes.decode("utf-8", "replace")

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode("utf-8", "replace")

    def check(self) -> Result:
        """The result itself if end is ok; else raise JobError."""
        if not self.ok:
            raise JobError(self)
        return self


class Job:
    """
    A job that was submitted. As a context manager it is removed at the end of the block, which kills it if it runs.
    It may be used from several threads: each call opens what it reads.
    """

    def __init__(self, path: str):
        self.path = path
        self.name = os.path.basename(path)

    def __repr__(self) -> str:
        return f"Job({self.path!r})"

    # The end.

    def wait(self, timeout: float | None = None, *, limit: int | None = None) -> Result:
        """
        Wait for the end, at most so many seconds: then TimeoutError, and the job goes on. Of its output at most so many
        bytes are read; all of it has at most output_max bytes, an option of the mount (1 GiB).
        """
        with explained(self.path), open(os.path.join(self.path, "result"), "rb", buffering=0) as file:
            if timeout is None or _readable(file.fileno(), timeout):
                return self._result(file.readall(), limit)
        raise TimeoutError(errno.ETIMEDOUT, f"the job has not ended after {timeout} s", self.path)

    async def wait_async(self, *, limit: int | None = None) -> Result:
        """wait() in asyncio or trio, which does without a thread. A cancelled wait leaves the job as it is."""
        with explained(self.path), open(os.path.join(self.path, "result"), "rb", buffering=0) as file:
            await _until_readable(file.fileno())
            return self._result(file.readall(), limit)

    def poll(self) -> Result | None:
        """The result, or None while there is none."""
        try:
            return self.wait(0)
        except TimeoutError:
            return None

    # Output.

    def stream(self, name: str = "output") -> Iterator[str]:
        """Text of output, stdout or stderr as it comes, to the end of the job."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with explained(self.path), open(os.path.join(self.path, name), "rb", buffering=0) as file:
            while data := file.read(CHUNK):
                if text := decoder.decode(data):
                    yield text
        if text := decoder.decode(b"", True):
            yield text

    async def stream_async(self, name: str = "output") -> AsyncIterator[str]:
        """stream() in asyncio or trio."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with explained(self.path), open(os.path.join(self.path, name), "rb", buffering=0) as file:
            while True:
                await _until_readable(file.fileno())
                data = file.read(CHUNK)
                if text := decoder.decode(data or b"", not data):
                    yield text
                if not data:
                    return

    # What is done to it.

    def kill(self) -> None:
        """Kill every process of this job, and of no other."""
        self._ctl("kill")

    def signal(self, name: str) -> None:
        """Send a signal, such as TERM, to this job."""
        self._ctl(f"signal {name}")

    def remove(self) -> None:
        """Remove the job with its output. If it runs, it is killed."""
        with explained(os.path.dirname(os.path.dirname(self.path))):
            try:
                os.rmdir(self.path)
            except OSError as error:
                if error.errno not in GONE:
                    raise

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    async def __aenter__(self) -> Job:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.remove()

    def _ctl(self, verb: str) -> None:
        with explained(self.path):
            write(os.path.join(self.path, "ctl"), verb.encode() + b"\n")

    def _result(self, text: bytes, limit: int | None) -> Result:
        """What the file result says, and the output. If one stream is empty, the other one is all of the output."""
        if not text:
            raise OSError(errno.EINVAL, "the job is a draft: no command was written to its cmd", self.path)
        facts: dict[str, Any] = json.loads(text)
        out, err = facts.pop("stdout_bytes"), facts.pop("stderr_bytes")
        known = {field.name for field in dataclasses.fields(Result)}
        output = self._bytes("output", out + err, limit)
        stdout = output if not err else self._bytes("stdout", out, limit)
        stderr = output if not out else self._bytes("stderr", err, limit)
        return Result(**{key: value for key, value in facts.items() if key in known}, output_bytes=output, stdout_bytes=stdout,
                      stderr_bytes=stderr, truncated=limit is not None and out + err > limit)

    def _bytes(self, name: str, size: int, limit: int | None) -> bytes:
        """The first bytes of a stream. It is not read to its end, which is an error where the job's end is not known."""
        left = size if limit is None else min(size, limit)
        if left == 0:
            return b""
        parts = []
        with open(os.path.join(self.path, name), "rb", buffering=0) as file:
            while left > 0 and (data := file.read(min(left, 1 << 20))):
                parts.append(data)
                left -= len(data)
        return b"".join(parts)


def write(path: str, data: bytes) -> None:
    """Write a file of the mount. Data of one write(2) is taken as a whole, or not at all."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def _readable(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, seconds) * 1000))


async def _until_readable(fd: int) -> None:
    trio = sys.modules.get("trio")
    if trio and trio.lowlevel.in_trio_run():
        await trio.lowlevel.wait_readable(fd)
        return
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
