# SPDX-License-Identifier: MIT
"""Trouble around the daemon: a full disk, a clock that jumps, a link that is cut."""

import contextlib
import dataclasses
import errno
import os
import resource
import signal
import subprocess
import time
import urllib.parse

import pytest

import link
import processes

from test_lease import fails


@pytest.fixture
def small_disk(mount, request):
    """A mount whose state directory is a disk of its own, of 4 MiB; and a way to fill it."""
    mp = mount(start=False, max=3, history=3)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", mp.state], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", mp.state], check=True))
    mp.start()
    filler = mp.state / "filler"

    def fill():
        with open(filler, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError as e:
                    assert e.errno == errno.ENOSPC

    mp.fill, mp.empty = fill, filler.unlink
    return mp


@pytest.mark.root
def test_disk_full(small_disk):
    """Nothing is lost, nothing is accepted that could be lost, and everything works when there is room again."""
    mp = small_disk
    mp.expected.append("journal: not written")
    lease, idle = mp.lease("t1"), mp.lease("t2")
    lease.run("echo kept")
    idle.run("true")
    lease.submit("mkfifo go; echo begun; read x < go")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
        mp.fill()
        # The journal: no new lease, a command that fails and says why.
        while True:
            try:
                mp.lease("t3").release()  # what is left of the journal's own room
            except OSError as e:
                assert e.errno == errno.ENOSPC
                break
        ran = 0
        while True:
            idle.submit("echo ran >> ran")
            try:
                assert idle.read("exit_code") == "0\n"
            except OSError as e:
                assert e.errno == errno.EIO
                break
            ran += 1
        assert "not run" in idle.read("error") and "No space left" in idle.read("error")
    assert mp.hears("journal: not written")
    assert lease.read("jobs/1/output") == "kept\n"
    mp.empty()
    assert idle.run("touch ran; wc -l < ran") == (f"{ran}\n", 0)
    assert mp.lease("t3").run("echo hi") == ("hi\n", 0)
    assert mp.hears("can be written again")
    lease.write("ctl", "kill")
    assert lease.read("exit_code") == "137\n"
    # The journal has caught up: the next daemon sees what is there, and no more.
    (mp / "t2").rmdir()
    mp.crash()
    mp.lines.clear()
    mp.start()
    assert sorted(name for name in os.listdir(mp.path) if name != ".pool") == ["t1", "t3"]
    assert lease.read("jobs/1/output") == "kept\n" and lease.read("exit_code") == "137\n"
    mp.stop()


@pytest.mark.root
def test_output_on_a_full_disk(small_disk):
    mp = small_disk
    lease = mp.lease("t1")
    lease.submit("head -c 10000000 /dev/zero | tr '\\0' x; sleep 1000")
    got = []
    with open(lease / "output", "rb", buffering=0) as output:
        with pytest.raises(OSError, match="Input/output error"):
            got.extend(iter(lambda: output.read(1 << 17), b""))
    assert 1 << 20 < len(b"".join(got)) < 4 << 20 and set(b"".join(got)) == {ord("x")}
    assert "could not be stored" in lease.read("error") and "No space left" in lease.read("error")
    fails(errno.EIO, lease.read, "exit_code")
    lease.release()
    again = mp.lease("t2")
    assert again.run("echo hi") == ("hi\n", 0)
    mp.stop()


@pytest.mark.root
def test_output_cut_of_a_job_that_ends_by_itself(small_disk):
    """It gets no exit code of its own, which would mean that all output is there."""
    mp = small_disk
    mp.expected.append("journal: not written")
    lease = mp.lease("t1")
    lease.submit("trap 'echo lost; exit 0' USR1; echo begun >&2; while :; do sleep 0.1; done")
    with open(lease / "stderr", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
    mp.fill()
    lease.write("ctl", "signal USR1")
    fails(errno.EIO, lease.read, "exit_code")
    fails(errno.EIO, lease.read, "stdout")
    assert "could not be stored: No space left" in lease.read("error")
    mp.empty()
    assert lease.run("echo hi") == ("hi\n", 0)
    assert {how: n for how, n in mp.stats()["jobs_ended"].items() if n} == {"ok": 1, "output": 1}
    mp.stop()


def test_out_of_descriptors(mount):
    """Jobs wait for a descriptor, and none fails for lack of one."""
    mp = mount(max=4, min=4)
    leases = [mp.lease(f"t{i}") for i in range(4)]
    for lease in leases:
        lease.read("environment")
    soft, hard = resource.prlimit(mp.pid, resource.RLIMIT_NOFILE)
    descriptors = {int(fd) for fd in os.listdir(f"/proc/{mp.pid}/fd")}
    taken, lowest = max(descriptors) + 1, min(set(range(len(descriptors) + 1)) - descriptors)
    resource.prlimit(mp.pid, resource.RLIMIT_NOFILE, (lowest, hard))  # a new one is the lowest that is free
    leases[0].submit("echo one; echo two >&2; exit 3")
    error = leases[0].read("error")
    assert "waits until this machine can start it: Too many open files" in error and "LimitNOFILE" in error
    assert leases[0].status()["queued"] == "1"
    for lease in leases[1:]:
        lease.write("stdin", b"x" * 3000)
        lease.submit("wc -c; echo one; echo two >&2; exit 3")
    resource.prlimit(mp.pid, resource.RLIMIT_NOFILE, (taken + 8, hard))  # for one or two at a time
    for lease in leases:
        assert lease.read("exit_code") == "3\n" and lease.read("error") == "ok\n"
        assert lease.read("stdout").endswith("one\n") and lease.read("stderr") == "two\n"
    resource.prlimit(mp.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert leases[0].run("echo hi") == ("hi\n", 0)


@pytest.mark.parametrize("stands_s", [4, 0], ids=["past its time", "briefly"])
def test_daemon_stands_still(mount, stands_s):
    """A job that ended in time has not timed out, however late the daemon is; one that still runs has."""
    mp = mount(max=2)
    if mp.settings.gvisor:
        pytest.skip("finds a process of a sandbox among those of this machine")
    ends, late = mp.lease("ends"), mp.lease("late")
    ends.read("environment"), late.read("environment")
    for lease, seconds in ((ends, 4), (late, 2)):
        lease.write("timeout", str(seconds))
    late.submit("sleep 1002; exit 5")
    ends.submit("perl -e '$| = 1; print qq(begun\\n); sleep 1001'; echo over; exit 6")
    with open(ends / "stdout", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
    late.until_running()
    [inner] = processes.alive(mp.settings.simulator.pid if mp.settings.simulator else mp.pid, "perl")
    processes.stop(mp.pid)
    shell = processes.stat(inner)[1]
    processes.kill([inner])
    assert processes.gone([shell], 2) == []
    time.sleep(stands_s)
    processes.kill([mp.pid], signal.SIGCONT)
    assert ends.read("stdout") == "begun\nover\n" and ends.read("exit_code") == "6\n" and ends.read("error") == "ok\n"
    assert late.read("exit_code") == "124\n" and "timed out" in late.read("error")
    assert ends.run("echo next; exit 3") == ("next\n", 3) and late.run("echo next") == ("next\n", 0)
    assert {how: n for how, n in mp.stats()["jobs_ended"].items() if n} == {"ok": 1, "failed": 2, "timeout": 1}


def test_an_environment_that_came_while_the_daemon_stood_still(mount, settings):
    """The daemon takes note of it before it fails the waiting lease for its time limit."""
    if settings.provider != "local":
        pytest.skip("a sandbox of Modal needs more from us than to be heard of")
    mp = mount(max=1, wait=3, oversubscribe=False, reset="workdir")  # nothing is noted before it is lent
    lease = mp.lease()
    mp.until(lambda: mp.environments()["creating"] == 1)
    processes.stop(mp.pid)
    time.sleep(3)
    processes.kill([mp.pid], signal.SIGCONT)
    assert lease.run("echo hi") == ("hi\n", 0)


def test_clock_jumps(with_clock):
    """Setting the wall clock changes neither timeouts nor waits nor lifetimes."""
    mp, jump = with_clock(max=2, min=1, idle_timeout=600)
    lease = mp.lease()
    lease.run("true")
    environment = lease.read("environment")
    lease.write("timeout", "600")
    lease.submit("mkfifo go; echo begun; read x < go; echo over")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
        for seconds in (86400, -86400, 400 * 86400, 0):
            jump(seconds)
            mp.lease("other").run("true")
            (mp / "other").rmdir()
            assert lease.status()["state"] == "leased" and lease.status()["running"] == "2"
        lease.write("ctl", "kill")
    assert lease.read("exit_code") == "137\n" and lease.read("environment") == environment
    # A timeout goes by its own clock, however that of the wall is set meanwhile.
    jump(-86400)
    lease.write("timeout", "0.5")
    lease.submit("sleep 1000")
    assert lease.read("exit_code") == "124\n"


@pytest.fixture
def behind_a_link(mount, settings):
    """behind_a_link(max=2): a mount whose daemon reaches Modal by a link that can be cut; and the link."""
    if settings.provider != "modal":
        pytest.skip("needs a network to be cut off from")
    with contextlib.ExitStack() as stack:

        def make(**options):
            sim = settings.simulator
            ports = [urllib.parse.urlsplit(url).port for url in (sim.server_url, sim.router_url)]
            cable = stack.enter_context(link.Link(ports))
            mp = mount(start=False, **options)
            mp.settings = dataclasses.replace(settings, wrapper=[*settings.wrapper, *cable.wrapper])
            mp.start()
            return mp, cable

        yield make


def make_and_release_leases(mp, seconds):
    """For so long, and at least 200 times. If a call waited for the backend, this would not end."""
    until, n = time.monotonic() + seconds, 0
    while n < 200 or time.monotonic() < until:
        name = mp / f"other{n}"
        name.mkdir()
        os.listdir(mp.path)
        (mp / ".pool/stats").read_text()
        name.rmdir()
        n += 1


@pytest.mark.modal
@pytest.mark.root
@pytest.mark.limit(120)
def test_link_is_cut(behind_a_link):
    """Files answer as usual, and the output of a job is complete when the link is back."""
    mp, cable = behind_a_link(max=1)
    lease = mp.lease("t1")
    lease.run("true")
    lease.submit("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 9")
    with open(lease / "output", "rb", buffering=0) as output:
        got = output.read(7)
        cable.cut()
        waiting = mp.lease("t2")
        mp.ctl("max 2")
        make_and_release_leases(mp, 12)
        assert waiting.status()["state"] == "waiting" and lease.status()["running"] == "2"
        cable.mend()
        while piece := output.read(1 << 16):
            got += piece
    assert got.decode() == "".join(f"line {i}\n" for i in range(200))
    assert lease.read("exit_code") == "9\n"
    assert waiting.run("echo back") == ("back\n", 0)
    mp.stop()  # while there is a link


@pytest.mark.modal
@pytest.mark.limit(120)
@pytest.mark.parametrize("rule", [{"kind": "status", "code": "UNAVAILABLE", "message": "down for a while"},
                                  {"kind": "hang", "method": "Task*"}, {"kind": "reset"}], ids=lambda rule: rule["kind"])
def test_backend_is_down(mount, calm, rule):
    """Files answer as usual, waiting leases say why as soon as that is known, and everything continues by itself."""
    mp = mount(max=2)
    kept = mp.lease("kept")
    kept.run("echo kept")
    calm.faults(rule)
    waiting = mp.lease("waiting")
    waiting.submit("echo hi")
    make_and_release_leases(mp, 3)
    if rule["kind"] != "hang":
        mp.until(lambda: waiting.read("error") != "ok\n")
        print(waiting.read("error"))
        assert rule.get("message", "connection") in waiting.read("error")
    assert waiting.status()["state"] == "waiting"
    assert kept.read("jobs/1/output") == "kept\n"
    calm.faults()
    assert waiting.read() == "hi\n"
    assert kept.run("echo back") == ("back\n", 0)
