# SPDX-License-Identifier: MIT
"""The dry backend: nothing runs, and everything else is as ever."""

import concurrent.futures
import dataclasses
import errno
import os
import random
import shutil
import signal
import time

import pytest

import processes
import test_live_input
from test_lease import fails
from test_live_input import live  # a fixture
from test_pools import events, lease_in

pytestmark = [pytest.mark.local, pytest.mark.exact]  # once is enough, and it makes its own faults

PLAIN = "cwd: /root/hermes_tasks/t1\ninput: 0 bytes\n\n"
NEVER = 1000  # seconds: longer than any test takes


@pytest.fixture
def settings(settings):
    return dataclasses.replace(settings, provider="dry", prefix="dry-")


@pytest.mark.small
def test_prints_what_would_have_been_run(mp):
    lease = mp.lease()
    assert lease.run("ls; exit 3\n") == (PLAIN + "ls; exit 3\n", 0)
    assert lease.read("stdout") == lease.read("output") and lease.read("stderr") == ""
    assert lease.read("environment") == "dry-1\n"


def test_head(mount):
    """Directory, shell, variables and input; of the command every byte."""
    lease = mount(env="CI=1", base="/srv/it's here", shell="/no/such/shell").lease()
    lease.write("env", "A=two words\nB=\nCI=2\nMODALPOOL_JOB=x\n")
    lease.write("cwd", "sub")
    lease.write("stdin", bytes(100_000))
    command = b"printf '\xff\x01'; cat # no newline"
    lease.submit(command)
    assert (lease / "stdout").read_bytes() == (
        b"cwd: /srv/it's here/hermes_tasks/t1/sub\nshell: /no/such/shell\nenv: A=two words\nenv: B=\nenv: CI=2\n"
        b"input: 100000 bytes\n\n" + command)
    lease.write("cwd", "/tmp")
    lease.write("env", "")
    assert lease.run("ls")[0] == "cwd: /tmp\nshell: /no/such/shell\nenv: CI=1\ninput: 0 bytes\n\nls"


def test_live_input_needs_a_helper(mount):
    """There is none. A job that asked for it before that was known does not run."""
    lease = mount(dry_create=1).lease()
    os.mkdir(lease / "jobs/early")
    lease.write("jobs/early/ctl", "input open\n")
    lease.write("jobs/early/cmd", "ls")
    with pytest.raises(OSError) as failed:
        lease.read("jobs/early/exit_code")
    assert failed.value.errno == errno.EIO
    assert lease.read("jobs/early/error") == "not run: live input needs a helper, and environment dry-1 has none\n"
    os.mkdir(lease / "jobs/a")
    with pytest.raises(OSError) as refused:
        lease.write("jobs/a/ctl", "input open\n")
    assert refused.value.errno == errno.EOPNOTSUPP
    assert lease.read("error") == 'ctl: "input open": refused: live input needs a helper, and environment dry-1 has none\n'
    with pytest.raises(OSError) as refused:
        lease.write("jobs/a/terminal", "24 80")
    assert refused.value.errno == errno.EOPNOTSUPP
    assert lease.read("error") == "terminal: refused: a terminal needs a helper, and environment dry-1 has none\n"
    lease.write("jobs/a/stdin", "12345")
    lease.write("jobs/a/cmd", "ls")
    assert "input: 5 bytes" in lease.read("jobs/a/output")


def test_nothing_runs(mp, tmp_path):
    lease = mp.lease()
    for command in f"touch {tmp_path}/ran", "sleep 1000", "kill -9 $PPID":
        assert lease.run(command)[1] == 0
    assert not (tmp_path / "ran").exists()
    assert processes.descendants(mp.pid) == {}


def test_without_bubblewrap_and_shell(mount, tmp_path):
    """It needs fusermount3 alone, and that only without root."""
    if fusermount := shutil.which("fusermount3"):
        (tmp_path / "fusermount3").symlink_to(fusermount)
    assert mount(environment={"PATH": str(tmp_path)}).lease().run("true") == (PLAIN + "true", 0)


def test_longest_command(mp):
    command = random.Random(1).randbytes(16 << 20).replace(b"\0", b"\n")
    lease = mp.lease()
    lease.submit(command)
    assert (lease / "stdout").read_bytes() == PLAIN.encode() + command


def test_output_max(mount):
    """What it prints counts like any output."""
    lease = mount(output_max="100").lease()
    assert lease.run("x" * 50)[1] == 0
    lease.submit("x" * 100)
    assert lease.read("exit_code") == "137\n" and "output_max" in lease.read("error")


def test_many_leases_at_once(mount):
    mp = mount(max=8)

    def work(i):
        lease = mp.lease(f"n{i}")
        done = [lease.run(f"job {i}.{j}") for j in range(3)]
        lease.release()
        return done

    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        for i, done in enumerate(threads.map(work, range(200))):
            head = f"cwd: /root/hermes_tasks/n{i}\ninput: 0 bytes\n\n"
            assert done == [(f"{head}job {i}.{j}", 0) for j in range(3)]
    assert mp.stats()["environments_created_total"] <= 8


def test_rm_rf(mp):
    lease = mp.lease()
    lease.run("one")
    mp.sh("rm -rf t1")
    assert mp.lease().run("two") == (PLAIN + "two", 0)


# time

def test_kill_and_signals(mount):
    """As of a program that does nothing about them."""
    lease = mount(dry_exec=NEVER).lease()
    for line, code in ("kill", 137), ("signal TERM", 143), ("signal USR1", 138):
        lease.submit("x")
        lease.until_running()
        for harmless in "CHLD", "CONT", "WINCH", "STOP":
            lease.write("ctl", f"signal {harmless}\n")
        assert lease.status()["running"] != "-"
        lease.write("ctl", line + "\n")
        assert (lease.read("output"), lease.read("exit_code")) == ("", f"{code}\n")


def test_timeout(mount):
    lease = mount(dry_exec=NEVER, timeout=0.1).lease()
    assert lease.run("x") == ("", 124)
    lease.write("timeout", "0")
    lease.submit("x")
    lease.until_running()
    lease.release()


def test_in_time(mount):
    """A job that ended while the daemon was stopped has not timed out."""
    mp = mount(dry_exec=0.2, timeout=0.5)
    lease = mp.lease()
    lease.submit("x")
    mp.until(lambda: lease.status("jobs/1/status")["state"] in ("running", "ended"))
    os.kill(mp.pid, signal.SIGSTOP)
    time.sleep(0.6)
    os.kill(mp.pid, signal.SIGCONT)
    assert (lease.read("output"), lease.read("exit_code")) == (PLAIN + "x", "0\n")


def test_takes_so_long(mount):
    """Creates and jobs take what the options say."""
    mp = mount(dry_create=0.3, dry_exec=0.2)
    began = time.monotonic()
    lease = mp.lease()
    lease.read("environment")
    created = time.monotonic()
    lease.run("x")
    assert created - began >= 0.3 and time.monotonic() - created >= 0.2


def test_queue_in_order(mount):
    lease = mount(dry_exec=0.01).lease()
    for i in range(1, 65):
        lease.submit(f"job {i}")
    for i in range(1, 65):
        assert lease.read(f"jobs/{i}/output") == PLAIN + f"job {i}"


# the pool

def test_lent_again(mount):
    mp = mount(max=1, keepalive=0.05)
    for _ in range(3):
        lease = mp.lease()
        lease.run("x")
        assert lease.read("environment") == "dry-1\n"
        lease.release()


def test_full_pool(mount):
    mp = mount(max=2, oversubscribe=False)
    for name in "a", "b":
        mp.lease(name).read("environment")
    mp.ctl("wait 0.1")
    late = mp.lease("late")
    with pytest.raises(OSError) as error:
        late.read("environment")
    assert error.value.errno == errno.ETIMEDOUT


def test_release_while_it_is_created(mount):
    mp = mount(dry_create=NEVER, dry_exec=NEVER)
    lease = mp.lease()
    lease.submit("x")
    assert lease.status()["state"] == "waiting"
    lease.release()


def test_stop_in_the_middle(mount):
    """Jobs in every state."""
    mp = mount(max=2, dry_exec=NEVER)
    for name in "abc":
        lease = mp.lease(name)
        lease.submit("one")
        lease.submit("two")
    mp.until(lambda: mp.stats()["jobs"]["running"] == 2)


def test_crash(mount):
    """Environments end with the daemon: their leases are lost, and what jobs printed can be read."""
    mp = mount(dry_exec=0.01)
    lease = mp.lease()
    lease.run("kept")
    mp.crash()
    mp.start()
    assert lease.status()["state"] == "lost"
    assert lease.read("jobs/1/output") == PLAIN + "kept"
    lease.write("ctl", "renew\n")
    assert lease.run("again") == (PLAIN + "again", 0)
    mp.crash()
    done = mp.reap()
    assert done.returncode == 0 and "1 environments ended" in done.stdout


def test_with_faults(mount):
    """A harness can be tried against failures, too."""
    mp = mount(fault="create:0.3+clean:0.3+idle:0.3+delay:0.5")
    for i in range(20):
        lease = mp.lease()
        assert lease.run(f"{i}") == (PLAIN + f"{i}", 0)
        lease.release()
    mp = mount(fault="death:1")
    lease = mp.lease()
    lease.submit("x")
    with pytest.raises(OSError):
        lease.read("exit_code")
    assert lease.status()["state"] == "lost"


# live input, and output that is held back: the backend alone

def test_live_input_is_counted(live):
    live.begin("cat")
    live.write_all(bytes(200_000))
    live.tell("eof")
    live.tell("eof")
    assert live.end() == ("ok", 0)
    assert live.got == {1: b"cwd: /root/drive\nenv: LANG=C.UTF-8\ninput: 200000 bytes\n\ncat", 2: b""}


def test_held_back(live):
    command = "x" * 100_000
    live.begin(command)
    live.event("started")
    live.hold()
    live.tell("eof")
    live.tell("kill", "0")  # it has ended
    live.tell("calls")
    live.event("counted")
    live.give()
    assert live.end() == ("ok", 0)
    assert live.got[1].endswith(b"\n\n" + command.encode())


@pytest.mark.parametrize("how, code", [(("kill", "0"), 137), (("kill", "1000"), 143), (("signal", "2"), 130)])
def test_killed_while_held_back(live, how, code):
    live.begin("x")
    live.hold()
    live.tell(*how)
    assert live.write(b"x") == -errno.EPIPE
    live.give()
    assert live.end() == ("ok", code)
    assert live.got[1] == b""


def test_cancelled(live):
    for held in False, True:
        live.begin("x")
        live.write_all(b"x")
        if held:
            live.hold()
        live.tell("cancel")
        live.held = False
    live.begin("last")
    live.tell("eof")
    assert live.end() == ("ok", 0)


def test_death(settings, tmp_path):
    test_live_input.test_a_sandbox_that_dies(settings, tmp_path)


def test_delayed(settings, tmp_path):
    with test_live_input.sandbox(settings, tmp_path, DRIVE_FAULTS="delay:1") as live:
        for test in test_live_input_is_counted, test_held_back, test_cancelled:
            test(live)


def test_snapshots(mp):
    """There is nothing to copy; a fork has the workdir of the lease all the same, and its options, and is used once."""
    lease = mp.lease()
    lease.read("environment")
    for name, error in (("", errno.EINVAL), ("@a", errno.EINVAL), (".a", errno.EINVAL), ("a/b", errno.EINVAL),
                        ("a" * 201, errno.ENAMETOOLONG)):
        fails(error, lease.write, "ctl", f"snapshot {name}\n")
        assert f"snapshot {name}".strip() in lease.read("error")
    lease.write("ctl", "snapshot s\n")
    fails(errno.EEXIST, lease.write, "ctl", "snapshot s\n")
    assert "there is a pool of this name" in lease.read("error")
    fork = lease_in(mp, "s", "f")
    assert fork.run("ls") == (PLAIN + "ls", 0)
    assert {e["snapshot"]: e["state"] for e in events(mp / "@s") if "snapshot" in e} == {"s": "ready"}
    for line, sentence in (("image debian", "begins as that is"), ("reset clean", "begins as that is")):
        fails(errno.EPERM, (mp / "@s/.pool/ctl").write_text, line + "\n")
        assert sentence in events(mp / "@s")[-1]["reason"]
    used = fork.read("environment")
    fork.release()
    assert lease_in(mp, "s", "g").read("environment") != used
    shutil.rmtree(mp / "@s")
    mp.until(lambda: events(mp)[-1]["state"] == "ended")
