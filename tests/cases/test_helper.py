# SPDX-License-Identifier: MIT
"""Jobs over a helper that is put into sandboxes of Modal."""

import dataclasses
import errno
import os
import pathlib
import shutil
import statistics

import pytest

import harness

pytestmark = [pytest.mark.modal, pytest.mark.exact]

ROUTER = ("TaskExecStart", "TaskExecStdioRead", "TaskExecWait", "TaskExecPoll", "TaskExecStdinWrite")


def router_calls(sim):
    rpcs = sim.stats()["rpcs"]
    return {name: rpcs.get(name, 0) for name in ROUTER}


def test_a_job_is_one_call(mount, calm):
    """Beside the stream that is open anyway. Counted by the simulator, over calls of whatever kind."""
    mp = mount(max=1, helper=True)
    lease = mp.lease()
    lease.run("true")
    stats = mp.stats()
    assert stats["helper_uploads_seconds_count"] == 1 and 0 < stats["helper_uploads_seconds_sum"] < 10 * mp.settings.slow
    before, seen = router_calls(calm), len(calm.trace())
    for i in range(20):
        assert lease.run(f"echo {i}; exit {i}") == (f"{i}\n", i)
    after = router_calls(calm)
    made = {name: after[name] - before[name] for name in ROUTER if after[name] != before[name]}
    assert list(made) == ["TaskExecStdinWrite"]
    # What is not urgent waits a second for company; a job that comes later than that finds it gone.
    assert 20 <= made["TaskExecStdinWrite"] <= 22
    assert {call["method"] for call in calm.trace()[seen:]} == {"TaskExecStdinWrite"}


def test_no_stream_is_open_for_an_idle_environment(mount, calm):
    mp = mount(max=1, helper=True, keepalive=1)
    lease = mp.lease()
    environment = lease.read("environment")
    lease.run("true")
    assert calm.stats()["open_calls"].get("TaskExecStdioRead", 0) > 0
    lease.release()
    mp.until(lambda: mp.environments()["idle"] == 1)
    calm.until(lambda stats: not stats["open_calls"].get("TaskExecStdioRead", 0))
    probes = calm.stats()["rpcs"]["TaskExecStart"]
    calm.until(lambda stats: stats["rpcs"]["TaskExecStart"] >= probes + 2)  # a probe opens one, and closes it
    calm.until(lambda stats: not stats["open_calls"].get("TaskExecStdioRead", 0))
    assert mp.lease().read("environment") == environment


def test_order_of_both_streams(mount, settings):
    lease = mount(max=1, helper=True).lease()
    output, code = lease.run("for i in $(seq 1000); do echo a$i; echo b$i >&2; echo c$i; done")
    right = [f"{word}{i}" for i in range(1, 1001) for word in "abc"]
    lines = output.splitlines()
    assert code == 0 and sorted(lines) == sorted(right)
    in_order = sum(lines[i:i + 3] == right[i:i + 3] for i in range(0, 3000, 3))
    print(f"{in_order} of 1000 in order")
    assert lease.read("stdout").split() == [line for line in right if line[0] != "b"]
    assert lease.read("stderr").split() == [line for line in right if line[0] == "b"]
    if settings.gvisor:
        pytest.skip(f"{in_order} of 1000 in order: gVisor's pipes keep no packets apart, see the option helper in modalpool(1)")
    assert in_order >= 999


def test_a_job_beside_an_exec_from_outside(mount, calm, settings):
    """What the helper saves where starting a process from outside is dear."""
    if not settings.gvisor:
        pytest.skip("an exec of the simulator is only as dear as Modal's with gVisor's kernel inside")
    lease = mount(max=1, helper=True).lease()
    environment = lease.read("environment").strip()
    lease.run("true")
    execs, jobs = [], []
    for _ in range(20):
        execs.append(harness.seconds(lambda: calm.run(environment, "true"))[0])
        jobs.append(harness.seconds(lambda: lease.run("true"))[0])
    an_exec, a_job = (statistics.median(times) * 1000 for times in (execs, jobs))
    print(f"an exec from outside {an_exec:.1f} ms, a job through the helper {a_job:.1f} ms")
    assert a_job < an_exec


@pytest.mark.limit(240)
def test_a_thousand_jobs_under_faults(mount, calm):
    """One in twenty calls fails in each of many ways; each job runs once, and all its bytes arrive."""
    mp = mount(max=4, helper=True)
    leases = [mp.lease(f"t{i}") for i in range(4)]
    for lease in leases:
        lease.run("echo 0 > /tmp/count")
    calm.faults(*harness.MODAL_FAULTS, seed=7)
    for i in range(250):
        for lease in leases:
            lease.submit(f"n=$(($(cat /tmp/count)+1)); echo $n > /tmp/count; echo $n; seq {i}; echo err >&2; exit {i % 200}")
        for lease in leases:
            assert lease.read("exit_code") == f"{i % 200}\n"
            assert lease.read("stdout") == f"{i + 1}\n" + "".join(f"{n}\n" for n in range(1, i + 1))
            assert lease.read("stderr") == "err\n"
    calm.faults()


def test_goes_on_after_a_crash(mount, calm):
    """By bytes: what the daemon had when it was killed is not lost, and not given twice."""
    mp = mount(max=1, helper=True)
    lease = mp.lease()
    lease.submit("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; [ $((i % 300)) != 0 ] || sleep 0.2; done; exit 3")
    with open(lease / "output", "rb", buffering=0) as output:
        output.read(1)
    mp.crash()
    mp.lines.clear()
    mp.start()
    assert lease.read("output") == "".join(f"{i}\n" for i in range(1, 3001))
    assert lease.read("exit_code") == "3\n"
    assert lease.run("echo next") == ("next\n", 0)


def test_a_helper_that_is_killed(mount, calm):
    """By a job, which may do that as root: its lease is lost, and says so."""
    mp = mount(max=1, helper=True)
    lease = mp.lease()
    lease.submit("for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != helper ] || kill -KILL ${p#/proc/}; done; sleep 100")
    mp.until(lambda: lease.status()["state"] == "lost")
    assert "its helper is gone" in lease.read("error")
    with pytest.raises(OSError) as raised:
        lease.submit("true")
    assert raised.value.errno == errno.ENODEV


# Where it cannot run. A file has the name of each of the directories in which it may live.
NOWHERE = "for d in /run /var/lib /opt; do mkdir -p $d; rm -rf $d/modalpool; touch $d/modalpool; done"


def alien(settings, directory):
    """The program, with a helper beside it for another kind of processor."""
    build = pathlib.Path(settings.program).parents[1]
    for name in "fs", "pool":
        (directory / name).mkdir(parents=True)
    shutil.copy(settings.program, directory / "fs")
    helper = bytearray((build / "pool/modalpool-helper").read_bytes())
    helper[18:20] = (183).to_bytes(2, "little")  # AArch64
    (directory / "pool/modalpool-helper").write_bytes(helper)
    return str(directory / "fs/modalpool")


def make_useless(mount, calm, tmp_path, why, **options):
    """A mount over sandboxes in which the helper cannot run, and what is said of that."""
    if why == "no place":
        return mount(ready=NOWHERE, **options), "no directory for it where programs can be executed"
    mp = mount(start=False, **options)
    if why == "another processor":
        mp.settings = dataclasses.replace(mp.settings, program=alien(mp.settings, tmp_path / "alien"))
    else:
        calm.faults({"kind": "status", "method": "TaskExecStdinWrite", "code": "INVALID_ARGUMENT"})
    mp.start()
    return mp, {"another processor": "it cannot be executed there", "refused": "writing the command's input"}[why]


WHYS = ["no place", "another processor", "refused"]


@pytest.mark.parametrize("why", WHYS)
def test_jobs_run_without_it(mount, calm, tmp_path, why):
    """With helper=auto: log, events and status say so, in one line each, and the rest is as with helper=no."""
    mp, reason = make_useless(mount, calm, tmp_path, why, max=1, helper="auto")
    lease = mp.lease()
    environment = lease.read("environment").strip()
    assert lease.run("echo one; exit 3") == ("one\n", 3) and lease.read("error") == "ok\n"
    with pytest.raises(OSError) as raised:
        os.mkdir(lease / "jobs/a")
    assert raised.value.errno == errno.EOPNOTSUPP
    said = [line for line in mp.lines if "without a helper" in line]
    assert len(said) == 1 and environment in said[0] and reason in said[0]
    assert [line.split(" ", 1)[0] for line in (mp / ".pool/status").read_text().splitlines() if reason in line] == ["helper"]
    events = os.open(mp / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert os.read(events, 1 << 20).decode().count(reason) == 1
    finally:
        os.close(events)
    stats = mp.stats()
    assert (stats["helper_uploads_seconds_count"], stats["helper_uploads_failed_total"]) == (0, 1)
    calm.faults()
    lease.release()
    assert mp.lease().run("ls -A") == ("", 0)


@pytest.mark.parametrize("why", WHYS)
def test_no_environment_without_it(mount, calm, tmp_path, why):
    """With helper=yes: the lease says why it has none."""
    mp, reason = make_useless(mount, calm, tmp_path, why, max=1, helper="yes")
    lease = mp.lease()
    mp.until(lambda: reason in lease.read("error"))
    assert mp.stats()["helper_uploads_failed_total"] >= 1
    calm.faults()
    lease.release()


def test_a_program_that_is_missing(mount, tmp_path):
    """It is for a start to fail with helper=yes, and for a warning with helper=auto."""
    mp = mount(start=False, max=1, helper="yes")
    program = alien(mp.settings, tmp_path / "alien")
    (tmp_path / "alien/pool/modalpool-helper").write_bytes(b"")
    mp.settings = dataclasses.replace(mp.settings, program=program)
    with pytest.raises(RuntimeError, match="helper=yes: .*modalpool-helper: "):
        mp.start()
    mp.lines.clear()
    mp.options["helper"] = "auto"
    mp.start()
    assert mp.lease().run("echo one") == ("one\n", 0)
    assert any("new environments run their jobs without a helper" in line for line in mp.lines)


def test_environments_of_a_daemon_without_it(mount, calm):
    """An unused one gets it when it is taken back. Of the others the jobs go on as they were started, until the clean-up."""
    mp = mount(max=2, min=2, helper=False, reset="workdir")
    mp.until(lambda: mp.environments()["idle"] == 2)
    lease = mp.lease()
    environments = mp.sandboxes()
    used = lease.read("environment").strip()
    lease.submit("echo begun; while ! [ -e go ]; do sleep 0.05; done; exit 3")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
    mp.crash()
    mp.options["helper"] = True
    mp.start()
    mp.until(lambda: mp.environments()["idle"] == 1)
    assert mp.stats()["helper_uploads_seconds_count"] == 1
    other = mp.lease("other")
    assert [other.read("environment").strip()] == [one for one in environments if one != used]
    make = lambda: os.mkdir(other / "jobs/a")
    make()
    with pytest.raises(OSError) as raised:
        os.mkdir(lease / "jobs/a")
    assert raised.value.errno == errno.EOPNOTSUPP
    calm.run(used, "sh", "-c", "touch /root/hermes_tasks/t1/go")
    assert lease.read("exit_code") == "3\n"
    lease.release()
    mp.until(lambda: mp.environments()["idle"] == 1)
    assert mp.stats()["helper_uploads_seconds_count"] == 2
    again = mp.lease()
    assert again.read("environment").strip() == used
    os.mkdir(again / "jobs/a")


def copy_journal(mp, to):
    """
    What a daemon has written about its pool becomes that of another; neither runs. A mere copy of the directory is found
    out by the path and the machine that stand in it.
    """
    state, = mp.state.iterdir()
    other, = to.state.iterdir()
    for path in other.glob("journal*"):
        path.unlink()
    for path in state.glob("journal*"):
        shutil.copy(path, other)
    theirs = (other / "pool").read_text()
    (other / "pool").write_text((state / "pool").read_text()[:36] + theirs[36:])
    shutil.copytree(state / "spool", other / "spool", dirs_exist_ok=True)


def test_two_daemons_with_copies_of_a_journal(mount, calm):
    """The later one has the sandbox. The other one is told, gives its lease up, and leaves the sandbox alone."""
    first, second = mount(max=1, helper=True), mount(start=False, max=1, helper=True)
    lease = first.lease()
    lease.submit("echo begun; while ! [ -e go ]; do sleep 0.05; done; exit 3")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
    environment = lease.read("environment")
    second.start()
    second.crash()
    first.crash()
    copy_journal(first, second)
    for mp in first, second:
        mp.lines.clear()
        mp.start()
        mp.until(lambda: harness.Lease(mp, "t1").status("jobs/1/status")["state"] == "running")
    again = harness.Lease(second, "t1")
    assert again.read("environment") == environment
    first.until(lambda: lease.status()["state"] == "lost")
    assert "another daemon uses it now" in lease.read("error")
    first.stop()
    calm.run(environment.strip(), "sh", "-c", "touch /root/hermes_tasks/t1/go")
    assert again.read() == "begun\n" and again.read("exit_code") == "3\n"
    assert again.run("echo next") == ("next\n", 0)
