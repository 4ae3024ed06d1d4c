# SPDX-License-Identifier: MIT
"""scripts/bench files calls this: BUILD RESULTS [quick] [ROW…]. Files below root/ beside sshfs, over the same network.

Both ends are on this machine, in two network namespaces with a link between them that takes 5 or 25 ms each way
(delay-line.c). sshfs goes over it to an sshd of this program; modalpool's local backend to its helper (far-stream.c).

Each row is done on both in turn. What it works on is made anew at the far end first, and sshfs is mounted anew, so
nothing is cached. Where sshfs would need minutes both work on a share, which the row says. A command's round trips are
its time at 50 ms less that at 10, by the 40 ms that a round trip takes longer: what processors need drops out.
"""

import contextlib
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Callable

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "cases"))

import processes  # noqa: E402
from peers import Daemon  # noqa: E402

NEAR, FAR, PORT = "10.79.0.1", "10.79.0.2", 2222
DELAYS_MS = (10, 50)
ROW_SECS = 300  # then a row has failed
SETTLE_SECS = 1.1  # what a job changed is no news any more
MIB = 1 << 20
QUIET = dict(os.environ, HOME="/nonexistent", GIT_CONFIG_NOSYSTEM="1", LC_ALL="C", GIT_CONFIG_COUNT="1",
             GIT_CONFIG_KEY_0="safe.directory", GIT_CONFIG_VALUE_0="*")


def sh(command, cwd=None):
    subprocess.run(["sh", "-ec", command], cwd=cwd, env=QUIET, check=True, stdout=subprocess.DEVNULL, timeout=ROW_SECS)


class Line:
    """Two namespaces with a delay between them."""

    def __init__(self, release, ms):
        self.process = subprocess.Popen([str(release / "tests/bench/delay-line"), str(ms * 500)], stdout=subprocess.PIPE,
                                        text=True, preexec_fn=processes.die_with_parent)
        near, far = self.process.stdout.readline().split()
        self.near, self.far = (f"/proc/{self.process.pid}/fd/{fd}" for fd in (near, far))
        for end, address, other in ((self.near, NEAR, FAR), (self.far, FAR, NEAR)):
            for words in ("link set lo up", f"addr add {address} peer {other} dev line0",
                          "link set line0 mtu 1500 txqueuelen 100000 up"):
                subprocess.run(["nsenter", f"--net={end}", "ip", *words.split()], check=True)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Ssh:
    """An sshd at the far end, and sshfs at the near one, as Debian has them."""

    def __init__(self, line, directory):
        self.line, self.directory = line, directory
        self.srv, self.root, self.mount = directory / "srv", directory / "mnt", None
        for path in (self.srv, self.root):
            path.mkdir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
        (directory / "sshd_config").write_text(
            f"Port {PORT}\nListenAddress {FAR}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\n"
            f"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n")
        (directory / "ssh_config").write_text(
            f"Host far\nHostName {FAR}\nPort {PORT}\nUser root\nIdentityFile {directory}/user\nIdentitiesOnly yes\n"
            f"StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n")
        self.made_run = not os.path.isdir("/run/sshd")  # sshd wants it, and the service makes it
        os.makedirs("/run/sshd", exist_ok=True)
        self.sshd = subprocess.Popen(["nsenter", f"--net={line.far}", "/usr/sbin/sshd", "-D", "-f", str(directory / "sshd_config")],
                                     preexec_fn=processes.die_with_parent)

    def far_do(self, command):
        sh(command, self.srv)

    def put(self, name, text):
        (self.srv / name).write_text(text)

    def cold(self):
        self.unmount()
        argv = ["nsenter", f"--net={self.line.near}", "sshfs", "-f", "-F", str(self.directory / "ssh_config"), f"far:{self.srv}",
                str(self.root)]
        until = time.monotonic() + 30
        while True:
            self.mount = subprocess.Popen(argv, stderr=subprocess.DEVNULL, preexec_fn=processes.die_with_parent)
            while self.mount.poll() is None and not self.is_mounted():
                time.sleep(0.01)
            if self.mount.poll() is None:
                return
            subprocess.run(["fusermount3", "-uz", str(self.root)], stderr=subprocess.DEVNULL, check=False)
            if time.monotonic() > until:  # sshd may have been starting
                raise RuntimeError("sshfs did not mount")
            time.sleep(0.1)

    def is_mounted(self):
        try:
            return os.stat(self.root).st_dev != os.stat(self.directory).st_dev
        except OSError:  # it was, and sshfs has ended
            return False

    def cat(self, name):
        """Seconds that ssh itself takes for a file."""
        argv = ["nsenter", f"--net={self.line.near}", "ssh", "-F", str(self.directory / "ssh_config"), "far", f"cat {self.srv}/{name}"]
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=ROW_SECS)
        return time.perf_counter() - began

    def unmount(self):
        if self.mount:
            subprocess.run(["fusermount3", "-u", str(self.root)], check=False)
            self.mount.wait()
            self.mount = None

    def stop(self):
        self.unmount()
        self.sshd.terminate()
        self.sshd.wait()
        if self.made_run:
            with contextlib.suppress(OSError):
                os.rmdir("/run/sshd")


class Modalpool:
    """A lease of the local backend, whose helper is at the far end."""

    def __init__(self, line, release):
        env = dict(os.environ, LD_PRELOAD=str(release / "tests/bench/libfar-stream.so"), BENCH_NEAR=line.near, BENCH_FAR=line.far)
        self.daemon = Daemon(lambda directory: [str(release / "fs/modalpool"), "-f", "-o",
                                                f"state={directory / 'state'},log=warning,max=1,file_timeout=120", "local"], env)
        self.lease = self.daemon.path / "t"
        try:
            self.lease.mkdir()
            self.root = self.lease / "files"
            self.far_do("true")
        except BaseException:
            self.daemon.stop()
            raise

    def far_do(self, command):
        settings = "".join(f"export {key}={shlex.quote(QUIET[key])}\n" for key in QUIET if key.startswith("GIT_"))
        (self.lease / "cmd").write_text(f"set -e\n{settings}{command}")
        if (self.lease / "exit_code").read_text().strip() != "0":
            raise RuntimeError(f"{command!r} failed in the sandbox:\n{(self.lease / 'output').read_text()}")

    def put(self, name, text):
        (self.root / name).write_text(text)

    def cold(self):
        time.sleep(SETTLE_SECS)

    def calls(self):
        return json.loads((self.daemon.path / ".pool/stats").read_text())["file_calls_total"]

    def stop(self):
        self.daemon.stop()


# What is done. Each gets the directory D of its row in the mount, the local directory with the same trees, and a count.

def command(text):
    return lambda d, here, n: sh(text.format(d=d, here=here, n=n))


def stat_each(d, here, n):
    for i in range(n):
        os.stat(d / f"f{i:05}")


def stat_absent(d, here, n):
    for i in range(100):
        if os.path.exists(d / f"absent{i}"):
            raise RuntimeError("a name is there that nobody made")


def append_lines(d, here, n):
    for _ in range(n):
        with open(d / "log", "a") as file:
            file.write("a line\n")


def save_atomically(d, here, n):
    for i in range(n):
        with open(d / ".new", "w") as file:
            file.write(f"content {i}\n")
        os.rename(d / ".new", d / "saved")


def read_each(d, here, n):
    for i in range(n):
        (d / f"f{i:05}").read_bytes()


def read_at_random(d, here, n):
    dice = random.Random(7)
    fd = os.open(d / "file", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for block in dice.sample(range(n * MIB // 4096), 200):
        if len(os.pread(fd, 4096, block * 4096)) != 4096:
            raise RuntimeError("a read was short")
    os.close(fd)


def write_files(d, n):
    d.mkdir()
    for i in range(n):
        (d / f"f{i}").write_bytes(b"x" * 4096)


def write_in(writers):
    def work(d, here, n):
        threads = [threading.Thread(target=write_files, args=(d / f"w{i}", n)) for i in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return work


@dataclass(frozen=True)
class Row:
    """@aims: modalpool's time as a part of sshfs's at 10 and 50 ms, at most; None: it is not held against sshfs."""
    make: str  # at the far end, in the directory of all; {d} is the row's directory, {n} the count, {tree} tree or share
    work: Callable
    aims: tuple[float, float] | None
    counts: tuple[int, int] = (1, 1)  # at 10 and at 50 ms
    warm: Callable | None = None  # done before, not timed
    whole: tuple[bool, bool] = (False, False)  # the whole tree at this delay, when not quick
    note: str = ""


TREE, SMALL, NEW = "cp -a {tree} {d}", "cp -a small {d}", "mkdir {d}"
BULK = "mkdir {d}; head -c {n}M /dev/urandom > {d}/file"
ROWS = {
    "find": Row(TREE, command("find {d} | wc -l"), (1 / 12, 1 / 30), whole=(True, True)),
    "ls -lR": Row(TREE, command("ls -lR {d} | wc -l"), (1 / 12, 1 / 30), whole=(True, True)),
    "grep -r": Row(TREE + "; rm -rf {d}/.git", command("grep -r nothing_has_this {d} || true"), (1 / 15, 1 / 40), whole=(True, False)),
    "git status": Row(TREE + "; git -C {d} status", command("git -C {d} status --short"), (1 / 60, 1 / 100)),
    "ls -l of a big directory": Row("cp -a big {d}", command("ls -l {d} | wc -l"), (0.5, 0.7)),
    "cp -r out": Row(SMALL, command("cp -r {d} {here}/out; rm -rf {here}/out"), (1 / 5, 1 / 10), (1000, 1000)),
    "cp -r in": Row(NEW, command("cp -r {here}/part {d}/in"), (0.4, 0.4), (200, 200), note="200 files"),
    "tar x in": Row(NEW, command("tar xf {here}/part.tar -C {d}"), (0.25, 0.25), (200, 200), note="200 files"),
    "git checkout": Row("cp -a share {d}; git -C {d} status", command("git -C {d} checkout -q other"), (0.35, 0.35),
                        note="82 of 214 files"),
    "git clone": Row(NEW, command("git clone -q --no-local {here}/share {d}/clone"), (0.35, 0.35), note="214 files"),
    "stat of each": Row(SMALL, stat_each, (1 / 20, 1 / 20), (1000, 300)),
    "100 absent names": Row(SMALL, stat_absent, (1 / 50, 1 / 50), warm=lambda d, here, n: os.listdir(d)),
    "append a line": Row(NEW, append_lines, (0.6, 0.6), (100, 30)),
    "atomic save": Row(NEW, save_atomically, (0.5, 0.5), (100, 30)),
    "open, read, close": Row(SMALL, read_each, (0.4, 0.4), (100, 50), warm=lambda d, here, n: os.listdir(d)),
    "open, read, close, again": Row(SMALL, read_each, (0.6, 0.6), (100, 50), warm=read_each),
    "sequential read": Row(BULK, command("cat {d}/file > /dev/null"), (1 / 4, 1 / 7), (256, 64)),
    "sequential write": Row(NEW, command("dd if=/dev/zero of={d}/file bs=1M count={n} conv=fsync 2>&1"), (1, 1), (256, 64)),
    "random reads": Row(BULK, read_at_random, (1, 1), (64, 64), note="200 of 4 KiB"),
    "one writer": Row(NEW, write_in(1), None, (50, 50)),
    "8 writers": Row(NEW, write_in(8), None, (50, 50)),
}
QUICK_MIB, QUICK_FILES = 32, 200
CAT_AIM = 0.7  # of the speed of ssh cat, which has the time of starting ssh in it
WRITERS_AIM = 6  # times the speed of one


def count_of(row, i, quick):
    n = row.counts[i]
    if not quick:
        return n
    return min(n, QUICK_MIB if "{n}" in row.make or row.work is ROWS["sequential write"].work else QUICK_FILES)


def seconds(system, row, name, tree, here, n):
    """One row on one system, and the calls that modalpool made for it."""
    directory = "row-" + name.replace(" ", "-").replace(",", "")
    make = row.make.format(d=directory, n=n, tree=tree)
    if row.make == SMALL and n > 1:
        make += f"; cd {directory}; ls | tail -n +{n + 1} | xargs -r rm"
    system.far_do(make)
    system.cold()
    d = system.root / directory
    os.stat(d)
    if row.warm:
        row.warm(d, here, n)
    before = system.calls() if isinstance(system, Modalpool) else 0
    began = time.perf_counter()
    row.work(d, here, n)
    took = time.perf_counter() - began
    calls = system.calls() - before if isinstance(system, Modalpool) else None
    cat = system.cat(f"{directory}/file") if name == "sequential read" and isinstance(system, Ssh) else None
    system.far_do(f"rm -rf {directory}")
    return {"s": took, "calls": calls, "cat_s": cat}


def prepare_here(here, quick):
    subprocess.run([sys.executable, str(HERE / "trees.py"), "share"], cwd=here, check=True)
    sh("mkdir part; cp small/f000* part; cp small/f001* part; tar cf part.tar part", here)


def measure(release, ms, names, quick):
    """{row: {"modalpool": …, "sshfs": …}} over one delay."""
    i = DELAYS_MS.index(ms)
    found = {}
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="modalpool-bench."))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        here = directory / "here"
        here.mkdir()
        prepare_here(here, quick)
        line = Line(release, ms)
        stack.callback(line.stop)
        ssh = Ssh(line, directory)
        stack.callback(ssh.stop)
        ours = Modalpool(line, release)
        stack.callback(ours.stop)
        for system in (ours, ssh):
            if system is ssh:
                system.cold()
            system.put("trees.py", (HERE / "trees.py").read_text())
            system.far_do("python3 trees.py" + (" share" if quick else ""))
        for name in names:
            row = ROWS[name]
            n, tree = count_of(row, i, quick), "tree" if row.whole[i] and not quick else "share"
            found[name] = {"n": n, "tree": tree if "{tree}" in row.make else None,
                           "modalpool": seconds(ours, row, name, tree, here, n)}
            if row.aims:
                found[name]["sshfs"] = seconds(ssh, row, name, tree, here, n)
            print(f"bench: files: {ms} ms: {name}: {found[name]['modalpool']['s']:.2f} s"
                  + (f", sshfs {found[name]['sshfs']['s']:.2f} s" if row.aims else ""), file=sys.stderr, flush=True)
    return found


def what(name, row, here):
    words = [row.note, {"share": "214 files", "tree": "4,121 files", None: ""}[here["tree"]]]
    if not row.note and here["n"] > 1:
        words.append(f"{here['n']}{' MiB' if 'sequential' in name else ''}")
    return name + "".join(f", {word}" for word in words if word)


def round_trips(found, name, who):
    """Of a row that did the same at both delays."""
    few, many = (found.get(f"{ms} ms", {}).get(name) for ms in DELAYS_MS)
    if not few or not many or (few["n"], few["tree"]) != (many["n"], many["tree"]) or who not in few:
        return None
    return max(0.0, (many[who]["s"] - few[who]["s"]) / ((DELAYS_MS[1] - DELAYS_MS[0]) / 1e3))


def judge(text, value, holds, bound, results):
    results.append({"name": text, "value": value, "bound": bound, "reached": holds})
    print(f"{'reached    ' if holds else 'NOT reached'}  {text}, {bound}", flush=True)


def show(found):
    results = []
    for i, ms in enumerate(DELAYS_MS):
        rows = found.get(f"{ms} ms", {})
        for name, here in rows.items():
            row, ours = ROWS[name], here["modalpool"]
            label = f"{ms} ms: {what(name, row, here)}"
            if not row.aims:
                continue
            ratio = ours["s"] / here["sshfs"]["s"]
            trips = [round_trips(found, name, who) for who in ("modalpool", "sshfs")]
            told = "" if None in trips else f" (round trips: {trips[0]:.0f}, {trips[1]:.0f})"
            judge(f"{label}: {ours['s']:.3g} s, sshfs {here['sshfs']['s']:.3g} s, ratio {ratio:.3f}, {ours['calls']} calls{told}",
                  ratio, ratio <= row.aims[i], f"at most {row.aims[i]:.3f}", results)
            if here["sshfs"]["cat_s"]:
                rate = here["sshfs"]["cat_s"] / ours["s"]
                judge(f"{label}: {rate:.2f} times the speed of ssh cat", rate, rate >= CAT_AIM, f"at least {CAT_AIM}", results)
        if "one writer" in rows and "8 writers" in rows:
            gain = 8 * rows["one writer"]["modalpool"]["s"] / rows["8 writers"]["modalpool"]["s"]
            judge(f"{ms} ms: 8 writers in 8 directories: {gain:.1f} times one", gain, gain >= WRITERS_AIM,
                  f"at least {WRITERS_AIM}", results)
    return results


def stop(signo, frame):
    sys.exit(128 + signo)


def main(build, out, *words):
    if os.geteuid() != 0 or not shutil.which("sshfs") or not os.path.exists("/usr/sbin/sshd"):
        print("bench: files needs root, and Debian's sshfs and openssh-server", file=sys.stderr)
        sys.exit(3)
    for signo in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signo, stop)
    quick = "quick" in words
    names = [word for word in words if word != "quick"] or list(ROWS)
    for name in names:
        if name not in ROWS:
            sys.exit(f"bench: {name}: no such row; there are: {', '.join(ROWS)}")
    found = {"load": os.getloadavg(), "quick": quick}
    for ms in DELAYS_MS:
        found[f"{ms} ms"] = measure(pathlib.Path(build) / "release", ms, names, quick)
    found["targets"] = show(found)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "files.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
