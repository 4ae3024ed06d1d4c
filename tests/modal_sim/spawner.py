"""The only process of the simulator that forks.

It stands apart from the gRPC server because forking a process with gRPC's
threads in it is unsafe, and because joining a user namespace is only allowed
to a process with one thread. It is small, so a fork costs half a millisecond.

It talks to the simulator over one SOCK_SEQPACKET socket. A request is a short
packet that carries file descriptors: first a memory file with the request as
JSON (so arguments of any size fit), then the descriptors the new process is
to have as 0, 1, 2, …. An answer is one JSON packet.

When the socket closes, whatever the reason (also kill -9 of the simulator), it
kills every sandbox, removes the temporary directory and leaves.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import termios
import warnings  # noqa: F401 - os.execvpe imports it, which inside a sandbox is too late

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
# The pid namespace is left out: it is chosen before the fork, because a
# process can only choose it for its children.
SANDBOX_NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
MAX_FDS = 16
PR_SET_CHILD_SUBREAPER = 36
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
TIOCSPTLCK = 0x40045431
TIOCGPTN = 0x80045430


def join(pidfd, namespaces):
    if libc.setns(pidfd, namespaces) != 0:
        code = ctypes.get_errno()
        raise OSError(code, "setns: " + os.strerror(code))


def only_loopback():
    """A network of its own for this process, which has 127.0.0.1 and nothing else."""
    if libc.unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, "unshare: " + os.strerror(code))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def open_terminal(rows, cols):
    """A terminal of the sandbox that this process has joined, as its controlling one: (master, slave)."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, bytes(4)))
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return master, slave


class Spawner:
    def __init__(self, sock, directory):
        self.sock = sock
        self.directory = directory
        self.children = {}  # pid -> key, for every child not yet reaped
        self.pids = {}      # key -> pid, the same the other way round
        self.inits = {}     # sandbox key -> pidfd of its pid 1
        self.home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def run(self):
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w)
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        poller.register(wake_r, select.POLLIN)
        try:
            while True:
                for fd, _ in poller.poll():
                    if fd == wake_r:
                        os.read(wake_r, 4096)
                        self.reap()
                    elif not self.receive():
                        return
        finally:
            # Also after a mistake of our own: better no sandbox than one nobody ends.
            self.leave()

    def answer(self, **message):
        try:
            self.sock.send(json.dumps(message).encode())
        except OSError as e:
            # The simulator is gone; the next receive() sees that and leaves.
            if e.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def receive(self):
        fds = array.array("i")
        try:
            data, control, _, _ = self.sock.recvmsg(64, socket.CMSG_SPACE(MAX_FDS * fds.itemsize),
                                                    socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return False  # it left without reading our last answers
        for level, kind, raw in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        if not data:
            return False
        try:
            with os.fdopen(os.dup(fds[0]), "rb") as f:
                f.seek(0)
                request = json.load(f)
            getattr(self, "on_" + request["op"])(request, list(fds)[1:])
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def on_start(self, request, fds):
        """Start a process outside: bubblewrap itself, or runsc."""
        self.spawn(request, fds, None)

    def on_ready(self, request, fds):
        """The sandbox is up; from now on processes can be put into it."""
        try:
            self.inits[request["key"]] = os.pidfd_open(request["init"])
        except ProcessLookupError as e:
            self.answer(key=request["key"], error="sandbox", errno=e.errno)  # it has ended already
        else:
            self.answer(key=request["key"], ready=True)

    def on_exec(self, request, fds):
        """Start a process inside a sandbox that is ready."""
        pidfd = self.inits.get(request["box"])
        if pidfd is None:
            self.answer(key=request["key"], error="sandbox", errno=errno.ESRCH)
            return
        self.spawn(request, fds, pidfd)

    def on_connect(self, request, fds):
        """Connect to a port inside a sandbox and send the socket, or the error, over the descriptor that came along."""
        pidfd = self.inits.get(request["box"])
        if pidfd is None:
            return  # the descriptor is closed, and that is the answer
        join(self.home, CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            self.connect(pidfd, request["port"], socket.socket(fileno=fds[0]))
        self.children[pid] = request["key"]
        self.pids[request["key"]] = pid

    def connect(self, pidfd, port, answer):
        try:
            join(pidfd, CLONE_NEWUSER | CLONE_NEWNET)
            with socket.create_connection(("127.0.0.1", port)) as inside:
                socket.send_fds(answer, [b"0"], [inside.fileno()])
        except OSError as e:
            answer.send(str(e.errno or errno.EIO).encode())
        finally:
            os._exit(0)

    def on_kill(self, request, fds):
        pid = self.pids.get(request["key"])
        if pid is not None:
            os.kill(pid, request["signal"])

    def on_end(self, request, fds):
        """End a sandbox: with pid 1 of its namespace everything in it dies."""
        pidfd = self.inits.pop(request["key"], None)
        if pidfd is not None:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(pidfd)
        self.on_kill({"key": request["key"], "signal": signal.SIGKILL}, [])

    def spawn(self, request, fds, pidfd):
        error_r, error_w = os.pipe2(os.O_CLOEXEC)
        try:
            # The choice stays for later forks, so it is made anew for each.
            join(self.home if pidfd is None else pidfd, CLONE_NEWPID)
            pid = os.fork()
        except OSError as e:
            os.close(error_r)
            os.close(error_w)
            self.answer(key=request["key"], error="sandbox", errno=e.errno)
            return
        if pid == 0:
            self.child(request, fds, pidfd, error_w)
        os.close(error_w)
        # Ends when the child has exec'd (the pipe closes) or says why it could not.
        failure = os.read(error_r, 256)
        os.close(error_r)
        if failure:
            os.waitpid(pid, 0)
            what, code = failure.decode().split()
            self.answer(key=request["key"], error=what, errno=int(code))
            return
        self.children[pid] = request["key"]
        self.pids[request["key"]] = pid
        self.answer(key=request["key"], pid=pid)

    def child(self, request, fds, pidfd, error_w):
        step = "start"
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            if pidfd is not None:
                step = "sandbox"
                join(pidfd, SANDBOX_NAMESPACES)
            if request.get("loopback"):
                only_loopback()
            step = "chdir"
            if request.get("cwd"):
                os.chdir(request["cwd"])
            step = "exec"
            if request.get("terminal"):
                # The one descriptor that came along is where its master goes.
                master, slave = open_terminal(*request["terminal"])
                socket.send_fds(socket.socket(fileno=fds[0]), [b"0"], [master])
                fds = [slave] * 3
            # Far above every number in use, so that the moves below cannot collide.
            high = [os.dup2(fd, 1000 + i) for i, fd in enumerate(fds)]
            error = os.dup2(error_w, 999, inheritable=False)
            for i, fd in enumerate(high):
                os.dup2(fd, i)
            os.closerange(len(high), 999)
            os.closerange(1000, 1 << 20)
            error_w = error
            os.execvpe(request["argv"][0], request["argv"], request["env"])
        except OSError as e:
            os.write(error_w, f"{step} {e.errno}".encode())
        except BaseException:
            os.write(error_w, f"{step} {errno.EINVAL}".encode())
        os._exit(127)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = self.children.pop(pid, None)
            if key is not None:
                self.pids.pop(key, None)
                self.kill_orphans()
                self.answer(key=key, status=os.waitstatus_to_exitcode(status))

    def kill_orphans(self):
        """Kills children that we did not start.

        Such a child is pid 1 of a sandbox whose bubblewrap was killed before
        its --die-with-parent took hold. It came to us because we are its
        subreaper, before its parent could be reaped.
        """
        with open(f"/proc/self/task/{os.getpid()}/children") as f:
            for pid in map(int, f.read().split()):
                if pid not in self.children:
                    os.kill(pid, signal.SIGKILL)

    def leave(self):
        for key in list(self.inits):
            self.on_end({"key": key}, [])
        # From now on every child is one too many, also one that comes later.
        self.children.clear()
        try:
            while True:
                self.kill_orphans()
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        shutil.rmtree(self.directory, ignore_errors=True)


def main():
    # Out of the terminal's process group: Ctrl-C is for the simulator, which
    # then closes the socket.
    os.setsid()
    # When bubblewrap is killed its own child comes to us to be reaped, and not
    # to whatever pid 1 this machine has.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(True)
    Spawner(sock, sys.argv[2]).run()


if __name__ == "__main__":
    main()
