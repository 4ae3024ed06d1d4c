# SPDX-License-Identifier: MIT
"""Local environments that live through a restart of their daemon: see orphan_timeout."""

import signal
import time

import pytest

import processes

pytestmark = [pytest.mark.local, pytest.mark.exact]



def restart(mp):
    mp.crash(survives=True)
    mp.lines.clear()
    mp.start()


@pytest.mark.limit(120)
def test_twenty_jobs_that_print(mount):
    """kill -9 of the daemon: the next one has all leases, all bytes, all exit codes."""
    mp = mount(max=20, orphan_timeout=60)
    leases = [mp.lease(f"t{n:02}") for n in range(20)]
    for n, lease in enumerate(leases):
        lease.submit(f"for i in $(seq 300); do echo {n} $i; sleep 0.02; done; exit {n}")
    for lease in leases:
        lease.until_running()
    before = {lease.name: lease.read("environment") for lease in leases}
    for _ in range(2):
        restart(mp)
    assert sorted(path.name for path in mp.path.iterdir() if path.name != ".pool") == sorted(before)
    for n, lease in enumerate(leases):
        assert lease.read("output") == "".join(f"{n} {i}\n" for i in range(1, 301))
        assert lease.read("exit_code") == f"{n}\n" and lease.read("environment") == before[lease.name]
        assert lease.run("echo on") == ("on\n", 0)
    assert mp.stats()["environments_created_total"] == 0 and mp.stats()["environments_adopted_total"] == 20


def test_more_output_than_is_kept(mount):
    """While nobody reads it, a job waits; nothing is lost."""
    mp = mount(max=1, orphan_timeout=60)
    lease = mp.lease()
    lease.submit("until [ -e go ]; do sleep 0.05; done; seq 500000; exit 3")
    lease.until_running()
    (lease / "files/go").touch()
    mp.crash(survives=True)
    time.sleep(0.5)
    mp.lines.clear()
    mp.start()
    assert lease.read("output") == "".join(f"{i}\n" for i in range(1, 500001)) and lease.read("exit_code") == "3\n"


def test_no_daemon_comes(mount):
    """After orphan_timeout nothing is left."""
    mp = mount(max=2, orphan_timeout=1.5)
    lease = mp.lease()
    lease.submit("setsid sleep 1234 & sleep 1234")
    lease.until_running()
    mp.lease("idle").read("environment")
    pids = processes.descendants(mp.pid)
    mp.crash(survives=True)
    assert len(processes.gone(pids, 0.5)) >= 6  # two sandboxes, and what runs in one
    assert processes.gone(pids, 20) == []
    mp.lines.clear()
    mp.start()  # it learns that they are gone
    mp.until(lambda: lease.status()["state"] == "lost")
    assert "it ended while there was no daemon" in lease.read("error")


def test_an_environment_that_died_meanwhile(mount):
    mp = mount(max=2, orphan_timeout=60)
    lost = mp.lease("lost")
    lost.run("true")
    victims = processes.descendants(mp.pid)
    kept = mp.lease("kept")
    kept.run("echo kept > file")
    mp.crash(survives=True)
    processes.kill(victims)
    assert processes.gone(victims, 5) == []
    mp.lines.clear()
    mp.start()
    mp.until(lambda: lost.status()["state"] == "lost")
    assert kept.run("cat file") == ("kept\n", 0)


@pytest.mark.parametrize("how", ["stop", "reap"])
def test_an_end_that_is_meant(mount, how):
    """Nothing waits for another daemon then."""
    mp = mount(max=2, orphan_timeout=600)
    lease = mp.lease()
    lease.submit("setsid sleep 1234 & sleep 1234")
    lease.until_running()
    pids = processes.descendants(mp.pid)
    restart(mp)
    lease.until_running()
    if how == "reap":
        mp.crash(survives=True)
        done = mp.reap()
        assert done.returncode == 0 and "1 environments ended" in done.stdout, done
        mp.crashed = False
    else:
        mp.stop()
    assert processes.gone(pids, 10) == []


@pytest.mark.parametrize("limit", [60, None])
def test_keep(mount, limit):
    """Left on purpose, they wait so long, or without limit."""
    mp = mount(max=1, start=False, orphan_timeout=limit, keep=True)
    if limit is None:
        del mp.options["orphan_timeout"]  # its default
    mp.start()
    lease = mp.lease()
    lease.submit("for i in $(seq 50); do echo $i; sleep 0.05; done")
    lease.until_running()
    mp.process.send_signal(signal.SIGTERM)
    assert mp.process.wait() == 0
    mp.process = None
    mp.lines.clear()
    mp.start()
    assert lease.read("output") == "".join(f"{i}\n" for i in range(1, 51)) and lease.read("exit_code") == "0\n"
    mp.options.update(keep=False)
    mp.crash(survives=True)
    mp.start()


def test_the_note_is_kept(mount):
    """An environment that comes back is lent again as it was, or ends."""
    mp = mount(max=1, orphan_timeout=60)
    lease = mp.lease()
    first = lease.read("environment")
    lease.run("echo x > /var/new")
    restart(mp)
    mp.until(lambda: lease.status()["state"] == "leased")
    lease.release()
    mp.until_settled()
    lease = mp.lease()
    assert lease.read("environment") == first and lease.run("ls /var") == ("tmp\n", 0)
    lease.run("chmod 711 /root")
    restart(mp)
    mp.until(lambda: lease.status()["state"] == "leased")
    lease.release()
    mp.until_settled()
    assert mp.lease().read("environment") != first


def test_who_else_calls(mount):
    """A job can reach the daemon's socket, and gets nothing for it."""
    mp = mount(max=1, orphan_timeout=60)
    lease = mp.lease()
    output, code = lease.run("""python3 -c '
import socket
for data in b"", b"x", b"k" * 16, b"k" * 17, b"k" * 100000:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect("/run/modalpool/state/daemon")
    s.send(data)
    print(len(data), s.recv(100))
'""")
    assert code == 0 and output.splitlines()[1:] == [f"{n} b''" for n in (1, 16, 17, 100000)], output
    assert lease.run("ls /run/modalpool/state; rm -f /run/modalpool/state/daemon; echo on") == (
        "daemon\nrm: cannot remove '/run/modalpool/state/daemon': Read-only file system\non\n", 0)
    restart(mp)
    assert lease.run("echo on") == ("on\n", 0)
