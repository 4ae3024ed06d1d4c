# SPDX-License-Identifier: MIT
"""The programs that are measured, and the stand-in that serves them.

Each peer is a process that is asked for work by a line on its standard input,

    VERB N AT SIZE COMMAND          N jobs in each of AT sandboxes at once; each prints SIZE bytes

and answers with a line of JSON: the nanoseconds that each took, those of all together, and those of processor time.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import processes

START_SECS = 60
STOP_SECS = 60


def cpu_ns(pid):
    """Processor time of another process, exact, unlike that of /proc."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def keep_to(cores, pids):
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cores)


def resident(pid):
    """Bytes of memory that a process has for itself or shares with others, these in part."""
    for line in processes.read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"process {pid} is gone")


def wakeups(pid):
    """How often a process has waited for something, and gone on."""
    for line in processes.read(f"/proc/{pid}/status").splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} is gone")


class Talker:
    """A process that answers lines."""

    def __init__(self, argv, env=None, cwd=None):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=cwd, text=True,
                                        preexec_fn=processes.die_with_parent)
        self.name = os.path.basename(argv[0])
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class StandIn(Talker):
    """Modal's two services, fast; a server for each delay in milliseconds, and one where the start of an exec takes 0.2 s ("0+exec")."""

    def __init__(self, build, delays, directory):
        self.ca = str(directory / "ca.pem")
        super().__init__([str(build / "standin"), "-delays", ",".join(map(str, delays)), "-ca", self.ca])

    def env(self, delay=0):
        return dict(os.environ, MODAL_SERVER_URL=self.ready["urls"][str(delay)], MODAL_TOKEN_ID="ak-bench",
                    MODAL_TOKEN_SECRET="as-bench", MODAL_CONFIG_PATH=os.devnull, SSL_CERT_FILE=self.ca,
                    GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=self.ca, NODE_EXTRA_CA_CERTS=self.ca, NODE_NO_WARNINGS="1")

    def counters(self):
        """(calls by method, processor time)"""
        said = self.say("")
        return said["calls"], said["cpu_ns"]

    def open_streams(self):
        """Streams of output that somebody reads now."""
        return self.say("")["open"].get("TaskExecStdioRead", 0)


class Peer(Talker):
    """A program that uses Modal by itself."""

    def __init__(self, argv, env):
        began = time.perf_counter_ns()
        super().__init__(argv, env)
        self.start_ns = time.perf_counter_ns() - began  # to the first result
        self.pid = self.process.pid

    def ask(self, verb, n=1, at=1, size=0, command="-"):
        return self.say(f"{verb} {n} {at} {size} {command}")


class Daemon:
    """A file system on a mountpoint of its own."""

    def __init__(self, command, env=None):
        """@command gets the directory, and gives an argument vector; the mountpoint is appended."""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="modalpool-bench."))
        self.path = self.directory / "mnt"
        self.path.mkdir()
        self.process = None
        try:
            self.start(command(self.directory), env)
        except BaseException:
            self.stop()
            raise

    def start(self, argv, env):
        self.process = subprocess.Popen([*argv, str(self.path)], env=env, stdin=subprocess.DEVNULL,
                                        preexec_fn=processes.die_with_parent)
        outside = os.stat(self.directory).st_dev
        deadline = time.monotonic() + START_SECS
        while os.stat(self.path).st_dev == outside:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} did not mount")
            time.sleep(0.002)
        self.pid = self.process.pid

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECS)
            except subprocess.TimeoutExpired:
                print(f"bench: {self.process.args[0]} did not end in {STOP_SECS} s, and is killed", file=sys.stderr)
                self.process.kill()
                self.process.wait()
            if self.process.returncode != 0:
                print(f"bench: {self.process.args[0]} ended with {self.process.returncode}", file=sys.stderr)
        # Also a dead mount, which stat does not see.
        if f" {self.path} " in processes.read("/proc/self/mounts"):
            subprocess.run(["fusermount3", "-uz", str(self.path)], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


class Mount:
    """modalpool, and a user of it; to be asked like any peer. Its processor time is that of both."""

    def __init__(self, release, env, **options):
        began = time.perf_counter_ns()

        def command(directory):
            fixed = {"state": directory / "state", "log": "warning", "helper": "yes"}
            words = ",".join(f"{k}={v}" for k, v in {**fixed, **options}.items())
            return [str(release / "fs/modalpool"), "-f", "-o", words, "modal"]
        self.daemon = Daemon(command, env)
        self.path = self.daemon.path
        self.pid = self.daemon.pid
        try:
            self.user = Talker([str(release / "tests/bench/bench-mount"), str(self.path)])
            self.ask("jobs", command="true")
        except BaseException:
            self.daemon.stop()
            raise
        self.pids = (self.pid, self.user.process.pid)
        self.start_ns = time.perf_counter_ns() - began

    def ask(self, verb, n=1, at=1, size=0, command="-"):
        before = cpu_ns(self.pid)
        said = self.user.say(f"{verb} {n} {at} {size} {command}")
        said["daemon_ns"] = cpu_ns(self.pid) - before
        said["cpu_ns"] += said["daemon_ns"]
        return said

    def stop(self):
        self.user.stop()
        self.daemon.stop()


class Workshop:
    """Makes peers, and ends all that it made."""

    def __init__(self, build):
        self.build = pathlib.Path(build)
        self.release = self.build / "release"
        self.here = pathlib.Path(__file__).parent
        self.made = []
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="modalpool-bench."))
        self.standin = self.keep(StandIn(self.build, (0, 10, 50, "0+exec"), self.directory))

    def keep(self, one):
        self.made.append(one)
        return one

    def drop(self, *ones):
        for one in ones:
            self.made.remove(one)
            one.stop()

    def argv(self, name):
        python = [str(self.build / "venv/bin/python"), str(self.here / "sdk.py")]
        return {
            "floor": [str(self.release / "tests/bench/bench-floor")],
            "go": [str(self.build / "sdk-go")],
            "js": ["node", str(self.build / "js/sdk.mjs")],
            "python": python,
            "python, asyncio": [*python, "--async"],
        }[name]

    def peer(self, name, delay=0, env=None, **options):
        """One of them; "modalpool" takes the options of the mount."""
        env = env or self.standin.env(delay)
        if name == "modalpool":
            return self.keep(Mount(self.release, env, **{"max": 8, **options}))
        return self.keep(Peer(self.argv(name), env))

    def empty(self):
        """The yardstick for mkdir."""
        daemon = self.keep(Daemon(lambda _: [str(self.release / "tests/bench/bench-empty")]))
        user = self.keep(Peer([str(self.release / "tests/bench/bench-mount"), str(daemon.path)], None))
        user.pids = (daemon.pid, user.pid)
        return user

    def stop(self):
        while self.made:
            self.made.pop().stop()
        shutil.rmtree(self.directory, ignore_errors=True)
