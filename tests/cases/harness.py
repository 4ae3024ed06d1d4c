# SPDX-License-Identifier: MIT
"""A modalpool under test: a daemon on a mount of its own, driven as users drive it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import processes

FAULTS = "create:0.1+clean:0.1+change:0.05+idle:0.1+delay:0.3"

# 5 % of every kind of fault that nobody may notice. What is silent is noticed by its deadline: it is rarer.
MODAL_FAULTS = [
    {"kind": "latency", "rate": 0.05, "ms": [1, 50]},
    {"kind": "status", "rate": 0.05, "code": "UNAVAILABLE"},
    {"kind": "status", "rate": 0.05, "code": "UNAVAILABLE", "when": "after"},
    {"kind": "status", "rate": 0.05, "code": "INTERNAL", "when": "after"},
    {"kind": "status", "rate": 0.05, "code": "UNAVAILABLE", "method": "TaskExecStdioRead", "bytes": 1},
    {"kind": "throttle", "rate": 0.05, "retry_after_secs": 0.1},
    {"kind": "not_yet", "rate": 0.05, "method": "SandboxGetTaskId"},
    {"kind": "reset", "rate": 0.05},
    {"kind": "reset", "rate": 0.05, "when": "after"},
    {"kind": "goaway", "rate": 0.05},
    {"kind": "goaway", "rate": 0.05, "when": "after"},
    {"kind": "no_trailers", "rate": 0.05},
    {"kind": "garble", "rate": 0.05},
    {"kind": "twice", "rate": 0.05, "method": "*Create*"},
    {"kind": "twice", "rate": 0.05, "method": "TaskExecStart"},
    {"kind": "cut", "rate": 0.05, "method": "TaskExecStdioRead", "bytes": 3, "how": "reset"},
    {"kind": "cut", "rate": 0.05, "method": "TaskExecStdioRead", "bytes": 3, "how": "rst_stream"},
    {"kind": "cut", "rate": 0.05, "method": "TaskExecStdioRead", "bytes": 3, "how": "no_trailers"},
]
TRANSIENT = ["injected by the simulator", "the connection to Modal broke"]  # in the last words of a start that gave up
# Held to start a daemon: a file that another thread closes meanwhile would stay open in the new process for a moment.
forking = threading.Lock()
BAD_LINES = re.compile(r"[Aa]ssert|Sanitizer|runtime error|^==\d+==|corrupt|smash|double free|did not end in time"
                       r"|not ended:|Segmentation")


def silent_faults(methods):
    """Calls that are never answered; and for each of these methods, once, a connection that goes silent, with all its calls."""
    return [{"kind": "hang", "rate": 0.05}, {"kind": "hang", "rate": 0.05, "when": "after"},
            *({"kind": "stall", "count": 1, "method": method} for method in methods)]


def mounted(path):
    """Whether a file system is mounted there, alive or dead, without touching it."""
    wanted = str(path).replace(" ", "\\040")
    return any(line.split()[1] == wanted for line in processes.read("/proc/self/mounts").splitlines())


def option_words(options):
    """{"max": 2, "env": ["A=1", "B=2"]} as mount options, commas and backslashes kept."""
    words = []
    for key, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool):
                one = "yes" if one else "no"
            words.append(f"{key}={one}".replace("\\", "\\\\").replace(",", "\\,"))
    return ",".join(words)


def may_pass(settings, log):
    """Whether a start failed by the faults that Modal's simulator injects."""
    return bool(settings.faults and settings.simulator and any(words in log.rpartition("modalpool: ")[2] for words in TRANSIENT))


class Lease:
    """A lease's directory."""

    def __init__(self, mount, name):
        self.mount = mount
        self.name = name
        self.path = mount.path / name

    def __truediv__(self, name):
        return self.path / name

    def submit(self, command):
        """What `printf %s COMMAND > cmd` does."""
        data = command if isinstance(command, bytes) else command.encode()
        with open(self.path / "cmd", "wb", buffering=0) as cmd:
            while data:
                data = data[cmd.write(data):]

    def read(self, name="output"):
        return (self.path / name).read_text("utf-8", "surrogateescape")

    def write(self, name, text):
        with open(self.path / name, "wb", buffering=0) as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    def run(self, command):
        """Run a command: (output, exit code)."""
        self.submit(command)
        result = self.read("output"), int(self.read("exit_code"))
        self.mount.jobs += 1
        return result

    def status(self, name="status"):
        return dict(line.split(" ", 1) for line in self.read(name).splitlines())

    def until_running(self, number=None):
        """Wait until a job runs: the newest, or that of a number."""
        wanted = str(number) if number else self.status()["newest"]
        self.mount.until(lambda: self.status()["running"] == wanted
                         and self.status(f"jobs/{wanted}/status")["state"] == "running")

    def release(self):
        self.path.rmdir()


class Mount:
    """One daemon and its mount."""

    def __init__(self, settings, directory, options, environment=None, start=True):
        self.settings = settings
        self.directory = pathlib.Path(directory)
        self.path = self.directory / "mnt"
        self.state = self.directory / "state"
        self.path.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self.options = {"state": self.state, "log": "debug", **settings.options, **options}
        self.environment = {**os.environ, **settings.environment, **(environment or {})}
        self.lines = []
        self.heard = threading.Condition()  # one more of them
        self.expected = []
        self.device = None
        self.process = None
        self.crashed = False  # and was not started again
        self.elsewhere = False  # it is not the session's simulator that serves this mount
        self.jobs = 0  # at least so many ran here
        if start:
            self.start()

    def command(self, *flags):
        return [*self.settings.wrapper, self.settings.program, *flags, "-o", option_words(self.options),
                self.settings.provider, str(self.path)]

    def start(self):
        """
        Start in the foreground, and wait until it is mounted, or ends. The daemon gives up after four tries of a call, as
        Modal's own clients do. If the faults that are injected cause that, start it again.
        """
        self.crashed = False
        while not self.try_to_start():
            if not may_pass(self.settings, self.log()):
                raise RuntimeError("not mounted:\n" + self.log())
            self.lines.clear()
        self.device = os.stat(self.path).st_dev

    def try_to_start(self):
        def listen(stream, silent):
            for line in stream:
                with self.heard:
                    self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self.heard.notify_all()
            with self.heard:
                silent.set()
                self.heard.notify_all()

        # Of this daemon alone: the listener of the one before may end later.
        self.silent, before = threading.Event(), len(self.lines)
        with forking:
            self.process = subprocess.Popen(self.command("-f"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                            env=self.environment, preexec_fn=processes.die_with_parent)
        self.listener = threading.Thread(target=listen, args=(self.process.stderr, self.silent), daemon=True)
        self.listener.start()
        if self.hears("mounted at", before):
            return True
        self.status = self.process.wait()
        self.process = None
        return False

    @property
    def pid(self):
        return self.process.pid

    def hears(self, words, since=0):
        """Wait until the log has a line with these words. False when it ends without one."""
        def said():
            return any(words in line for line in self.lines[since:])
        with self.heard:
            self.heard.wait_for(lambda: said() or self.silent.is_set())
            return said()

    def log(self):
        return "\n".join(self.lines)

    # the tree

    def __truediv__(self, name):
        return self.path / name

    def lease(self, name="t1"):
        (self.path / name).mkdir()
        return Lease(self, name)

    def ctl(self, line):
        with open(self.path / ".pool/ctl", "wb", buffering=0) as file:
            file.write(line.encode() + b"\n")

    def stats(self):
        return json.loads((self.path / ".pool/stats").read_text())

    def environments(self):
        return self.stats()["environments"]

    def until(self, true, pool=None):
        """Wait for a state of the pool, the mount's or that in a directory: check it after each event, without sleeping."""
        fd = os.open((pool or self.path) / ".pool/events", os.O_RDONLY)
        try:
            while not true():
                os.read(fd, 1 << 17)
        finally:
            os.close(fd)

    def until_settled(self):
        """Wait until no environment is being created, cleaned or ended."""
        self.until(lambda: all(self.environments()[s] == 0 for s in ("creating", "cleaning", "ending")))

    def sandboxes(self):
        """All environments of this mount that live, oldest first: local ones by process, others by their id."""
        if not self.settings.simulator:
            return sorted(processes.children(self.pid))
        live = self.settings.simulator.stats()["sandboxes"]["live"]
        return sorted(live, key=lambda one: live[one]["created_at"])

    def murder(self, sandboxes, signo=signal.SIGKILL):
        """Kill these environments from outside."""
        if self.settings.simulator:
            for one in sandboxes:
                self.settings.simulator.kill_sandbox(one)
        else:
            processes.kill(sandboxes, signo)

    def alive(self, word, seconds=1):
        """Programs of a name that still run in the environments, after so long."""
        if not self.settings.gvisor:
            return processes.alive(self.settings.simulator.pid if self.settings.simulator else self.pid, word, seconds)
        deadline = time.monotonic() + seconds
        while True:  # the machine's /proc does not show them
            found = [text.strip() for _, state, text in self.settings.simulator.processes()
                     if os.path.basename(text.split()[0]) == word and state[0] != "Z" and text.strip() != "sleep 86400"]
            if not found or time.monotonic() > deadline:
                return found

    def sh(self, script, shell="bash", check=True, **more):
        """Run a script as a user would, in the directory of the mount. The result has stdout and stderr as text."""
        argv = script if isinstance(script, list) else [shell, "-c", script]
        done = subprocess.run(argv, cwd=self.path, stdin=subprocess.DEVNULL, capture_output=True,
                              encoding="utf-8", errors="surrogateescape", **more)
        if check:
            assert done.returncode == 0, f"{argv} ended with {done.returncode}: {done.stderr}"
        return done

    # the end

    def stop(self, signo=signal.SIGTERM):
        """End it as an administrator would, and check that nothing is left of it."""
        if self.crashed:
            self.end_what_crashed()
        if self.process is None:
            return
        self.ask_who_served()
        pids = processes.descendants(self.pid)
        if signo and self.process.poll() is None:
            self.process.send_signal(signo)
        status = self.process.wait()
        self.process = None
        self.listener.join()
        problems = []
        if status != 0:
            problems.append(f"the daemon ended with {status}")
        if mounted(self.path):
            problems.append("the mount is still there")
        left = processes.gone(pids, 5)
        problems += [f"process {pid} is still there: {processes.name(pid)}" for pid in left]
        problems += [f"in the state directory: {path}" for path in sorted(self.state.rglob("*"))]
        problems += [f"in the mountpoint: {path}" for path in sorted(self.path.iterdir())]
        problems += [f"log: {line}" for line in self.lines
                     if BAD_LINES.search(line) and not any(re.search(e, line) for e in self.expected)]
        assert not problems, "\n".join(problems) + "\n" + self.log()

    def ask_who_served(self):
        """Check that the mount used the backend that is tested."""
        try:
            backend = self.stats()["backend"]
        except OSError:
            return  # it has ended already, or is not mounted any more
        assert backend == self.settings.provider

    def crash(self, survives=False):
        """kill -9: nothing is cleared up. Local environments end too, unless they survive."""
        pids = {} if survives else processes.descendants(self.pid)
        self.process.kill()
        self.process.wait()
        self.process = None
        self.listener.join()  # what it said last is not taken for what the next one says
        self.crashed = True
        assert processes.gone(pids, 5) == []

    def reap(self, *flags):
        """modalpool reap, as it would be called for this mount."""
        command = [*self.settings.wrapper, self.settings.program, "reap", *flags, "-o", option_words(self.options),
                   self.settings.provider, str(self.path)]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, stdin=subprocess.DEVNULL)

    def end_what_crashed(self):
        """It crashed and was not started again: end everything with reap."""
        done = self.reap()
        left = list(self.state.rglob("*"))
        assert done.returncode == 0 and not left and not mounted(self.path), (done, left, self.log())
        self.crashed = False

    def abort(self):
        """Unblock everything that waits in the kernel for this daemon."""
        if self.device is not None:
            try:
                with open(f"/sys/fs/fuse/connections/{os.minor(self.device)}/abort", "w") as file:
                    file.write("1")
            except OSError:
                pass  # fusectl is not mounted; the daemon's end does the same
        if self.process:
            processes.kill([self.pid])

    def demolish(self):
        """After a failure: leave nothing, whatever it takes."""
        if self.process:
            pids = list(processes.descendants(self.pid))
            self.abort()
            self.process.wait()
            self.process = None
            processes.kill(pids)
        while mounted(self.path):
            if subprocess.run(["umount", "-l", self.path], capture_output=True).returncode != 0 and \
                    subprocess.run(["fusermount3", "-uz", self.path], capture_output=True).returncode != 0:
                break


def seconds(call):
    """How long a call takes, and what it returns."""
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result
