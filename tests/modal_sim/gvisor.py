"""Sandboxes made by runsc: gVisor, the kernel under Modal's sandboxes.

Each is a container that `runsc run` keeps in the foreground: with it, or with
its kernel, everything inside ends. Each exec is a `runsc exec` that lasts as
long as its process. `scripts/setup --gvisor` builds runsc. It has to be run by root.
"""

import asyncio
import errno
import functools
import itertools
import json
import os
import shutil
import socket
import subprocess

from . import reader, root, settings
from .launcher import LaunchError

SETUP = os.path.join(os.path.dirname(__file__), "../../scripts/setup")
STARTS_MAX = 8           # runsc takes 20 ms of a processor to start something
SOCKET_PATH_MAX = 107    # with a longer one runsc puts its socket elsewhere, and leaves it there
NAME = "box"             # of the container, of which each has a directory of its own
RUNSC_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
CAPABILITIES = ["CAP_" + name for name in (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")]
NO_WORKDIR = "failed to find initial working directory"
NO_PROGRAM = ("error finding executable", "failed to load")

numbers = itertools.count(1)
starts = asyncio.Semaphore(STARTS_MAX)


@functools.cache
def runsc():
    """The program; RuntimeError says why there is none."""
    if os.geteuid() != 0:
        raise RuntimeError("--sandbox=gvisor has to be run by root")
    done = subprocess.run([SETUP, "--gvisor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["scripts/setup --gvisor failed"])[-1])
    return done.stdout.strip()


def process_spec(argv, env, cwd, terminal=False):
    return {"args": argv, "env": [f"{name}={value}" for name, value in env.items()], "cwd": cwd, "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")}}


def bind(inside, outside, read_only):
    return {"destination": inside, "type": "bind", "source": outside, "options": ["rbind", "ro" if read_only else "rw"]}


def memory_file(content):
    fd = os.memfd_create("runsc", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


class GVisor:
    """What a sandbox's processes run in."""

    def __init__(self, sandbox):
        self.sandbox = sandbox
        self.launcher = sandbox.world.launcher
        # The kind of sandbox that it is allows only a short path.
        self.directory = os.path.join(sandbox.world.directory, f"g{next(numbers)}")
        self.calls = itertools.count(1)

    def runsc(self, command, *arguments):
        size = settings.current.disk_bytes
        return [runsc(), "--root", self.directory, "--network=sandbox", "--ignore-cgroups", "--gofer-network-namespace=new",
                f"--overlay2=root:memory,size={size}", command, *arguments]

    async def start(self, argv):
        """Starts the entrypoint. The process with which everything inside ends; None if it ended before it was ready."""
        archive = self.sandbox.image.archive
        self.make_bundle(root.entrypoint(argv, archive, root.INIT_SCRIPT))
        pid_r, pid_w = os.pipe2(os.O_CLOEXEC)
        ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
        theirs = [ready_w, pid_w]
        arguments = ["--bundle", self.directory, "--pid-file=/proc/self/fd/4", "--pass-fd=3:3"]
        try:
            async with starts:
                try:
                    if archive:
                        theirs.append(self.sandbox.image.open())
                        arguments.append("--pass-fd=5:5")
                    await self.sandbox.main.start(
                        self.launcher, "start", theirs, argv=self.runsc("run", *arguments, NAME), env=RUNSC_ENV, loopback=True)
                finally:
                    for fd in theirs:
                        os.close(fd)
                # runsc holds the pipes open as long as it lives, so their end is not waited for.
                pid = await reader.some(pid_r)
                return int(pid) if pid and await reader.some(ready_r) else None
        finally:
            os.close(pid_r)
            os.close(ready_r)

    def make_bundle(self, argv):
        """The container's directory, for runsc: config.json, and the root that lies under its own writes."""
        sandbox = self.sandbox
        if len(f"{self.directory}/runsc-{NAME}.sock") > SOCKET_PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), self.directory)
        os.mkdir(self.directory, 0o700)
        mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}, bind("/usr", "/usr", True)]
        inside = os.path.join(self.directory, "rootfs")
        os.makedirs(inside + "/etc")
        for name in root.SYSTEM_LINKS:
            if os.path.islink("/" + name):
                os.symlink(os.readlink("/" + name), f"{inside}/{name}")
            elif os.path.isdir("/" + name):
                mounts.append(bind("/" + name, "/" + name, True))
        for path in root.SYSTEM_FILES:
            if os.path.isdir(path):
                mounts.append(bind(path, path, True))
            elif os.path.exists(path):
                shutil.copy(path, inside + path)
        if settings.current.fs_tools:
            os.makedirs(inside + os.path.dirname(root.FS_TOOLS_PATH))
            shutil.copy(root.FS_TOOLS, inside + root.FS_TOOLS_PATH)
        for path, mode in root.DIRECTORIES:
            os.makedirs(inside + path)
            os.chmod(inside + path, mode)
        if root.own_workdir(sandbox.workdir):
            os.makedirs(inside + sandbox.workdir, exist_ok=True)
        mounts += [bind(mount_path, outside, read_only) for mount_path, outside, read_only in sandbox.volumes]
        for mount in mounts:
            os.makedirs(inside + mount["destination"], exist_ok=True)
        config = {"ociVersion": "1.0.0", "process": process_spec(argv, sandbox.env, sandbox.workdir),
                  "root": {"path": "rootfs"}, "hostname": "modal", "mounts": mounts,
                  "linux": {"namespaces": [*({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                                           {"type": "network", "path": "/proc/self/ns/net"}]}}
        with open(os.path.join(self.directory, "config.json"), "w") as f:
            json.dump(config, f)

    def clear(self):
        """Nothing of it runs any more."""
        shutil.rmtree(self.directory, ignore_errors=True)

    async def exec(self, process, *, argv, env, cwd, stdin=None, terminal=None):
        """Starts a process; `terminal` is its (rows, columns). LaunchError says why it could not."""
        ended = asyncio.get_running_loop().create_future()
        started_r, started_w = os.pipe2(os.O_CLOEXEC)
        # What runsc itself says is not to be mixed with what its process says.
        said = memory_file(b"")
        spec = memory_file(json.dumps(process_spec(argv, env, cwd, bool(terminal))).encode())
        arguments = ["--process=/proc/self/fd/3", "--internal-pid-file=/proc/self/fd/4", "--pass-fd=5:2", NAME]
        try:
            async with starts:
                try:
                    with process.streams(stdin, terminal) as (in_fd, out_fd, err_fd):
                        await self.launcher.launch("start", process.key, [in_fd, out_fd, said, spec, started_w, err_fd],
                                                   ended.set_result, argv=self.runsc("exec", *arguments), env=RUNSC_ENV)
                finally:
                    os.close(started_w)
                    os.close(spec)
                pid = await reader.some(started_r)
            if not pid:
                await ended
                raise refusal(os.pread(said, 4096, 0).decode(errors="replace"))
        finally:
            os.close(started_r)
            os.close(said)
        process.kill = lambda number: asyncio.ensure_future(self.call("kill", "--pid", pid.decode(), NAME, str(number)))
        ended.add_done_callback(lambda done: process.exited(done.result()))

    async def call(self, *arguments):
        """Runs runsc to its end, and returns its status."""
        ended = asyncio.get_running_loop().create_future()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            async with starts:
                await self.launcher.launch("start", f"{self.directory}-{next(self.calls)}", [null] * 3, ended.set_result,
                                           argv=self.runsc(*arguments), env=RUNSC_ENV)
                return await ended
        finally:
            os.close(null)

    async def connect(self, port):
        """A socket that is connected to a port inside; OSError says why there is none."""
        path = os.path.join(self.directory, f"port{next(self.calls)}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.setblocking(False)
            listener.bind(path)
            listener.listen(1)
            try:
                if await self.call("port-forward", "--stream", path, NAME, str(port)):
                    raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                connection, _ = listener.accept()
            finally:
                os.unlink(path)
        connection.setblocking(False)
        return connection


def refusal(text):
    """The error in what runsc says when it could not start a process."""
    numbers_of = {os.strerror(number).lower(): number for number in errno.errorcode}
    number = numbers_of.get(text.strip().rpartition(": ")[2], errno.ENOENT)
    if NO_WORKDIR in text:
        return LaunchError("chdir", number)
    if any(sign in text for sign in NO_PROGRAM):
        return LaunchError("exec", number)
    return LaunchError("sandbox", errno.ESRCH)
