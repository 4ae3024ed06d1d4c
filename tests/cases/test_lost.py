# SPDX-License-Identifier: MIT
"""Environments that die under their lease, or at other bad moments."""

import errno
import os
import signal
import subprocess

import pytest

import processes
from test_lease import fails


def murder(mp, signo=signal.SIGKILL):
    """Kill the newest sandbox from outside, its first process of all."""
    mp.murder(mp.sandboxes()[-1:], signo)


@pytest.mark.small
def test_lost(mount):
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("echo kept")
    lease.submit("echo started; sleep 1000")
    lease.submit("echo never")
    waiting = open(lease / "output", "rb", buffering=0)
    with open(lease / "jobs/2/output", "rb", buffering=0) as output:
        assert output.read(8) == b"started\n"
        murder(mp)
        fails(errno.EIO, output.read, 10)
    fails(errno.EIO, waiting.read, 10)
    waiting.close()
    status = lease.status()
    assert status["state"] == "lost" and status["environment"] == "-"
    assert "gone" in lease.read("error") and mp.settings.prefix in lease.read("error")
    for i in (2, 3):
        fails(errno.EIO, lease.read, f"jobs/{i}/exit_code")
        assert "gone" in lease.read(f"jobs/{i}/error")
    assert lease.read("jobs/1/output") == "kept\n" and lease.read("jobs/1/exit_code") == "0\n"
    fails(errno.ENODEV, os.open, lease / "cmd", os.O_WRONLY)
    fails(errno.ENODEV, lease.read, "environment")
    done = mp.sh("echo echo hi > t1/cmd", check=False)
    assert done.returncode == 1 and "No such device" in done.stderr


def test_renew(mount):
    mp = mount(max=1)
    lease = mp.lease()
    lease.write("env", "A=1\n")
    lease.run("echo > file")
    fails(errno.EINVAL, lease.write, "ctl", "renew\n")
    old = lease.read("environment")
    lease.submit("sleep 1000")
    lease.until_running()
    murder(mp)
    mp.until(lambda: lease.status()["state"] == "lost")
    lease.write("ctl", "renew\n")
    assert lease.run("echo $A; ls -A") == ("1\n", 0)
    assert lease.read("environment") != old and lease.read("error") == "ok\n"
    assert lease.status()["state"] == "leased"
    assert lease.status()["newest"] == "3"


def test_cmd_open_while_lost(mount):
    """What was open for writing when it was lost is not forgotten: it fails with a reason."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("true")
    cmd = open(lease / "cmd", "wb", buffering=0)
    cmd.write(b"echo never")
    murder(mp)
    mp.until(lambda: lease.status()["state"] == "lost")
    cmd.close()
    fails(errno.EIO, lease.read, "exit_code")
    assert "gone" in lease.read("jobs/latest/error")


def test_lost_lease_is_released(mount):
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("true")
    murder(mp)
    mp.until(lambda: lease.status()["state"] == "lost")
    lease.release()
    assert mp.lease().run("echo new") == ("new\n", 0)


@pytest.mark.local
def test_each_signal_is_noticed(mount):
    mp = mount(max=1)
    for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGSEGV):
        lease = mp.lease()
        lease.run("true")
        inner = [pid for pid in processes.descendants(mp.pid) if processes.read(f"/proc/{pid}/comm") == "helper\n"]
        processes.kill(inner[-1:], signal.SIGKILL if signo == signal.SIGTERM else signo)
        mp.murder(mp.sandboxes())
        mp.until(lambda: lease.status()["state"] == "lost")
        lease.release()


def test_job_that_kills_its_own_environment(mount):
    """Process 1 is beyond its reach; whatever a job kills, the lease stays or is honestly lost."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.submit("kill -9 -1; kill -9 1; echo alive")
    try:
        code = int(lease.read("exit_code"))
        assert code in (0, 137)
        assert lease.run("echo fine") == ("fine\n", 0)
    except OSError:
        assert lease.status()["state"] == "lost"


@pytest.mark.exact
def test_idle_environment_dies(mount):
    """Nobody is harmed: the next lease gets a new one."""
    mp = mount(max=1, min=1)
    mp.until(lambda: mp.environments()["idle"] == 1)
    murder(mp)
    mp.until(lambda: mp.stats()["environments_died_total"] == 1)
    assert mp.lease().run("echo new") == ("new\n", 0)


def test_waiting_leases_outlive_a_death(mount):
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("true")
    other = mp.lease("other")
    other.submit("echo my turn")
    murder(mp)
    assert other.read() == "my turn\n"
    assert lease.status()["state"] == "lost"


def test_readers_of_many_lost_leases(mount):
    mp = mount(max=3)
    leases = [mp.lease(f"t{i}") for i in range(3)]
    readers = []
    for lease in leases:
        lease.submit("echo up; sleep 1000")
        readers.append(subprocess.Popen(["cat", lease / "output"], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        assert readers[-1].stdout.readline() == b"up\n"
    mp.murder(mp.sandboxes())
    for lease, reader in zip(leases, readers):
        _, error = reader.communicate()
        assert reader.returncode == 1 and b"Input/output error" in error
        assert lease.status()["state"] == "lost"


@pytest.mark.parametrize("faults", ["create:1"])
def test_creation_that_fails(mount, faults):
    """The lease waits on, and says why; nothing spins."""
    mp = mount(fault=faults, wait="2.5", oversubscribe=False)
    lease = mp.lease()
    lease.submit("echo never")
    mp.until(lambda: lease.read("error") != "ok\n")
    assert lease.status()["state"] == "waiting" and "creat" in lease.read("error")
    assert "trouble" in (mp / ".pool/status").read_text()
    fails(errno.ETIMEDOUT, lease.read, "environment")
    assert "waited 2" in lease.read("error")
    assert 1 <= mp.stats()["environments_create_failures_total"] <= 10


def test_creation_that_is_refused(mount):
    """Nothing to wait for: the lease fails, and so do those that come; nobody goes on asking."""
    mp = mount(fault="refuse:1", wait="600")
    lease = mp.lease()
    lease.submit("echo never")
    fails(errno.EINVAL, lease.read, "environment")
    fails(errno.EIO, lease.read, "exit_code")
    assert "create refused; tried again after 30 s" in lease.read("error")
    assert mp.stats()["environments_create_failures_total"] == 3
    other = mp.lease("other")
    fails(errno.EINVAL, other.read, "environment")
    assert mp.stats()["environments_create_failures_total"] == 3
    assert "trouble       injected fault: create refused" in (mp / ".pool/status").read_text()
    mp.ctl("resume")
    other.write("ctl", "renew\n")
    fails(errno.EINVAL, other.read, "environment")
    assert mp.stats()["environments_create_failures_total"] == 6
    events = mp.sh("timeout 0.1 cat .pool/events", check=False).stdout
    assert events.count("creates-stopped") == 2 and events.count("creates-resumed") == 1


def test_refused_now_and_then(mount):
    """One refusal is no reason to give up."""
    mp = mount(max=1, fault="refuse:0.4", fault_seed=11)  # it strikes the first create only
    lease = mp.lease()
    assert lease.run("echo after all") == ("after all\n", 0)
    assert mp.stats()["environments_create_failures_total"] == 1


@pytest.mark.local
@pytest.mark.exact
def test_idle_environment_hangs(mount):
    """Nothing but a probe can tell; then another takes its place."""
    mp = mount(max=2, min=1, keepalive="0.2", probe_timeout="0.5")
    mp.until(lambda: mp.environments()["idle"] == 1)
    mp.until_settled()
    tree = list(processes.descendants(mp.pid))
    mp.murder(tree, signal.SIGSTOP)
    mp.until(lambda: mp.stats()["environments_died_total"] == 1)
    assert mp.lease().run("echo another") == ("another\n", 0)
    mp.until_settled()
    assert not set(tree) & set(processes.descendants(mp.pid))
    assert mp.hears("does not work any more")
    assert sum("probe failed: no end in time" in line for line in mp.lines) == 2


@pytest.mark.exact
def test_probes_are_in_nobodys_way(mount):
    """Whatever a probe is at when its environment is lent or ended."""
    mp = mount(max=2, keepalive="0.001")
    for i in range(20):
        lease = mp.lease(f"t{i}")
        assert lease.run("ls -A; echo hi > file; cat file") == ("hi\n", 0)
        lease.release()
        mp.until(lambda: mp.environments()["idle"] > 0)
    mp.ctl("recycle")
    mp.until(lambda: sum(mp.environments().values()) == 0)
    stats = mp.stats()
    assert stats["environments_died_total"] == 0 and stats["environments_clean_failures_total"] == 0
    assert stats["leases_granted_total"] == 20


@pytest.mark.exact
def test_idle_environment_is_probed(mount):
    """Over this backend probes succeed; they do not keep it from its end."""
    mp = mount(max=1, keepalive="0.1", idle_timeout="1.5")
    mp.ctl("prewarm 1")
    mp.until(lambda: mp.stats()["environments_destroyed_total"] == 1)
    assert mp.stats()["environments_died_total"] == 0
    assert not any("probe failed" in line for line in mp.lines)
    if mp.settings.simulator:
        assert len(mp.settings.simulator.stats()["execs"]) > 3


def test_death_at_the_start_of_a_job(mount):
    mp = mount(fault="death:1")
    lease = mp.lease()
    lease.submit("echo never")
    fails(errno.EIO, lease.read, "exit_code")
    assert lease.status()["state"] == "lost"
    fails(errno.ENODEV, os.open, lease / "cmd", os.O_WRONLY)


@pytest.mark.parametrize("seed", range(1, 6))
def test_clean_up_that_fails(mount, seed):
    """Such an environment is never lent again."""
    mp = mount(max=1, fault="clean:0.5+idle:0.3+delay:0.5", fault_seed=seed)
    for i in range(8):
        lease = mp.lease()
        assert lease.run("ls -A; touch file; mkdir -p .dot/deep") == ("", 0)
        lease.release()
    mp.until_settled()
    stats = mp.stats()
    assert stats["environments_cleaned_total"] + stats["environments_clean_failures_total"] + \
        stats["environments_died_total"] == 8
