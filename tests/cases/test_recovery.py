# SPDX-License-Identifier: MIT
"""What is left after the end of a daemon, and what the next one makes of it."""

import errno
import os
import signal
import subprocess

import pytest

import harness
from test_lease import fails


def again(mp):
    """kill -9, and the next start at the same place."""
    mp.crash()
    mp.lines.clear()
    mp.start()


def names(mp):
    """The leases there are."""
    return sorted(name for name in os.listdir(mp.path) if not name.startswith("."))


@pytest.fixture
def local(settings):
    if settings.provider != "local":
        pytest.skip("only local environments end with their daemon")


@pytest.mark.small
def test_finished_jobs_and_settings_survive(mount):
    mp = mount(max=2)
    one, two = mp.lease("one"), mp.lease("späße $(x)")
    one.run("printf out; printf err >&2; printf more; exit 7")
    big = b"echo \xff; exit 3 # " + b"x" * 100_000
    two.submit(big)
    assert two.read("exit_code") == "3\n"
    two.write("timeout", "77")
    two.write("env", "A=1\nB=2\n")
    two.write("cwd", "sub")
    seen = {name: one.read(f"jobs/1/{name}") for name in ("cmd", "output", "stdout", "stderr", "exit_code", "error")}
    again(mp)
    assert names(mp) == ["one", "späße $(x)"]
    assert {name: one.read(f"jobs/1/{name}") for name in seen} == seen
    assert sorted(seen["output"]) == sorted("outerrmore")
    assert (two / "jobs/1/cmd").read_bytes() == big and two.read("jobs/1/exit_code") == "3\n"
    assert (two / "jobs/1/output").read_bytes() == b"\xff\n"
    assert (two.read("timeout"), two.read("env"), two.read("cwd")) == ("77\n", "A=1\nB=2\n", "sub\n")
    assert [os.stat(lease.path).st_mode & 0o777 for lease in (one, two)] == [0o700, 0o700]


def test_local_environments_end_with_their_daemon(mount, local):
    mp = mount(max=1)
    lease, waiting = mp.lease("t1"), mp.lease("t2")
    lease.run("echo kept")
    lease.submit("sleep 1000")
    lease.submit("echo never")
    waiting.submit("echo hi")
    lease.until_running(2)
    again(mp)
    assert lease.status()["state"] == "lost" and "renew" in lease.read("error")
    assert lease.read("jobs/1/output") == "kept\n" and lease.read("jobs/1/exit_code") == "0\n"
    for number in (2, 3):
        fails(errno.EIO, lease.read, f"jobs/{number}/exit_code")
        assert "ended with the daemon" in lease.read(f"jobs/{number}/error")
    fails(errno.ENODEV, os.open, lease / "cmd", os.O_WRONLY)
    # What waited goes on waiting, and has its turn.
    assert waiting.read() == "hi\n" and waiting.read("exit_code") == "0\n"
    waiting.release()
    lease.write("ctl", "renew")
    assert lease.run("ls -A") == ("", 0)
    assert lease.status()["newest"] == "4"


def test_files_of_nobody_are_removed(mount):
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("echo kept; echo kept >&2")
    spool = next(mp.state.rglob("spool"))
    kept = sorted(path.name for path in spool.iterdir())
    assert kept
    for name in ("blob.7", "99.1.stdout", "1.99.stderr", "odd"):
        (spool / name).write_text("left")
    again(mp)
    assert sorted(path.name for path in spool.iterdir()) == kept
    lease.release()
    assert list(spool.iterdir()) == []


def test_crash_after_crash(mount, times=3):
    mp = mount(max=2)
    lease = mp.lease()
    for number in range(1, times + 1):
        assert lease.run(f"echo {number}") == (f"{number}\n", 0)
        again(mp)
        for i in range(1, number + 1):
            assert lease.read(f"jobs/{i}/output") == f"{i}\n"
        if lease.status()["state"] == "lost":
            lease.write("ctl", "renew")
    fresh = mp.lease("fresh")
    assert fresh.run("echo hi") == ("hi\n", 0)


def test_crash_of_an_empty_pool(mount):
    mp = mount(max=1)
    again(mp)
    assert mp.lease().run("echo hi") == ("hi\n", 0)


def test_damaged_journal_is_put_aside(mount):
    """The mount works, and says what is lost."""
    mp = mount(max=1)
    mp.lease().run("echo gone")
    mp.crash()
    mp.expected.append("journal .*: damaged")
    journal = next(mp.state.rglob("journal"))
    wal = journal.with_name("journal-wal")
    if wal.exists():
        wal.unlink()
    journal.write_bytes(b"no journal" * 1000)
    mp.lines.clear()
    mp.start()
    assert any("damaged" in line and "journal.damaged" in line for line in mp.lines)
    assert journal.with_name("journal.damaged").exists()
    assert names(mp) == []
    assert mp.lease().run("echo hi") == ("hi\n", 0)


def run_reap(mp, *flags):
    command = [*mp.settings.wrapper, mp.settings.program, "reap", *flags, "-o", harness.option_words(mp.options),
               mp.settings.provider, str(mp.path)]
    return subprocess.run(command, capture_output=True, text=True, env=mp.environment, stdin=subprocess.DEVNULL)


def test_reap(mount):
    mp = mount(max=2)
    lease = mp.lease()
    lease.run("echo hi")
    alive = run_reap(mp)
    assert alive.returncode == 1 and "another modalpool serves" in alive.stderr
    assert lease.run("echo still") == ("still\n", 0)
    mp.crash()
    dry = run_reap(mp, "--dry-run")
    assert dry.returncode == 0 and "would end" in dry.stdout and "1 leases forgotten" in dry.stdout
    assert list(mp.state.iterdir()) and harness.mounted(mp.path)
    done = run_reap(mp)
    assert done.returncode == 0, done.stderr
    assert "1 environments ended" in done.stdout and "0 left" in done.stdout
    assert list(mp.state.iterdir()) == [] and not harness.mounted(mp.path)
    mp.start()
    assert names(mp) == []


def test_reap_of_nothing(mount):
    mp = mount(start=False)
    done = run_reap(mp)
    assert (done.returncode, done.stdout) == (0, "0 environments ended, 0 of them in nobody's books; 0 left\n")
    assert list(mp.state.iterdir()) == []


def test_another_backend_is_refused(mount, tmp_path):
    """What one provider has cannot be taken back from another: nothing is touched."""
    mp = mount(max=1)
    mp.lease().run("echo hi")
    mp.crash()
    journal = next(mp.state.rglob("journal"))
    other = "modal" if mp.settings.provider == "local" else "local"
    done = subprocess.run([mp.settings.program, "-o", harness.option_words(mp.options), other, str(mp.path)],
                          capture_output=True, text=True, env=mp.environment)
    assert done.returncode == 1
    assert f"backend {mp.settings.provider}" in done.stderr and "reap" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert journal.exists()
    mp.lines.clear()
    mp.start()
    assert names(mp) == ["t1"]


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_keep(mount, signo):
    mp = mount(max=2, keep=True)
    lease = mp.lease()
    lease.run("echo kept")
    mp.process.send_signal(signo)
    assert mp.process.wait() == 0
    mp.listener.join()
    assert not harness.mounted(mp.path) and list(mp.state.iterdir())
    mp.lines.clear()
    mp.start()
    assert lease.read("jobs/1/output") == "kept\n"
    lease.release()
    mp.options["keep"] = False
    mp.process.send_signal(signo)
    assert mp.process.wait() == 0
    mp.process = None
    mp.listener.join()
    run_reap(mp)


def test_a_start_that_fails_loses_nothing(mount):
    """After a crash, a start that is refused leaves everything for the next one."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("echo kept")
    mp.crash()
    subprocess.run(["umount", "-l", mp.path], check=False, capture_output=True)
    subprocess.run(["fusermount3", "-uz", mp.path], check=False, capture_output=True)
    mp.path.rmdir()
    mp.path.write_text("no directory")
    with pytest.raises(RuntimeError, match="not a directory"):
        mp.lines.clear()
        mp.start()
    mp.path.unlink()
    mp.path.mkdir()
    mp.lines.clear()
    mp.start()
    assert lease.read("jobs/1/output") == "kept\n"
