# SPDX-License-Identifier: MIT
"""A reaper takes one job after the other, as long as nothing is left of the job before."""

import os
import pathlib
import signal

import pytest

import wire

PARENT = "echo $PPID"


def outside(box, inside):
    """The number on this machine of a process that a job knows by another."""
    for pid in box.processes():
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        numbers = next(line.split()[1:] for line in lines if line.startswith("NSpid"))
        if int(numbers[-1]) == inside:
            return pid
    raise AssertionError(f"there is no process {inside}")


def test_one_after_the_other(anywhere):
    first = int(anywhere.do(PARENT).out)
    for command, code in (("exit 3", (wire.EXIT, 3)), ("kill -9 $$", (wire.SIGNAL, 9)), ("sleep 0.1 & wait", (wire.EXIT, 0))):
        assert anywhere.do(command).code == code
        assert int(anywhere.do(PARENT).out) == first
    assert anywhere.do("true", shell="/no/such/shell").code[0] == wire.FAILED
    assert anywhere.do("true", cwd="/no/such/directory").code[0] == wire.CWD
    assert anywhere.do("sleep 1000", timeout=0.1, grace=0).code[0] == wire.TIMEOUT
    assert int(anywhere.do(PARENT).out) == first


def test_nothing_of_the_job_before(daemon):
    """Its variables, user, workdir, descriptors, limits of time, and a kill that comes late."""
    before = daemon.start("cd /usr; umask 0; echo $A; id -u; sleep 0.2", env=["A=one", "HOME=/a"], user="4242", timeout=1.0)
    daemon.wait(before)
    daemon.kill(before)
    daemon.order(before, "SIGNAL", signo=15)
    job = daemon.do("echo $A-$HOME; id -u; pwd; umask; cd /proc/self/fd; for fd in *; do test -e $fd && echo $fd; done; sleep 1.5")
    assert job.out == b"-/root\n0\n/tmp\n0022\n0\n1\n2\n" and job.code == (wire.EXIT, 0)


def test_what_is_left_keeps_its_reaper(daemon):
    first = int(daemon.do("echo $PPID; sleep 1000 > /dev/null 2>&1 &").out)
    assert int(daemon.do(PARENT).out) != first
    assert daemon.do(f"kill -0 {first}; cat /proc/{first}/comm").out == b"modalpool-job\n"


def test_one_is_kept(box, daemon):
    """Of many that become ready one is kept."""
    jobs = [daemon.start("cat", live=True) for _ in range(10)]
    daemon.run(lambda: all(job.state == wire.RUNNING for job in jobs))
    for job in jobs:
        daemon.feed(job, b"", end=True)
    daemon.wait(*jobs)
    reaper = daemon.do(PARENT).out
    # The others end by themselves, after their jobs.
    while (names := daemon.do("for pid in /proc/[0-9]*; do read name < $pid/comm; test $name = modalpool-job && "
                              "echo ${pid#/proc/}; done").out) != reaper:
        assert reaper in names


def test_a_kept_one_that_is_killed_or_stopped(box, daemon):
    for signo in (signal.SIGKILL, signal.SIGSTOP):
        kept = outside(box, int(daemon.do(PARENT).out))
        os.kill(kept, signo)
        assert daemon.do("echo on; exit 4").code == (wire.EXIT, 4)
        assert daemon.do("echo on").out == b"on\n"


@pytest.mark.skipif(os.environ.get("HELPER_STATIC") == "0", reason="a sanitizer keeps what is freed")
def test_its_memory_does_not_grow(box, daemon):
    env = [f"A{i}=" + "x" * 1000 for i in range(1000)]
    kept = outside(box, int(daemon.do(PARENT).out))
    size = lambda: int(pathlib.Path(f"/proc/{kept}/statm").read_text().split()[1])
    daemon.do("true", env=env, user="nobody")
    before = size()
    for _ in range(30):
        daemon.do("true", env=env, user="nobody")
    assert outside(box, int(daemon.do(PARENT).out)) == kept and size() <= before + 16
