# SPDX-License-Identifier: MIT
"""Jobs over a helper that is put into sandboxes of Modal."""

import errno

import pytest

import harness

pytestmark = [pytest.mark.modal, pytest.mark.exact]

ROUTER = ("TaskExecStart", "TaskExecStdioRead", "TaskExecWait", "TaskExecPoll", "TaskExecStdinWrite")


def router_calls(sim):
    rpcs = sim.stats()["rpcs"]
    return {name: rpcs.get(name, 0) for name in ROUTER}


def test_a_job_is_one_call(mount, calm):
    """Beside the stream that is open anyway. Counted by the simulator, over calls of whatever kind."""
    lease = mount(max=1, helper="yes").lease()
    lease.run("true")
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
    mp = mount(max=1, helper="yes", keepalive=1)
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


def test_order_of_both_streams(mount):
    lease = mount(max=1, helper="yes").lease()
    lines = "".join(f"{word}\n" for word in ("a", "b", "c")) * 200
    output, code = lease.run("for i in $(seq 200); do echo a; echo b >&2; echo c; done")
    assert code == 0
    assert output == lines


@pytest.mark.limit(240)
def test_a_thousand_jobs_under_faults(mount, calm):
    """One in twenty calls fails in each of many ways; each job runs once, and all its bytes arrive."""
    mp = mount(max=4, helper="yes")
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
    mp = mount(max=1, helper="yes")
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
    mp = mount(max=1, helper="yes")
    lease = mp.lease()
    lease.submit("for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != helper ] || kill -KILL ${p#/proc/}; done; sleep 100")
    mp.until(lambda: lease.status()["state"] == "lost")
    assert "its helper is gone" in lease.read("error")
    with pytest.raises(OSError) as raised:
        lease.submit("true")
    assert raised.value.errno == errno.ENODEV
