# SPDX-License-Identifier: MIT
"""What a service manager hears: a datagram socket takes its place."""

import os
import signal
import socket
import subprocess
import tempfile

import pytest

import harness

WATCHDOG_S = 1.0


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}

    def next(self, limit=20):
        """The next message as a dictionary; None when none comes in time."""
        self.socket.settimeout(limit)
        try:
            text = self.socket.recv(4096).decode()
        except (TimeoutError, BlockingIOError):
            return None
        return dict(line.split("=", 1) for line in text.splitlines())

    def waiting(self):
        """All messages that have come already."""
        return list(iter(lambda: self.next(0), None))


@pytest.fixture(params=["path", "abstract"])
def manager(request):
    with tempfile.TemporaryDirectory(prefix="modalpool-") as directory:
        made = Manager(f"{directory}/notify" if request.param == "path" else "@" + directory)
        yield made
        made.socket.close()


def test_a_life(mount, manager):
    """Ready once the mount answers, signs of life while it runs, and word of the stop with the time that it may take."""
    mp = mount(environment=manager.environment, stop_timeout=7)
    first = manager.next()
    while "READY" not in first:
        assert first == {"WATCHDOG": "1"}
        first = manager.next()
    assert first["READY"] == "1" and str(mp.path) in first["STATUS"] and os.listdir(mp.path) == [".pool"]
    mp.lease().run("true")
    manager.waiting()
    for _ in range(3):
        assert manager.next() == {"WATCHDOG": "1"}
    mp.stop()
    left = [message for message in manager.waiting() if message != {"WATCHDOG": "1"}]
    assert len(left) == 1 and left[0]["STOPPING"] == "1" and left[0]["EXTEND_TIMEOUT_USEC"] == "12000000"


def test_not_ready_before_it_is(settings, manager, tmp_path):
    """A start that fails was never ready."""
    done = subprocess.run([settings.program, "-f", "-o", f"state={tmp_path}/state", "local", tmp_path / "nowhere"],
                          env={**os.environ, **manager.environment}, capture_output=True, text=True)
    assert done.returncode == 1 and "nowhere" in done.stderr
    assert not any("READY" in message for message in manager.waiting())


def test_no_sign_of_life_from_a_loop_that_stands(mount, manager):
    mp = mount(environment=manager.environment)
    os.kill(mp.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, mp.pid, os.WSTOPPED | os.WNOWAIT)
    manager.waiting()
    assert manager.next(2.5 * WATCHDOG_S) is None
    os.kill(mp.pid, signal.SIGCONT)
    assert manager.next() == {"WATCHDOG": "1"}


def test_watchdog_of_another_process(mount, manager):
    """WATCHDOG_PID names who is meant; without the variables nothing is wanted."""
    mp = mount(environment={**manager.environment, "WATCHDOG_PID": "1"})
    assert "READY" in manager.next()
    assert manager.next(1.5 * WATCHDOG_S) is None
    mp.stop()
    assert [list(message) for message in manager.waiting()] == [["STOPPING", "STATUS", "EXTEND_TIMEOUT_USEC"]]


def test_nobody_listens(mount, tmp_path):
    """A manager that is gone, or an address that is none, is no reason not to run."""
    for address in (f"{tmp_path}/nobody", "relative", "@", "/" + 200 * "x"):
        mp = mount(environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"})
        assert mp.lease().run("echo fine") == ("fine\n", 0)
        mp.stop()
        assert ("neither a path" in mp.log()) == (address != f"{tmp_path}/nobody")
        assert not harness.mounted(mp.path)
