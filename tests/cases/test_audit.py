# SPDX-License-Identifier: MIT
"""Option audit: a line for each job, of who ran what, when and where, and how it ended."""

import errno
import json
import os
import signal
import subprocess
import time

import pytest


@pytest.fixture
def audit(tmp_path):
    return tmp_path / "audit"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_each_job(mount, audit):
    before = time.time()
    mp = mount(audit=audit)
    lease = mp.lease()
    assert lease.run("printf abc; printf de >&2") == ("abcde", 0)
    environment = lease.read("environment").strip()
    assert lease.run("exit 3") == ("", 3)
    lease.write("timeout", "0.2")
    assert lease.run("exec sleep 60") == ("", 124)
    lease.write("timeout", "60")
    assert lease.run("kill -TERM $$") == ("", 143)
    lease.submit("sleep 60")
    lease.until_running()
    lease.submit("never")
    lease.release()
    got = lines(audit)
    assert [(line["job"], line["end"], line["exit_code"], line["signal"]) for line in got] == [
        (1, "ok", 0, None), (2, "failed", 3, None), (3, "timeout", 124, None), (4, "failed", 143, 15),
        (5, "killed", None, None), (6, "cancelled", None, None)]
    first = got[0]
    assert first["command"] == "printf abc; printf de >&2" and first["command_bytes"] == 25
    assert (first["pool"], first["lease"], first["environment"]) == ("", "t1", environment)
    assert (first["uid"], first["gid"], first["pid"]) == (os.getuid(), os.getgid(), os.getpid())
    assert first["program"] == open("/proc/self/comm").read().strip()
    assert (first["stdout_bytes"], first["stderr_bytes"], first["error"]) == (3, 2, None)
    assert before < first["submitted"] <= first["started"] <= first["ended"] <= time.time()
    assert got[-1]["started"] is None
    assert oct(audit.stat().st_mode & 0o7777) == "0o600"


def test_who_wrote_the_command(mount, audit):
    """The one that opened cmd, not the daemon, and not who reads."""
    mp = mount(audit=audit)
    lease = mp.lease()
    shell = subprocess.Popen(["sh", "-c", 'echo true > "$1"', "sh", lease / "cmd"])
    assert shell.wait() == 0
    lease.read("exit_code")
    (line,) = lines(audit)
    assert (line["pid"], line["program"]) == (shell.pid, "sh")


def test_a_job_with_a_name(mount, audit, settings):
    """Another process that opened its cmd too, and comes too late with a command, is not the one that is named."""
    if not settings.helper:
        pytest.skip("these environments have no jobs with names")
    lease = mount(audit=audit).lease()
    (lease / "jobs/build").mkdir()
    with open(lease / "jobs/build/cmd", "w") as mine:
        late = subprocess.Popen(["sh", "-c", 'exec 3> "$1"; echo open; read line; echo false >&3', "sh", lease / "jobs/build/cmd"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert late.stdout.readline() == b"open\n"
        mine.write("exit 5")
    late.communicate(b"\n")
    assert late.returncode != 0 and lease.read("jobs/build/exit_code") == "5\n"
    (line,) = lines(audit)
    assert (line["job"], line["pid"], line["exit_code"]) == ("build", os.getpid(), 5)


@pytest.mark.parametrize("command, shown", [
    (b"printf '\xff\xfe'", "printf '??'"),
    (b": \x1b[31m\xc2\x9b", ": \x1b[31m\x9b"),
    ("echo ä\necho ö".encode(), "echo ä\necho ö"),
    (b": " + b"x" * 5000, ": " + "x" * 4094),
    (b": x" + "ä".encode() * 3000, ": x" + "ä" * 2046),
])
def test_any_command(mount, audit, command, shown):
    """On one line, in ASCII, cut between characters after 4096 bytes."""
    lease = mount(audit=audit).lease()
    with open(lease / "cmd", "wb") as cmd:
        cmd.write(command)
    lease.read("exit_code")
    text = audit.read_bytes()
    assert text.isascii() and text.count(b"\n") == 1 and not set(range(32)) & set(text[:-1])
    line = json.loads(text)
    assert line["command"] == shown and line["command_bytes"] == len(command)


def test_pools_have_one_file(mount, audit):
    mp = mount(audit=audit)
    (mp / "@py").mkdir()
    (mp / "@py/t1").mkdir()
    (mp / "@py/t1/cmd").write_text("true")
    (mp / "@py/t1/exit_code").read_text()
    (line,) = lines(audit)
    assert (line["pool"], line["lease"]) == ("py", "t1")


def test_rename_and_signal(mount, audit):
    """Each line is in one of the files. One that cannot be opened changes nothing."""
    mp = mount(audit=audit)
    lease = mp.lease()
    lease.run("true")
    os.rename(audit, f"{audit}.1")
    lease.run("true")
    os.kill(mp.pid, signal.SIGUSR1)
    mp.hears("the audit goes on in")
    lease.run("true")
    os.rename(audit, f"{audit}.2")
    os.symlink(f"{audit}.2", audit)
    os.kill(mp.pid, signal.SIGUSR1)
    mp.hears("a symbolic link is not followed")
    lease.run("true")
    assert [[line["job"] for line in lines(path)] for path in (audit.with_name("audit.1"), audit.with_name("audit.2"))] == [
        [1, 2], [3, 4]]


def test_without_an_audit_the_signal_does_nothing(mp):
    os.kill(mp.pid, signal.SIGUSR1)
    assert mp.lease().run("echo hi") == ("hi\n", 0)


@pytest.mark.root
def test_a_full_disk(mount, tmp_path):
    """Jobs go on; what was dropped is counted, and no line is torn."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        mp = mount(audit=disk / "audit")
        lease = mp.lease()
        lease.run("true")
        filler = disk / "filler"
        with pytest.raises(OSError) as caught, open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert caught.value.errno == errno.ENOSPC
        number = 1
        while not any("lines are dropped" in line for line in mp.log().splitlines()):
            number += 1
            assert lease.run(f"echo {number} {'x' * 1000}; exit 7")[1] == 7
        assert lease.run("true") == ("", 0)
        filler.unlink()
        assert lease.run("true") == ("", 0)
        mp.stop()
        good = []
        for line in (disk / "audit").read_text().splitlines():
            try:
                good.append(json.loads(line))
            except json.JSONDecodeError:
                assert good[-1]["job"] == number - 1  # what the disk took of the first that was dropped
        assert [line["job"] for line in good] == [*range(1, number), number + 2]
        assert good[-1]["dropped"] == 2
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("kind, reason", [("link", "a symbolic link is not followed"), ("fifo", "this is not a regular file"),
                                          ("folder", "Is a directory"), ("absent", "No such file or directory")])
def test_no_file_for_it(mount, audit, kind, reason):
    """The start says so, and does not wait."""
    path = audit / "x" if kind == "absent" else audit
    if kind == "link":
        audit.symlink_to("/dev/null")
    elif kind == "fifo":
        os.mkfifo(audit)
    elif kind == "folder":
        audit.mkdir()
    mp = mount(audit=path, start=False)
    assert not mp.try_to_start() and mp.status == 1
    assert f"option audit={path}: {reason}" in mp.log()


def test_a_restart(mount, audit, settings):
    """Of a job that outlives the daemon the lease's owner is known. No job is missing."""
    mp = mount(audit=audit, **({"orphan_timeout": 60} if settings.provider == "local" else {}))
    lease = mp.lease()
    lease.run("true")
    lease.submit("sleep 1")
    lease.until_running()
    mp.crash(survives=True)
    mp.lines.clear()
    mp.start()
    lease.read("exit_code")
    first, *rest = lines(audit)
    assert first["job"] == 1 and first["pid"] == os.getpid()
    assert {line["job"] for line in rest} == {2}
    assert (rest[-1]["uid"], rest[-1]["gid"], rest[-1]["pid"], rest[-1]["program"]) == (os.getuid(), os.getgid(), 0, "")
