# SPDX-License-Identifier: MIT
"""What happens around the daemon: a disk that is full, a clock that jumps."""

import errno
import os
import subprocess

import pytest

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
    """Nothing is lost that was there, nothing is taken that could be lost, and it goes on when there is room again."""
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
    assert any("journal: not written" in line for line in mp.lines)
    assert lease.read("jobs/1/output") == "kept\n"
    mp.empty()
    assert idle.run("touch ran; wc -l < ran") == (f"{ran}\n", 0)
    assert mp.lease("t3").run("echo hi") == ("hi\n", 0)
    assert any("can be written again" in line for line in mp.lines)
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
    lease.submit("head -c 10000000 /dev/zero | tr '\\0' x; echo over")
    with open(lease / "output", "rb", buffering=0) as output:
        got = b"".join(iter(lambda: output.read(1 << 17), b""))
    assert 1 << 20 < len(got) < 4 << 20 and set(got) == {ord("x")}
    assert "could not be stored" in lease.read("error") and "No space left" in lease.read("error")
    assert lease.read("exit_code") == "137\n"
    lease.release()
    again = mp.lease("t2")
    assert again.run("echo hi") == ("hi\n", 0)
    mp.stop()


def test_clock_jumps(mount, compiled_library, tmp_path):
    """Wall time is for people: neither timeouts nor waits nor lifetimes follow when it is set."""
    jump = tmp_path / "jump"
    jump.write_text("0")
    mp = mount(start=False, max=2, min=1, idle_timeout=600)
    if mp.settings.wrapper:
        pytest.skip("preloads a library")
    mp.environment.update(LD_PRELOAD=compiled_library("clockjump"), CLOCKJUMP=str(jump))
    mp.start()
    lease = mp.lease()
    lease.run("true")
    environment = lease.read("environment")
    lease.write("timeout", "600")
    lease.submit("mkfifo go; echo begun; read x < go; echo over")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
        for seconds in (86400, -86400, 400 * 86400, 0):
            jump.write_text(str(seconds))
            mp.lease("other").run("true")
            (mp / "other").rmdir()
            assert lease.status()["state"] == "leased" and lease.status()["running"] == "2"
        lease.write("ctl", "kill")
    assert lease.read("exit_code") == "137\n" and lease.read("environment") == environment
    # A timeout goes by its own clock, however that of the wall is set meanwhile.
    jump.write_text("-86400")
    lease.write("timeout", "0.5")
    lease.submit("sleep 1000")
    assert lease.read("exit_code") == "124\n"
