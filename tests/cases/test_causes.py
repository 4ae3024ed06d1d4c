# SPDX-License-Identifier: MIT
"""Why a sandbox of Modal ended: in the lease, in its jobs, in the events, in the figures."""

import errno

import pytest

from test_hostile import EVIL, check_everything, events
from test_lease import fails

pytestmark = pytest.mark.modal

CAUSES = [
    ("success", 1, 0, "it ended by itself (success)"),
    ("failure", 2, -15, "it failed (failure, exit code -15)"),
    ("terminated", 3, 137, "it was terminated (terminated, exit code 137)"),
    ("timeout", 4, 0, "its time limit is over (timeout)"),
    ("init_failure", 5, 1, "it could not be started (init_failure, exit code 1)"),
    ("internal_failure", 6, 0, "an internal failure of Modal (internal_failure)"),
    ("idle_timeout", 7, 0, "it was idle for too long (idle_timeout)"),
    ("memory_manager_eviction", 8, 137, "Modal's memory manager evicted it (memory_manager_eviction, exit code 137)"),
    ("memory_thrashing_eviction", 9, 137,
     "out of memory: Modal evicted it, as its memory thrashed (memory_thrashing_eviction, exit code 137)"),
    ("kernel_oom_kill", 10, 137, "out of memory: the kernel killed it (kernel_oom_kill, exit code 137)"),
]


def deaths(mp):
    return {(one["cause"], one["exit_code"]): one["count"] for one in mp.stats()["environments_died_by_cause"]}


def check_cause(mp, lease, box, words, name, code):
    """In all places where one looks for it."""
    error = lease.read("error").strip()
    assert error.startswith(f"environment {box} is gone: {words}"), error
    assert [e["reason"] for e in events(mp) if e["state"] == "died"] == [error]
    assert deaths(mp) == {(name, code): 1}
    assert f'modalpool_environments_died_by_cause_total{{cause="{name}",exit_code="{code}"}} 1\n' in (mp / ".pool/metrics").read_text()
    assert mp.hears(f"lost: {error}")
    return error


@pytest.mark.parametrize("name, status, code, words", CAUSES, ids=[name for name, *_ in CAUSES])
def test_of_a_quiet_sandbox(mount, calm, name, status, code, words):
    mp = mount(max=1)
    lease = mp.lease()
    box = lease.read("environment").strip()
    calm.kill_sandbox(box, status=status, exitcode=code, exception=EVIL)
    mp.until(lambda: lease.status()["state"] == "lost")
    error = check_cause(mp, lease, box, words, name, code)
    assert error.startswith(f"environment {box} is gone: {words}: evil state leased")
    check_everything(mp, lease)


@pytest.mark.parametrize("lag", [0, 1.5], ids=["", "Modal learns it late"])
@pytest.mark.parametrize("status, code", [(10, 137), (9, 137), (2, -15)], ids=["oom", "thrashing", "signal"])
def test_under_a_job(mount, calm, status, code, lag):
    """The router only says that the task is gone: the daemon asks for the cause before it tells anybody."""
    mp = mount(max=1)
    lease = mp.lease()
    box = lease.read("environment").strip()
    lease.submit("sleep 1000")
    lease.until_running()
    calm.config(status_lag_secs=lag)
    try:
        calm.kill_sandbox(box, status=status, exitcode=code)
        fails(errno.EIO, lease.read, "exit_code")
    finally:
        calm.config(status_lag_secs=0)
    name, _, _, words = CAUSES[status - 1]
    assert lease.read("jobs/1/error").strip() == check_cause(mp, lease, box, words, name, code)


def test_no_cause(mount, calm):
    """Modal does not answer: the lease is lost all the same, with what the router said."""
    calm.faults({"kind": "hang", "method": "SandboxWait*"})
    mp = mount(max=1)
    lease = mp.lease()
    box = lease.read("environment").strip()
    lease.submit("sleep 1000")
    lease.until_running()
    calm.kill_sandbox(box, status=10)
    mp.until(lambda: lease.status()["state"] == "lost")
    assert "gone" in lease.read("error") and deaths(mp) == {}
    calm.faults()


@pytest.mark.parametrize("method, sandbox", [("SandboxGetTaskId", "v1"), ("TaskExecStart", "v1"), ("TaskExecStart", "v2")])
def test_before_it_is_up(mount, calm, method, sandbox):
    mp = mount(max=1, sandbox=sandbox)
    calm.faults({"kind": "kill_sandbox", "method": method, "when": "before", "status": 10, "exitcode": -9, "count": 1})
    lease = mp.lease()
    assert lease.run("echo next") == ("next\n", 0)
    assert mp.hears("out of memory: the kernel killed it (kernel_oom_kill, exit code -9)")
    assert deaths(mp) == {("kernel_oom_kill", -9): 1}


def test_while_no_daemon_ran(mount, calm):
    """The next run takes the lease back, and says why its sandbox is gone."""
    mp = mount(max=1)
    lease = mp.lease()
    box = lease.read("environment").strip()
    mp.crash()
    calm.kill_sandbox(box, status=10, exitcode=137)
    mp.start()
    mp.until(lambda: lease.status()["state"] == "lost")
    assert "out of memory: the kernel killed it (kernel_oom_kill, exit code 137)" in lease.read("error")
