# SPDX-License-Identifier: MIT
"""A sandbox by bubblewrap with a helper in it."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

KINDS = ["debian", "busybox", "shell"]
APPLETS = "sh echo cat sleep setsid env ps kill stty id ls mkdir head yes seq true wc".split()
ETC = ["passwd", "group", "alternatives", "ld.so.cache"]


def _libraries(program):
    found = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return re.findall(r"(?:=> )?(/\S+) \(0x", found)


def _debian():
    arguments = ["--ro-bind", "/usr", "/usr", "--perms", "0755", "--dir", "/etc"]
    for link in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]:
        if os.path.islink("/" + link):
            arguments += ["--symlink", "usr/" + link, "/" + link]
        elif os.path.exists("/" + link):
            arguments += ["--ro-bind", "/" + link, "/" + link]
    for name in ETC:
        arguments += ["--ro-bind-try", "/etc/" + name, "/etc/" + name]
    return arguments


def _busybox(applets):
    busybox = shutil.which("busybox")
    arguments = ["--dir", "/bin"]
    for library in _libraries(busybox):
        arguments += ["--ro-bind", library, library]
    if len(applets) == 1:
        return arguments + ["--ro-bind", busybox, "/bin/" + applets[0]]
    arguments += ["--ro-bind", busybox, "/bin/busybox"]
    for applet in applets:
        arguments += ["--symlink", "busybox", "/bin/" + applet]
    return arguments


class Box:
    """The helper is the first process of the sandbox, or a daemon in it."""

    def __init__(self, program, directory, kind="debian", daemonise=False, environment=(), sanitized=False, below=(), more=()):
        self.program = program
        self.key = os.urandom(16)
        self.run = pathlib.Path(directory) / "run"
        self.run.mkdir(parents=True)
        self.socket = str(self.run / "socket")
        self.attach = [program, "attach", self.socket]
        root = {"debian": _debian, "busybox": lambda: _busybox(APPLETS), "shell": lambda: _busybox(["sh"])}[kind]()
        arguments = ["bwrap", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--cap-add", "ALL", *below, *root,
                     "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp", "--perms", "0711", "--dir",
                     "/run",
                     "--bind", str(self.run), "/run/modalpool", "--ro-bind", program, "/run/helper", *more, "--clearenv",
                     "--setenv", "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        for library in _libraries(program):
            if kind != "debian":
                arguments += ["--ro-bind", library, library]
        for options in ["ASAN_OPTIONS", "UBSAN_OPTIONS"] if sanitized else []:
            arguments += ["--setenv", options, "halt_on_error=1:print_stacktrace=1:log_path=/run/modalpool/sanitizer"]
        for name, value in environment:
            arguments += ["--setenv", name, value]
        serve = ["/run/helper", "serve"] + ([] if daemonise else ["-f"]) + ["/run/modalpool/socket"]
        if daemonise:
            serve = ["/bin/sh", "-c", "exec 7< /run; " + " ".join(serve) + "; echo served; trap '' 1 2 3 10 13 14 15; exec sleep 1000"]
        else:
            arguments.append("--as-pid-1")
        self.process = subprocess.Popen(arguments + serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.process.stdin.write(self.key)
            self.process.stdin.close()
            if daemonise:
                self.said = self.process.stdout.readline()
            else:
                self._wait_until_it_listens()
        except OSError:
            self.end()
            raise
        os.chmod(self.run, 0o711)

    def open_carrier(self):
        return subprocess.Popen(self.attach, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def _wait_until_it_listens(self):
        deadline = time.monotonic() + 60
        while True:
            with socket.socket(socket.AF_UNIX) as s:
                try:
                    s.connect(self.socket)
                    return
                except OSError:
                    if time.monotonic() > deadline or self.process.poll() is not None:
                        raise
            time.sleep(0.01)

    def processes(self):
        """{pid: (parent, command line)} of the sandbox, as this machine numbers them."""
        everything = {}
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            # A process lives as long as one of its threads. Its first thread may have ended: then that one looks like a
            # zombie without a command line.
            try:
                threads = os.listdir(path / "task")
            except OSError:
                continue
            for thread in threads:
                try:
                    stat = (path / "task" / thread / "stat").read_text()
                    line = (path / "task" / thread / "cmdline").read_bytes()
                except OSError:
                    continue
                after = stat.rpartition(")")[2].split()
                if after[0] != "Z":
                    everything[int(path.name)] = (int(after[1]), stat.partition("(")[2].rpartition(")")[0], line)
                    break
        found, more = {self.process.pid}, True
        while more:
            new = {pid for pid, (parent, *_) in everything.items() if parent in found} - found
            found |= new
            more = bool(new)
        return {pid: everything[pid] for pid in found if pid in everything}

    def helper(self):
        """The process of the helper itself."""
        found = [pid for pid, (_, name, line) in sorted(self.processes().items())
                 if name == "helper" and line.startswith(b"/run/helper\0serve")]
        return found[0]

    def until_gone(self, mark, seconds=10):
        """No process has the mark in its command line."""
        deadline = time.monotonic() + seconds
        while True:
            left = [line for _, _, line in self.processes().values() if mark.encode() in line]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.005)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        found = [path.read_text() for path in self.run.glob("sanitizer*")]
        assert not found, found[0]
