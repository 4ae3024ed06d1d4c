# SPDX-License-Identifier: MIT
"""`serve -c`: the helper as a daemon on the same machine starts it, in a sandbox and without one."""

import contextlib
import errno
import os
import pathlib
import select
import socket
import subprocess
import time

import pytest

import box as box_module
import wire

PROGRAM = os.environ["HELPER"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Stream:
    """One end of a carrier, as a process that is `attach` would be."""

    def __init__(self, end):
        self.stdin, self.stdout = end.makefile("wb", buffering=0), end.makefile("rb", buffering=0)
        self.end = end

    def kill(self):
        self.end.close()
        self.stdin.close()
        self.stdout.close()

    def wait(self, seconds):
        self.kill()


class Controlled:
    """A helper with a control socket, the first process of a sandbox or, with a root, an ordinary process."""

    def __init__(self, directory, root=None, shell="", next_daemon=None):
        self.key = os.urandom(16)
        self.root = root
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        serve = ["serve", "-c", "-s", shell] + (["-o", str(next_daemon)] if next_daemon else []) + (["-r", str(root), str(root / "run")] if root else ["/run/modalpool"])
        before = [PROGRAM] if root else [
            "bwrap", "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--as-pid-1",
            *box_module._debian(), "--proc", "/proc", "--dev", "/dev", "--dir", "/run", "--tmpfs", "/tmp", "--ro-bind",
            PROGRAM, "/run/helper", "/run/helper"]
        self.process = subprocess.Popen(before + serve, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env={"PATH": PATH}, start_new_session=True)
        theirs.close()
        self.control = ours
        ours.settimeout(60)
        ours.send(self.key)
        self.hello = ours.recv(2)

    def open_carrier(self):
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [b"\0"], [theirs.fileno()])
        return Stream(ours)

    processes = box_module.Box.processes
    until_gone = box_module.Box.until_gone

    def end(self):
        self.control.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()


@pytest.fixture
def controlled(tmp_path):
    made = []

    def make(plain=False, **more):
        root = tmp_path / str(len(made)) if plain else None
        made.append(Controlled(tmp_path, root, **more))
        return made[-1]

    yield make
    for box in made:
        box.end()


@pytest.fixture(params=[False, True], ids=["sandbox", "plain"])
def box(request, controlled):
    return controlled(request.param)


def test_carriers_come_over_it(box, make_daemon):
    daemon = make_daemon(box)
    assert box.hello == b"\0"
    job = daemon.start("echo on; cat; exit 3", live=True)
    daemon.run(lambda: job.out)
    for piece in (b"one ", b"two "):
        daemon.attach()
        daemon.feed(job, piece)
        daemon.run(lambda: job.out.endswith(piece))
    daemon.feed(job, b"", end=True)
    daemon.wait(job)
    assert job.code == (wire.EXIT, 3) and job.out == b"on\none two "


def test_no_carrier_without_the_key(box, make_daemon):
    other = make_daemon(box, attach=False)
    other.key = bytes(16)
    other.attach()
    assert other.carrier.gone and not other.carrier.welcome
    assert make_daemon(box).do("echo on").out == b"on\n"


def test_a_job_has_none_of_its_descriptors(box, make_daemon):
    daemon = make_daemon(box)
    assert daemon.do("cd /proc/self/fd; for fd in *; do test -e $fd && echo $fd; done").out == b"0\n1\n2\n"
    for pid in box.processes():
        assert box.key not in b"".join(pathlib.Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


HIDDEN = ["sleep 1234 & sleep 1234", "setsid sleep 1234 & (setsid sleep 1234 &); sleep 1234", "env -i setsid sleep 1234 & sleep 1234",
          "sleep 1234 & kill -STOP $!; sleep 1234", "trap '' TERM HUP; sleep 1234 & wait"]


@pytest.mark.parametrize("command", HIDDEN)
def test_a_kill_reaches_all(box, make_daemon, command):
    daemon = make_daemon(box)
    job = daemon.start("echo up; " + command)
    daemon.run(lambda: job.out)
    daemon.kill(job)
    daemon.wait(job)
    assert job.code == (wire.SIGNAL, 9) and box.until_gone("1234", 1) == []


def watch(box):
    """Descriptors of all its processes, which tell of their ends whoever is their parent."""
    watched = []
    for pid in box.processes():
        with contextlib.suppress(ProcessLookupError):  # it was about to end
            watched.append(os.pidfd_open(pid))
    return watched


def all_end(watched, seconds=10):
    deadline = time.monotonic() + seconds
    ended = []
    for fd in watched:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        ended.append(bool(poll.poll(max(0, deadline - time.monotonic()) * 1000)))
        os.close(fd)
    return all(ended)


def test_everything_ends_with_the_daemon(box, make_daemon):
    daemon = make_daemon(box)
    jobs = [daemon.start("echo up; " + command) for command in HIDDEN]
    daemon.run(lambda: all(job.out for job in jobs))
    # One goes on in the background of a job that has ended, and was forgotten.
    assert daemon.do("(env -i setsid sleep 1234 > /dev/null 2>&1 &)").code == (wire.EXIT, 0)
    watched = watch(box)
    assert len(watched) >= 10
    box.control.close()
    assert box.process.wait(30) == 0 and all_end(watched)
    assert not box.root or not box.root.exists()


def test_everything_of_a_killed_helper_ends(controlled, make_daemon):
    """Without a namespace: the reapers see it."""
    box = controlled(plain=True)
    daemon = make_daemon(box)
    jobs = [daemon.start("echo up; " + command) for command in HIDDEN]
    daemon.run(lambda: all(job.out for job in jobs))
    watched = watch(box)
    box.process.kill()
    assert all_end(watched)


CARRIER, WAIT, END = b"\0", b"\1", b"\2"
FOR_EVER = b"\xff" * 8


def microseconds(n):
    return n.to_bytes(8, "little")


@pytest.fixture
def listening(tmp_path):
    """Where the next daemon listens; it does so once it is asked for."""
    path = tmp_path / "next"
    made = []

    def listen():
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path.unlink(missing_ok=True)
        server.bind(str(path))
        server.listen()
        server.settimeout(30)
        made.append(server)
        return server

    listen.path = path
    yield listen
    for server in made:
        server.close()


def test_the_next_daemon(controlled, make_daemon, listening):
    """The helper waits for it, brings it the key, and goes on with its jobs; as often as need be."""
    box = controlled(plain=True, next_daemon=listening.path)
    daemon = make_daemon(box)
    job = daemon.start("echo up; for i in $(seq 20); do echo $i; sleep 0.1; done; exit 3")
    daemon.run(lambda: job.out)
    box.control.send(WAIT + FOR_EVER)
    for _ in range(3):
        box.control.close()
        server = listening()
        for again in True, False:  # one that goes before it says anything is none
            box.control, _ = server.accept()
            box.control.settimeout(30)
            assert box.control.recv(100) == box.key
            if again:
                box.control.close()
        box.control.send(WAIT + microseconds(30_000_000))
        server.close()
        daemon.attach()
    daemon.wait(job)
    assert job.code == (wire.EXIT, 3) and job.out.split() == [b"up"] + [b"%d" % i for i in range(1, 21)]
    box.control.send(END)


@pytest.mark.parametrize("comes", [False, True])
def test_no_next_daemon(controlled, make_daemon, listening, comes):
    """When the time is over, everything ends; also if somebody listens who does not say WAIT."""
    box = controlled(plain=True, next_daemon=listening.path)
    daemon = make_daemon(box)
    job = daemon.start("echo up; setsid sleep 1234")
    daemon.run(lambda: job.out)
    watched = watch(box)
    if comes:
        listening()
    box.control.send(WAIT + microseconds(700_000))
    began = time.monotonic()
    box.control.close()
    assert all_end(watched) and time.monotonic() - began > 0.6
    assert not box.root.exists()


@pytest.mark.parametrize("packets", [[END], [WAIT + FOR_EVER, END], [WAIT + FOR_EVER, WAIT + microseconds(0), None], [None],
                                     [b"\7", b"\1short", None]])
def test_the_end_at_once(controlled, make_daemon, listening, packets):
    """Told to, or because nobody said WAIT."""
    box = controlled(plain=True, next_daemon=listening.path)
    daemon = make_daemon(box)
    job = daemon.start("echo up; setsid sleep 1234")
    daemon.run(lambda: job.out)
    watched = watch(box)
    for packet in packets:
        if packet is None:
            box.control.close()
        else:
            box.control.send(packet)
    assert all_end(watched)


def test_it_touches_its_own_alone(controlled, make_daemon):
    """Without a namespace a process beside it, of the same name and mark, lives on."""
    beside = subprocess.Popen(["sleep", "1234"], env={"MODALPOOL_JOB": "1"}, start_new_session=True)
    try:
        box = controlled(plain=True)
        daemon = make_daemon(box)
        job = daemon.start("echo up; sleep 1234", env=["MODALPOOL_JOB=1"])
        daemon.run(lambda: job.out)
        daemon.kill(job)
        daemon.wait(job)
        box.end()
        assert beside.poll() is None
    finally:
        beside.kill()
        beside.wait()


def test_root(controlled, make_daemon):
    """The root holds the workdir and what is below it; every other path is the machine's."""
    box = controlled(plain=True)
    daemon = make_daemon(box)
    root = str(box.root)
    where = lambda cwd: daemon.do("pwd", workdir="/srv/w", cwd=cwd)
    assert daemon.do("mkdir sub; pwd", workdir="/srv/w", fresh=True).out.decode() == f"{root}/srv/w\n"
    for cwd, path in (("/srv/w", root + "/srv/w"), ("/srv/w/sub", root + "/srv/w/sub"), ("sub", root + "/srv/w/sub"),
                      ("", root + "/srv/w"), ("/usr", "/usr")):
        assert where(cwd).out.decode() == path + "\n"
    for cwd, path in (("/srv/w/gone", root + "/srv/w/gone"), ("/srv/w2", "/srv/w2")):
        job = where(cwd)
        assert job.code[0] == wire.CWD and job.text.decode() == f"cwd: {path} is not a directory there"
    assert list(pathlib.Path(root + "/srv/w").iterdir()) == [pathlib.Path(root + "/srv/w/sub")]


def test_no_shell(controlled):
    box = controlled(plain=True, shell="nosuchshell")
    assert box.hello == b"" and box.process.wait(30) == 1
    assert box.process.stderr.read() == b"option shell: there is no program nosuchshell\n"
    assert controlled(plain=True, shell="bash").hello == b"\0"


def test_clean_of_a_root(controlled, make_daemon):
    """All lies in the root. What the helper did not start is none of its business, whatever the daemon says."""
    box = controlled(plain=True)
    daemon = make_daemon(box)
    (box.root / "tmp").mkdir()
    other = subprocess.Popen(["sleep", "1000"])
    try:
        daemon.do("echo x > f; echo x > ../../tmp/f; setsid sleep 86405.125 & exit 0", workdir="/srv/w", fresh=True)
        assert daemon.clean("/srv/w", "/tmp", flags=wire.CLEAN_SANDBOX) == (0, b"")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert box.until_gone("86405.125", 0) == []
    assert not (box.root / "srv/w").exists() and list((box.root / "tmp").iterdir()) == []


def test_clean_of_a_sandbox(controlled, make_daemon):
    """Of processes that do not know root's rights outside."""
    daemon = make_daemon(controlled())
    daemon.do("mkdir a; chmod 0 a; echo x > /tmp/f; setsid sleep 86405.125 & exit 0", workdir="/tmp/w", fresh=True)
    assert daemon.clean("/tmp/w", "/tmp") == (0, b"")
    assert daemon.box.until_gone("86405.125", 0) == []
    assert daemon.do("ls -A /tmp", workdir="/").out == b""


def test_reset_of_a_sandbox(controlled, make_daemon):
    daemon = make_daemon(controlled())
    daemon.do("mkdir /app; echo x > /app/f", workdir="/tmp/w")
    key = daemon.request(wire.NOTE, "", "/tmp")
    daemon.run(lambda: key in daemon.answers)
    assert daemon.answers[key][0] == 0
    flags = wire.CLEAN_SANDBOX | wire.CLEAN_COMPARE
    daemon.do("echo x > /app/g; echo x > /dev/shm/f; chmod 700 /tmp; rm -rf /tmp/w", workdir="/tmp/w")
    assert daemon.clean("/tmp/w", "/tmp", flags=flags) == (0, b"")
    assert daemon.do("ls /app /dev/shm; stat -c %a /tmp", workdir="/").out == b"/app:\nf\n\n/dev/shm:\n755\n"
    daemon.do("echo y > /app/f", workdir="/tmp/w")
    assert daemon.clean("/tmp/w", "/tmp", flags=flags) == (errno.ESTALE, b"/app/f\0")
