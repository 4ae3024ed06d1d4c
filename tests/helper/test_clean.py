# SPDX-License-Identifier: MIT
"""
A clean-up ends and removes what jobs have left, or says what is left.

What there is in the sandbox is seen from outside, below /proc/PID/root.
"""

import ctypes
import errno
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import wire
from daemon import Gone
from test_kill import THIS, WAYS, left, prepare, until_there

CLEAN = (0, b"")
WORKDIR = "/lease/it"
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 17, 0x4206, 0x40


def root(box):
    return pathlib.Path(f"/proc/{box.helper()}/root")


def do(daemon, command, **more):
    """A command that has to succeed."""
    job = daemon.do(command, **{"workdir": WORKDIR, **more})
    assert job.code == (wire.EXIT, 0), (bytes(job.out), bytes(job.err), job.text)
    return job


def test_nothing_is_left(anywhere):
    """Whatever the sandbox is."""
    assert do(anywhere, "mkdir -p a/b 2>/dev/null; echo x > f; echo y > /tmp/.g; echo z > /tmp/..h").code
    assert anywhere.clean(WORKDIR) == CLEAN
    there = root(anywhere.box)
    assert not (there / "lease/it").exists() and list((there / "tmp").iterdir()) == []
    assert anywhere.clean(WORKDIR) == CLEAN  # with nothing to do
    assert anywhere.clean("") == CLEAN
    assert do(anywhere, "echo *").out == b"*\n"


@pytest.mark.parametrize("way", WAYS)
def test_processes(box, daemon, way):
    """Of a job that is over, or not."""
    job = daemon.start("echo up; " + prepare(way, THIS), workdir=WORKDIR)
    daemon.run(lambda: job.out)
    if way != "forks all the time":  # then this look at them is too slow as well
        until_there(box, THIS)
    assert daemon.clean(WORKDIR) == CLEAN
    assert left(box, THIS) == []
    daemon.run(lambda: job.end)
    assert len(box.processes()) <= 2  # the helper, and bwrap outside
    daemon.forget(job)
    assert do(daemon, "echo on").out == b"on\n"


def test_processes_of_forgotten_jobs(box, daemon):
    for _ in range(40):
        do(daemon, f"setsid sleep {THIS} > /dev/null 2>&1 & setsid sleep {THIS} & exit 0")
    until_there(box, THIS)
    assert daemon.clean(WORKDIR) == CLEAN
    assert left(box, THIS) == []


def until_ended(nsenter):
    """nsenter stops itself when it sees that its child was stopped, as it is for a moment before KILL."""
    deadline = time.monotonic() + 60
    while nsenter.poll() is None:
        assert time.monotonic() < deadline
        nsenter.send_signal(signal.SIGCONT)
        time.sleep(0.01)


@pytest.mark.parametrize("flags", [0, wire.CLEAN_SANDBOX])
def test_processes_of_others(make_box, make_daemon, flags):
    """What is older than the helper stays. What is younger and not below it goes if the sandbox is the helper's."""
    box = make_box(daemonise=True)
    daemon = make_daemon(box)
    inside = [pid for pid, (_, name, line) in box.processes().items() if line.startswith(b"sleep\x001000")]
    assert len(inside) == 1
    other = subprocess.Popen(["nsenter", "-t", str(inside[0]), "-p", "-m", "sleep", THIS])
    attach = subprocess.Popen(["nsenter", "-t", str(inside[0]), "-p", "-m", "/run/helper", "attach", "/run/modalpool/socket"],
                              stdin=subprocess.PIPE)
    try:
        wait_for_child(other, b"sleep\0")
        wait_for_child(attach, b"/run/helper\0")
        assert daemon.clean(WORKDIR, flags=flags) == CLEAN
        if flags:
            until_ended(other)
            assert other.returncode != 0
        assert other.poll() is None or flags
        assert attach.poll() is None
        assert os.path.exists(f"/proc/{inside[0]}")
    finally:
        for process in [other, attach]:
            process.kill()
            process.wait()
        attach.stdin.close()


def wait_for_child(process, command):
    """nsenter has a child in the sandbox."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(command):
                return
        time.sleep(0.01)
    raise AssertionError("it does not start")


def test_a_large_tree_holds_up_nothing(box, daemon):
    """100,000 entries, and deeper than any path may be long."""
    do(daemon, "python3 -c '\nimport os\nfor d in range(100):\n os.makedirs(f\"t/{d}/x\")\n"
               " for i in range(1000): open(f\"t/{d}/x/{i}\", \"w\")\n'")
    do(daemon, "python3 -c '\nimport os\nfor d in range(3000): os.mkdir(\"deep\"), os.chdir(\"deep\")\n'")
    key = daemon.request(wire.CLEAN, WORKDIR, "/tmp", flags=wire.CLEAN_SANDBOX)
    while key not in daemon.answers:
        number = len(daemon.replies) + 1
        daemon.send("REQUEST", request=number)
        daemon.run(lambda: (number, 0) in daemon.replies)
    assert daemon.answers[key] == CLEAN
    assert len(daemon.replies) > 10, "no answer came meanwhile"
    assert not (root(box) / "lease/it").exists()


def test_links_that_lead_out(box, daemon):
    do(daemon, "mkdir -p /keep/d; echo x > /keep/f; echo x > /keep/d/g; ln -s /keep d; ln -s /keep/f f; ln /keep/f h; "
               "ln -s /keep /tmp/d; ln -s ../.. up; ln -s / root; ln -s . self; mkdir m; ln -s / m/r")
    assert daemon.clean(WORKDIR) == CLEAN
    assert sorted(path.name for path in (root(box) / "keep").rglob("*")) == ["d", "f", "g"]


def test_links_in_place_of_directories(box, daemon):
    """A link on the way is not followed if a job may have made it; one in place of what is to be emptied goes."""
    do(daemon, "mkdir -p /keep/it; echo x > /keep/it/f; cd /; rm -r /lease/it; ln -s /keep/it /lease/it")
    assert daemon.clean(WORKDIR) == CLEAN
    assert not (root(box) / "lease/it").is_symlink() and (root(box) / "keep/it/f").exists()
    do(daemon, "cd /; rmdir /lease/it; rmdir /lease; ln -s /keep /lease", workdir="/tmp")
    error, text = daemon.clean(WORKDIR)
    assert error == errno.ENOTDIR and text.startswith(b"removing /lease/it: ")
    assert (root(box) / "keep/it/f").exists()


def test_directories_that_are_gone(box, daemon):
    do(daemon, "mkdir -p /t; cd /; rm -rf /lease", workdir="/lease/it")
    assert daemon.clean(WORKDIR, "/t", "/none") == CLEAN
    do(daemon, "rmdir /t; echo file > /t")
    assert daemon.clean(WORKDIR, "/t", "/tmp") == CLEAN
    assert (root(box) / "t").is_dir() and (root(box) / "t").stat().st_mode & 0o7777 == 0o1777
    assert not (root(box) / "none").exists()


def test_modes(box, daemon):
    do(daemon, "mkdir -p a/b/c; echo x > a/b/c/f; chmod 0 a/b/c a/b a; chmod 0 /tmp; chmod 0 .")
    assert daemon.clean(WORKDIR) == CLEAN
    assert not (root(box) / "lease/it").exists()


@pytest.fixture
def small(make_box, make_daemon, tmp_path):
    """With a small disk at /small that was there before the helper."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
    try:
        yield make_daemon(make_box(more=["--bind", str(disk), "/small"]))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_full_disk(small):
    """By what is emptied: then it is full no more. By what stays: that is said."""
    fill = "head -c 2000000 /dev/zero > {} 2>/dev/null; test $(stat -c %s {}) -gt 900000"
    do(small, "mkdir -p /small/tmp /small/w; " + fill.replace("{}", "/small/tmp/f"))
    assert small.clean("/small/w", "/small/tmp") == CLEAN
    do(small, fill.replace("{}", "/small/f"))
    error, text = small.clean("/small/w", "/small/tmp")
    assert error == errno.ENOSPC and text.startswith(b"writing a file in /small/tmp: ")
    do(small, "rm /small/f")
    assert small.clean("/small/w", "/small/tmp") == CLEAN
    do(small, fill.replace("{}", "/small/f"))
    assert small.clean("/small/w", "/small") == CLEAN  # what is mounted is emptied where it is named itself


def test_mounts_of_the_sandbox_stay(small):
    """A volume below what is removed or emptied is not entered."""
    box = small.box
    do(small, "mkdir -p /small/d; echo x > /small/d/f; echo y > /small/f")
    assert small.clean("/small") == CLEAN
    assert small.clean("/lease", "/tmp", "/small/d/..x") == CLEAN
    assert sorted(path.name for path in (root(box) / "small").rglob("*")) == ["d", "f", "f"]


def test_mounts_of_jobs_go(box, daemon):
    do(daemon, "mkdir -p m n /keep /tmp/t; echo x > /keep/f; mount -t tmpfs none m; mkdir m/o; mount -t tmpfs none m/o; "
               "mount --bind /keep n; mount --bind /keep /tmp/t; mount --bind /keep/f /etc/passwd; "
               "mkdir '/sp ace'; mount -t tmpfs none '/sp ace'; mount -t tmpfs none /lease")
    assert daemon.clean(WORKDIR) == CLEAN
    there = root(box)
    assert (there / "keep/f").read_text() == "x\n" and (there / "etc/passwd").read_text() != "x\n"
    mounted = {line.split()[4] for line in (there / "proc/1/mountinfo").read_text().splitlines()}
    assert not [at for at in mounted if at.startswith(("/lease", "/keep", "/sp", "/tmp/"))]
    assert not (there / "lease/it").exists()


def test_mounts_of_others(box, daemon):
    """Where the sandbox is not the helper's, they stay, and are not entered."""
    do(daemon, "mkdir -p m /keep; echo x > /keep/f; mount --bind /keep m")
    error, text = daemon.clean(WORKDIR, flags=0)
    assert error == errno.EBUSY and text.startswith(b"something is mounted at /lease/it/m: ")
    assert daemon.clean("", flags=0) == CLEAN and daemon.clean("/lease/i", flags=0) == CLEAN  # others are no concern
    assert (root(box) / "keep/f").exists()
    assert daemon.clean(WORKDIR) == CLEAN
    assert (root(box) / "keep/f").exists()


def test_shared_memory(daemon):
    """What outlives its processes; with as many bytes as there are marks."""
    do(daemon, "ipcmk -M 4321 -S 3 -Q; ipcmk -M 54321")
    assert daemon.do("ipcs -m | grep -c 4321; ipcs -s | grep -c 0x; ipcs -q | grep -c 0x").out == b"2\n1\n1\n"
    assert daemon.clean(WORKDIR) == CLEAN
    assert daemon.do("ipcs | grep -c 0x").out == b"0\n"


def test_a_mount_that_is_gone(small):
    do(small, "umount /small")
    error, text = small.clean(WORKDIR)
    assert error == errno.ENOENT and text.startswith(b"what is mounted at /small: ")


@pytest.mark.parametrize("flag", ["i", "a"])
def test_undeletable(make_box, make_daemon, tmp_path, flag):
    """A file that even root may not delete."""
    (tmp_path / "disk").mkdir()
    probe = tmp_path / "disk/probe"
    probe.touch()
    if subprocess.run(["chattr", "+" + flag, probe], capture_output=True).returncode != 0:
        pytest.skip("its disk knows no such files")
    subprocess.run(["chattr", "-" + flag, probe], check=True)
    daemon = make_daemon(make_box(more=["--bind", str(tmp_path / "disk"), "/small"]))
    file = tmp_path / "disk/w/a/f"
    try:
        do(daemon, f"mkdir -p a; echo x > a/f; chattr +{flag} a/f", workdir="/small/w")
        assert daemon.clean("/small/w") == (errno.EPERM, b"removing /small/w/a/f: Operation not permitted")
        assert file.exists()
    finally:
        subprocess.run(["chattr", "-" + flag, file], check=True)
    assert daemon.clean("/small/w") == CLEAN


def test_a_long_command_of_a_killed_reaper(box, daemon):
    """Its script stays, as nobody is left to remove it."""
    job = daemon.start("kill -9 $PPID; echo up; sleep 1000; : '" + "x" * 200_000 + "'", workdir=WORKDIR)
    daemon.run(lambda: job.out)
    assert list(box.run.glob("job-*"))
    assert daemon.clean(WORKDIR) == CLEAN
    assert list(box.run.glob("job-*")) == []


def test_paths_in_another_form(box, daemon):
    do(daemon, "echo x > f; echo x > /tmp/f; mkdir -p /p /tm; echo x > /p/f; echo x > /tm/f")
    assert daemon.clean("//lease/./it/", "/./tmp//", "/p/") == CLEAN
    there = root(box)
    assert not (there / "lease/it").exists() and list((there / "tmp").iterdir()) == [] == list((there / "p").iterdir())
    assert (there / "tm/f").exists()


def test_the_helpers_own_files_stay(box, daemon):
    assert daemon.clean("/run", "/run/modalpool", "/tmp") == CLEAN
    assert (box.run / "socket").exists() and (root(box) / "run/helper").exists()
    assert do(daemon, "echo on").out == b"on\n"


def test_asked_again(box, daemon):
    """Over every carrier; it is done once, and answered to the last."""
    do(daemon, "for i in $(seq 2000); do : > $i; done")
    key = daemon.request(wire.CLEAN, WORKDIR, "/tmp", flags=wire.CLEAN_SANDBOX)
    for _ in range(5):
        daemon.attach()
    daemon.run(lambda: key in daemon.answers)
    assert daemon.answers.pop(key) == CLEAN
    do(daemon, "echo mine > f")
    daemon.attach()  # asks again, as if the answer had not come
    daemon.run(lambda: key in daemon.answers)
    assert daemon.answers[key] == CLEAN
    assert (root(box) / "lease/it/f").exists()
    assert daemon.clean(WORKDIR) == CLEAN
    assert not (root(box) / "lease/it").exists()


@pytest.fixture
def immortal(box, daemon):
    """A process that does not end by KILL, as a tracer holds it at its end."""
    job = daemon.start("echo up; exec sleep " + THIS, workdir=WORKDIR)
    daemon.run(lambda: job.out)
    until_there(box, THIS)
    pid = [pid for pid, (*_, line) in box.processes().items() if line.startswith(b"sleep\0")][0]
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    assert ptrace(PTRACE_SEIZE, pid, None, ctypes.c_void_p(PTRACE_O_TRACEEXIT)) == 0
    yield pid
    ptrace(PTRACE_DETACH, pid, None, None)
    assert box.until_gone(THIS) == []
    daemon.run(lambda: job.end)


def test_a_process_that_does_not_end(daemon, immortal):
    error, text = daemon.clean(WORKDIR)
    assert error == errno.ETIMEDOUT and text.startswith(b"processes that do not end: ") and b" (sleep): " in text


def test_a_cleaner_that_is_killed(box, daemon, immortal):
    """That is no clean sandbox. One that is stopped goes on."""
    key = daemon.request(wire.CLEAN, WORKDIR, "/tmp", flags=wire.CLEAN_SANDBOX)
    for signo in [signal.SIGSTOP, signal.SIGKILL]:
        found = []
        while not found:
            daemon.send("REQUEST", request=len(daemon.replies))
            daemon.run(lambda: (len(daemon.replies) - 1, 0) in daemon.replies)
            found = [pid for pid, (_, name, _) in box.processes().items() if name == "modalpool-clean"]
        limits = pathlib.Path(f"/proc/{found[0]}/limits").read_text()
        assert re.search(r"^Max cpu time +30 +30 ", limits, re.M)
        os.kill(found[0], signo)
    daemon.run(lambda: key in daemon.answers)
    assert daemon.answers[key] == (errno.EIO, b"the process that cleans was killed, or took too long")


@pytest.mark.parametrize("data", [b"", b"/w", b"w\0", b"/w\0tmp\0", b"/w\0/a/../b\0", b"/\0", b"/w\0\0\0", b"/w\0/tmp",
                                  b"/" + b"x" * 300 + b"\0", b"/w\0/" + b"x/" * 3000 + b"\0"])
def test_wrong_requests(box, daemon, make_daemon, data):
    daemon.send("REQUEST", data, request=1, kind=wire.CLEAN)
    with pytest.raises(Gone):
        daemon.run(lambda: False)
    assert daemon.carrier.error.startswith("CLEAN with")
    daemon.attach()
    assert daemon.clean(WORKDIR) == CLEAN


def test_names_of_any_bytes(box, daemon):
    do(daemon, "python3 -c '\nimport os\nfor n in [b\"\\n\", b\"\\xff\\xfe\", b\" \", b\"-rf\", b\"\\x1b[2J\", b\"x\" * 255]:\n"
               " os.makedirs(n); open(n + b\"/\" + n, \"w\"); open(b\"/tmp/\" + n, \"w\")\n'")
    assert daemon.clean(WORKDIR) == CLEAN
    assert list((root(box) / "tmp").iterdir()) == [] and not (root(box) / "lease/it").exists()


def test_a_storm_of_forks(box, daemon):
    """More than anything that looks at them one by one can find."""
    job = daemon.start("exec python3 -c 'import os\nfor i in range(5): os.fork()\nprint(1, flush=True)\n"
                       "while True:\n if os.fork(): os._exit(0)\n os.setsid()'", workdir=WORKDIR)
    daemon.run(lambda: job.out)
    assert daemon.clean(WORKDIR) == CLEAN
    daemon.run(lambda: job.end)
    assert len(box.processes()) <= 2
    assert do(daemon, "echo on").out == b"on\n"
