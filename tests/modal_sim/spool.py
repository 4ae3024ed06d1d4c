"""One output stream of one process: bytes on disk, any number of readers.

The bytes go from the pipe to the file inside the kernel (splice), so a
gigabyte of output costs the simulator no memory and little time.
"""

import asyncio
import errno
import fcntl
import os

SPLICE_BYTES = 1 << 20
SPLICES_PER_TURN = 4   # then the loop gets to serve others
PIPE_BYTES = 1 << 20   # the largest a pipe may be asked to become
F_SETPIPE_SZ = 1031


class Spool:
    def __init__(self, path, limit):
        self.path = path
        self.limit = limit   # at this size the pipe is no longer read and the writer waits
        self.size = 0
        self.ended = False   # no byte will be added to `size`
        self._pipe = None
        self._file = None
        self._move = self._move_pipe
        self._changed = asyncio.Event()

    def follow_terminal(self, master):
        """Fills from the master of a terminal, which becomes ours."""
        os.set_blocking(master, False)
        self._pipe, self._move = master, self._move_terminal
        asyncio.get_running_loop().add_reader(master, self._fill)

    def pipe(self):
        """Makes the pipe, starts filling from it, and returns its end for the writer."""
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        try:
            fcntl.fcntl(self._pipe, F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # smaller pipes only mean more turns of the loop
        asyncio.get_running_loop().add_reader(self._pipe, self._fill)
        return theirs

    def finish(self):
        """The process is gone: take what the pipe still holds and end the stream.

        A child that the process left behind may go on writing; that is thrown
        away, but its pipe stays open, so that it is not killed by SIGPIPE.
        """
        while self._pipe is not None and not self.ended and self._fill_once():
            pass
        self._end()

    def close(self):
        """Ends the stream and lets go of the pipe and of the file."""
        self._end()
        self._drop_pipe()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    async def read(self, offset, chunk, stop):
        """Yields the bytes from `offset` on, as they arrive, until the stream ends.

        `stop()` is asked before each wait and each piece; it ends the reading
        by raising what the reader is to see.
        """
        file = None
        try:
            while True:
                stop()
                if offset < self.size:
                    if file is None:
                        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                    data = os.pread(file, min(chunk, self.size - offset), offset)
                    offset += len(data)
                    yield data
                elif self.ended:
                    return
                else:
                    await self._changed.wait()
        finally:
            if file is not None:
                os.close(file)

    def head(self, most=4096):
        """The first bytes, as text."""
        if not self.size:
            return ""
        with open(self.path, "rb") as f:
            return f.read(most).decode(errors="replace")

    def wake(self):
        """Lets every reader look at its stop() again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _fill(self):
        if self.ended:
            self._discard()
            return
        for _ in range(SPLICES_PER_TURN):
            if not self._fill_once():
                break
        self.wake()

    def _fill_once(self):
        """Moves one portion; False when there is nothing more to move now."""
        if self.size >= self.limit:
            asyncio.get_running_loop().remove_reader(self._pipe)
            return False
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            moved = self._move(min(SPLICE_BYTES, self.limit - self.size))
        except BlockingIOError:
            return False
        if moved == 0:
            self._drop_pipe()
            self._end()
            return False
        self.size += moved
        return True

    def _move_pipe(self, most):
        return os.splice(self._pipe, self._file, most, offset_dst=self.size)

    def _move_terminal(self, most):
        return os.pwrite(self._file, self._read(most), self.size)

    def _read(self, most):
        try:
            return os.read(self._pipe, most)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            return b""  # of a terminal: nobody holds it open any more

    def _discard(self):
        try:
            if self._read(65536):
                return
        except BlockingIOError:
            return
        self._drop_pipe()

    def _end(self):
        self.ended = True
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self.wake()

    def _drop_pipe(self):
        if self._pipe is not None:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = None
