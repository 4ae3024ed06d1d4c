"""The simulator's side of the spawner: see spawner.py for the conversation."""

import asyncio
import collections
import errno
import json
import os
import socket
import subprocess
import sys


class LaunchError(Exception):
    def __init__(self, step, code):
        super().__init__(f"{step}: {os.strerror(code)}")
        self.step = step
        self.errno = code


class Launcher:
    """Starts and ends processes; `on_exit(key, status)` callbacks come from the loop."""

    def __init__(self, directory, lost):
        self.directory = directory
        self._lost = lost    # called when the spawner is gone although nobody sent it away
        self._starting = {}  # key -> future of the pid
        self._exits = {}     # key -> callback(status)
        self._outbox = collections.deque()
        self._connects = 0

    async def start(self):
        self._loop = asyncio.get_running_loop()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.path.join(os.path.dirname(__file__), "spawner.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", path, str(theirs.fileno()), self.directory],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._receive)

    async def stop(self):
        """Ends every process and removes the directory; returns when that is done."""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        await self._loop.run_in_executor(None, self._process.wait)

    async def launch(self, op, key, fds, on_exit, **request):
        """Starts a process with `fds` as its 0, 1, 2, …; they stay the caller's to close."""
        started = self._loop.create_future()
        self._starting[key] = started
        self._exits[key] = on_exit
        self._send(dict(request, op=op, key=key), fds)
        try:
            return await started
        except LaunchError:
            self._exits.pop(key, None)
            raise

    async def ready(self, key, init):
        done = self._loop.create_future()
        self._starting[key] = done
        self._send({"op": "ready", "key": key, "init": init}, [])
        await done

    async def connect(self, box, port):
        """A socket that is connected to a port of 127.0.0.1 inside a sandbox."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._connects += 1
            self._send({"op": "connect", "key": f"connect-{self._connects}", "box": box, "port": port}, [theirs.fileno()])
            theirs.close()
            inside = socket.socket(fileno=await self.receive_fd(ours))
        inside.setblocking(False)
        return inside

    async def receive_fd(self, sock):
        """The descriptor that comes over a socket; OSError when it is an error's number, or nothing."""
        sock.setblocking(False)
        readable = self._loop.create_future()
        self._loop.add_reader(sock, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            self._loop.remove_reader(sock)
        data, fds, _, _ = socket.recv_fds(sock, 64, 1)
        if not fds:
            raise OSError(int(data or errno.ECONNREFUSED), "no descriptor came")
        return fds[0]

    def kill(self, key, number):
        self._send({"op": "kill", "key": key, "signal": int(number)}, [])

    def end(self, key):
        self._send({"op": "end", "key": key}, [])

    def _send(self, request, fds):
        memory = os.memfd_create("request", os.MFD_CLOEXEC)
        with os.fdopen(memory, "wb") as f:
            f.write(json.dumps(request).encode())
            f.flush()
            # The caller closes its descriptors at once, so a packet that has
            # to wait needs its own.
            self._outbox.append([os.dup(fd) for fd in [memory, *fds]])
        self._flush()

    def _flush(self):
        while self._outbox:
            fds = self._outbox[0]
            try:
                socket.send_fds(self._sock, [b"request"], fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                pass  # the spawner is gone, and _receive says so
            self._outbox.popleft()
            for fd in fds:
                os.close(fd)
        self._loop.remove_writer(self._sock)

    def _receive(self):
        while True:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self._loop.remove_reader(self._sock)
                for future in self._starting.values():
                    future.cancel()
                self._lost()
                return
            self._answer(json.loads(data))

    def _answer(self, message):
        key = message["key"]
        if "status" in message:
            on_exit = self._exits.pop(key, None)
            if on_exit:
                on_exit(message["status"])
            return
        future = self._starting.pop(key, None)
        if future is None or future.done():
            if "error" in message and (on_exit := self._exits.pop(key, None)):
                on_exit(127)  # nobody waits for the start any more, but somebody may wait for the end
            return
        if "error" in message:
            future.set_exception(LaunchError(message["error"], message["errno"]))
        else:
            future.set_result(message.get("pid"))
