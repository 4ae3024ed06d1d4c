"""One process of a sandbox: an exec, or the sandbox's own entrypoint."""

import asyncio
import contextlib
import fcntl
import os
import pty
import socket
import struct
import termios

from . import settings
from .spool import Spool


class OffsetGap(Exception):
    """Bytes were offered that do not continue what has been accepted."""


class StdinClosed(Exception):
    """Bytes were offered after end-of-file, or to a process that is gone."""


class Stdin:
    """The write end of a process's standard input, addressed by offset.

    `accepted` counts the bytes taken so far. A repeat of bytes already taken
    is dropped, so a writer whose answer was lost may send the same again.
    """

    PENDING_MAX = 4 << 20  # bytes taken but not yet in the pipe

    END_OF_INPUT = b"\x04"  # what a terminal makes an end of

    def __init__(self):
        self.accepted = 0
        self._terminal = False
        self.closed = False
        self._pending = bytearray()
        self._room = asyncio.Event()
        self._room.set()
        self._fd = None
        self._broken = False

    def pipe(self):
        theirs, self._fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        return theirs

    def follow_terminal(self, master):
        """Goes to the master of a terminal, which becomes ours: its end is a character."""
        os.set_blocking(master, False)
        self._terminal, self._fd = True, master
        self._flush()

    async def write(self, offset, data, eof):
        if offset > self.accepted:
            raise OffsetGap(f"stdin offset {offset} is past the {self.accepted} bytes accepted so far")
        fresh = data[self.accepted - offset:]
        if fresh:
            if self.closed:
                raise StdinClosed("stdin is closed")
            if self._broken:
                raise StdinClosed("the process no longer reads its stdin")
            self.accepted += len(fresh)
            self._pending += fresh
        if eof and not self.closed:
            self.closed = True
            if self._terminal:
                self._pending += self.END_OF_INPUT
        self._flush()
        await self._room.wait()

    def end(self):
        """The process is gone."""
        self._broken = True
        self._pending.clear()
        self._release()

    def _flush(self):
        loop = asyncio.get_running_loop()
        while self._pending and self._fd is not None:
            try:
                del self._pending[:os.write(self._fd, self._pending[:1 << 16])]
            except BlockingIOError:
                loop.add_writer(self._fd, self._flush)
                break
            except OSError:  # a broken pipe, or a terminal that nobody holds open
                self.end()
                return
        if len(self._pending) <= self.PENDING_MAX:
            self._room.set()
        else:
            self._room.clear()
        if not self._pending:
            if self.closed and not self._terminal:
                self._release()
            elif self._fd is not None:
                loop.remove_writer(self._fd)

    def _release(self):
        self._room.set()
        if self._fd is not None:
            asyncio.get_running_loop().remove_writer(self._fd)
            os.close(self._fd)
            self._fd = None


class Process:
    """A process with its three streams. Its end is known once: `code` or `signal`."""

    def __init__(self, key, directory, *, keep_stdout=True, keep_stderr=True):
        self.key = key
        limit = settings.current.spool_max
        self.stdout = Spool(os.path.join(directory, key + ".out"), limit) if keep_stdout else None
        self.stderr = Spool(os.path.join(directory, key + ".err"), limit) if keep_stderr else None
        self.stdin = Stdin()
        self.code = None
        self.signal = None
        self.timed_out = False
        self.kill = None     # sends it a signal; who starts it knows how
        self.ended = asyncio.Event()
        self._timer = None

    async def start(self, launcher, op, extra_fds=(), stdin=None, **request):
        """`extra_fds` become its 3, 4, …; `stdin` is a descriptor to read instead of what is written here."""
        with self.streams(stdin) as fds:
            await launcher.launch(op, self.key, [*fds, *extra_fds], self.exited, **request)

    @contextlib.contextmanager
    def streams(self, stdin=None, terminal=None):
        """The three descriptors for the process, which are closed in the end; `terminal`: those of one of this machine."""
        if terminal:
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *terminal, 0, 0))
            self._follow_terminal(master)
            fds = [slave, os.dup(slave), os.dup(slave)]
        else:
            fds = [self.stdin.pipe() if stdin is None else os.dup(stdin)]
            for spool in (self.stdout, self.stderr):
                fds.append(spool.pipe() if spool else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        try:
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    async def start_on_terminal(self, launcher, rows, cols, **request):
        """Likewise, with a terminal of the sandbox as all three streams; what it shows comes on stdout."""
        attached, early = False, []

        def exited(status):
            # A quick one ends before its terminal is ours to read.
            self.exited(status) if attached else early.append(status)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                await launcher.launch("exec", self.key, [theirs.fileno()], exited, terminal=[rows, cols], **request)
            self._follow_terminal(await launcher.receive_fd(ours))
        attached = True
        for status in early:
            self.exited(status)

    def _follow_terminal(self, master):
        self.stdin.follow_terminal(os.dup(master))
        if self.stdout:
            self.stdout.follow_terminal(master)
        else:
            os.close(master)
        if self.stderr:
            self.stderr.finish()

    def limit_time(self, seconds):
        def expire():
            self.timed_out = True
            self.kill(9)
        self._timer = asyncio.get_running_loop().call_later(seconds, expire)

    def fail(self, code, message):
        """The process could not be started at all: it ends with a code and a line on stderr."""
        if self.stderr:
            with open(self.stderr.path, "wb") as f:
                f.write(message.encode() + b"\n")
            self.stderr.size = os.path.getsize(self.stderr.path)
        self._settle(code)

    def close(self):
        """The sandbox is gone, and with it the output."""
        if self._timer:
            self._timer.cancel()
        for spool in (self.stdout, self.stderr):
            if spool:
                spool.close()
        self.stdin.end()

    def exited(self, status):
        # Modal does not say that it was the timeout; the client has to keep
        # its own clock. 137 is what users report.
        self._settle(137 if self.timed_out else status)

    def _settle(self, status):
        if self._timer:
            self._timer.cancel()
        for spool in (self.stdout, self.stderr):
            if spool and settings.current.stdio_end == "exit":
                spool.finish()
        self.stdin.end()
        if status < 0:
            self.signal = -status
        else:
            self.code = status
        self.ended.set()
