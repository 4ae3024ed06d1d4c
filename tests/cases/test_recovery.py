# SPDX-License-Identifier: MIT
"""What a daemon leaves at its end, and what the next one does with it."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import harness
import processes
from test_lease import fails


def again(mp):
    """kill -9, and the next start at the same place."""
    mp.crash()
    mp.lines.clear()
    mp.start()


def names(mp):
    """The leases there are."""
    return sorted(name for name in os.listdir(mp.path) if not name.startswith("."))


def digest_of(path):
    """Of a job's output, to its end: (digest, bytes)."""
    digest, seen = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 17):
            digest.update(piece)
            seen += len(piece)
    return digest, seen


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


def test_what_was_kept_counts_for_the_quota(mount):
    mp = mount(max=2, spool_max="100K")
    kept = mp.lease("kept")
    kept.write("stdin", b"x" * 20000)
    assert kept.run("head -c 70000 /dev/zero; true #" + "x" * 5000) == ("\0" * 70000, 0)
    before = mp.stats()["spool_bytes"]
    assert 75000 < before < 76000  # the command and the output, and no input any more
    again(mp)
    assert mp.stats()["spool_bytes"] == before
    other = mp.lease("other")
    output, code = other.run("head -c 30000 /dev/zero")
    assert (len(output), code) == (102400 - before, 137) and "spool_max" in other.read("error")
    kept.release()
    other.release()
    assert mp.stats()["spool_bytes"] == 0
    assert mp.lease("new").run("head -c 102400 /dev/zero | wc -c; head -c 90000 /dev/zero")[1] == 0


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
    """The mount works, and the log says what is lost."""
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


def test_a_copied_state_directory(mount, settings):
    """A cloned machine, or an image with state in it: the copy is a new pool, and leaves the environments to the original."""
    mp = mount(max=1)
    lease = mp.lease("mine")
    lease.run("echo kept")
    mp.crash()
    sandboxes = settings.simulator and mp.sandboxes()
    original = mp.state.with_name("original")
    mp.state.rename(original)
    shutil.copytree(original, mp.state)
    done = mp.reap()
    assert done.returncode == 1 and "a copy" in done.stderr and done.stderr.count("\n") == 1, done
    mp.lines.clear()
    mp.start()
    assert sum("a copy" in line for line in mp.lines) == 1
    assert names(mp) == []
    assert mp.lease("theirs").run("echo clone") == ("clone\n", 0)
    mp.stop()
    assert not settings.simulator or mp.sandboxes() == sandboxes
    mp.state.rmdir()
    original.rename(mp.state)
    mp.lines.clear()
    mp.start()
    assert not any("a copy" in line for line in mp.lines)
    assert names(mp) == ["mine"] and lease.read("jobs/1/output") == "kept\n"


def test_reap(mount):
    mp = mount(max=2)
    lease = mp.lease()
    lease.run("echo hi")
    alive = mp.reap()
    assert alive.returncode == 1 and "another modalpool serves" in alive.stderr
    assert lease.run("echo still") == ("still\n", 0)
    mp.crash()
    dry = mp.reap("--dry-run")
    assert dry.returncode == 0 and "would end" in dry.stdout and "1 leases forgotten" in dry.stdout
    assert list(mp.state.iterdir()) and harness.mounted(mp.path)
    done = mp.reap()
    assert done.returncode == 0, done.stderr
    assert "1 environments ended" in done.stdout and "0 left" in done.stdout
    assert list(mp.state.iterdir()) == [] and not harness.mounted(mp.path)
    mp.start()
    assert names(mp) == []


@pytest.mark.local
def test_reap_without_bubblewrap(mount, tmp_path):
    """Local environments have ended: reaping takes no sandbox that works. Serving does."""
    mp = mount(max=2)
    mp.lease().run("echo hi")
    mp.crash()
    whole, mp.environment["PATH"] = mp.environment["PATH"], str(tmp_path)
    (tmp_path / "fusermount3").symlink_to(shutil.which("fusermount3"))
    for flags, words in ((["--dry-run"], "1 environments would be ended, 1 leases forgotten"), ([], "1 environments ended")):
        done = mp.reap(*flags)
        assert done.returncode == 0 and words in done.stdout, done
    assert list(mp.state.iterdir()) == []
    done = subprocess.run(mp.command(), capture_output=True, text=True, env=mp.environment)
    assert done.returncode == 1 and done.stderr.startswith("modalpool: backend local: bwrap is not in PATH"), done
    assert len(done.stderr.splitlines()) == 1 and list(mp.state.iterdir()) == []
    mp.environment["PATH"] = whole
    mp.crashed = False


@pytest.mark.modal
def test_reap_needs_no_image(mount, settings):
    """What only new sandboxes need may be missing or wrong: existing ones end anyway."""
    mp = mount(max=2)
    mp.lease().run("echo hi")
    mp.crash()
    mp.options.update(secrets="gone", volumes="gone:/gone")
    done = mp.reap()
    assert done.returncode == 0 and "1 environments ended" in done.stdout and "0 left" in done.stdout, done
    assert not settings.simulator.stats()["sandboxes"]["live"]
    mp.crashed = False


def test_reap_of_nothing(mount):
    mp = mount(start=False)
    done = mp.reap()
    assert (done.returncode, done.stdout) == (0, "0 environments ended, 0 of them not in the journal; 0 left\n")
    assert list(mp.state.iterdir()) == []


def test_another_backend_is_refused(mount, tmp_path):
    """Sandboxes of one provider cannot be taken back from another: nothing changes."""
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
    mp.reap()


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


# Over Modal sandboxes and jobs outlive the daemon.


@pytest.fixture
def modal(settings):
    if settings.provider != "modal":
        pytest.skip("local environments end with their daemon")
    return settings.simulator


@pytest.mark.modal
@pytest.mark.limit(120)
def test_a_job_that_prints_100_mb(mount, modal, settings):
    """kill -9 in its middle, twice: every byte is there, in order, and the true exit code."""
    mp = mount(max=1)
    lease = mp.lease()
    size = 100_000_000 if settings.slow == 1 else 16_000_000
    lease.submit(f"seq -f %015.0f 0 {size // 16 - 1}; echo done >&2; exit 5")
    for part in (1, 2):
        with open(lease / "stdout", "rb", buffering=0) as stdout:
            got = 0
            while got < part * size // 3:
                got += len(stdout.read(1 << 17))
            mp.crash()
        mp.lines.clear()
        mp.start()
    digest, seen = digest_of(lease / "stdout")
    wanted = hashlib.sha256("".join("%015d\n" % i for i in range(size // 16)).encode())
    assert seen == size and digest.hexdigest() == wanted.hexdigest()
    assert lease.read("stderr") == "done\n" and lease.read("exit_code") == "5\n"
    assert lease.run("echo and on") == ("and on\n", 0)
    assert mp.stats()["environments_adopted_total"] == 1


AWAY_S = 300
AWAY_MIB = 2048


@pytest.mark.modal
@pytest.mark.many
@pytest.mark.limit(1800)
def test_a_job_that_prints_while_no_daemon_runs(mount, modal, settings):
    """It stops where its helper can keep no more, goes on with the next daemon, and no byte is lost. That one stays small."""
    mp = mount(max=1, output_max="4G", spool_max="8G", timeout=0)
    lease = mp.lease()
    lease.run("true")
    environment = lease.read("environment").strip()
    lease.submit("head -c 1048560 /dev/urandom > /tmp/block; mkfifo /tmp/sum; sha256sum < /tmp/sum > /tmp/was & "
                 f"for i in $(seq {AWAY_MIB}); do echo $i > /tmp/n; printf '%016d' $i; cat /tmp/block; done | tee /tmp/sum; "
                 "wait; exit 5")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(1)
    mp.crash()
    mp.lines.clear()
    time.sleep(AWAY_S / 2)
    assert modal.run(environment, "sh", "-c", "cp /tmp/n /tmp/then; ! [ -s /tmp/was ]") == 0
    time.sleep(AWAY_S / 2)
    assert modal.run(environment, "cmp", "-s", "/tmp/n", "/tmp/then") == 0
    mp.start()
    digest, seen = digest_of(lease / "output")
    assert lease.read("exit_code") == "5\n" and seen == AWAY_MIB << 20
    most = int(re.search(r"VmHWM:\s*(\d+) kB", processes.read(f"/proc/{mp.pid}/status"))[1]) / 1024
    print(f"{AWAY_MIB} MiB; the daemon's VmHWM is {most:.1f} MiB")
    assert most < 64 or settings.slow > 1  # a sanitizer keeps what is freed
    assert lease.run("cat /tmp/was")[0].split()[0] == digest.hexdigest()


@pytest.mark.modal
def test_everything_is_taken_back(mount, modal):
    """Idle, leased, running, queued, with input, killed, timed out: everything continues in the same sandboxes."""
    mp = mount(max=6, min=6)
    mp.until(lambda: mp.environments()["idle"] == 6)
    leases = {name: mp.lease(name) for name in ("runs", "ends", "kills", "late", "waits")}
    for lease in leases.values():
        lease.run("echo $PWD > /tmp/where")
    held = {name: lease.read("environment") for name, lease in leases.items()}
    before = sorted(mp.sandboxes())
    leases["runs"].write("stdin", "some input\n")
    leases["runs"].submit("mkfifo go; echo begun; read x < go; cat; exit 4")
    leases["runs"].submit("echo next")
    leases["ends"].submit("echo begun; (exec timeout 0.5 sleep 99); echo over; exit 6")
    leases["kills"].submit("trap '' TERM; echo begun; sleep 1000")
    leases["late"].write("timeout", "1")
    leases["late"].submit("echo begun; sleep 1000")
    for name in ("runs", "ends", "kills", "late"):
        leases[name].until_running(2)
        with open(leases[name] / "jobs/2/output", "rb", buffering=0) as output:
            assert output.read(6) == b"begun\n"
    mp.crash()
    while mp.alive("timeout"):
        pass  # it ends while there is no daemon
    mp.lines.clear()
    mp.start()
    assert {name: lease.read("environment") for name, lease in leases.items()} == held
    assert sorted(mp.sandboxes()) == before
    assert leases["ends"].read("jobs/2/output") == "begun\nover\n" and leases["ends"].read("exit_code") == "6\n"
    leases["kills"].write("ctl", "kill")
    assert leases["kills"].read("jobs/2/exit_code") == "137\n"
    assert leases["late"].read("exit_code") == "124\n" and leases["late"].read("jobs/2/output") == "begun\n"
    assert leases["runs"].status()["running"] == "2" and leases["runs"].status()["queued"] == "1"
    # Let it go on: from outside, for its lease has one job at a time.
    leases["runs"].write("ctl", "signal USR1")
    assert leases["runs"].read("jobs/2/exit_code") == "138\n"
    assert leases["runs"].read("jobs/3/output") == "next\n"
    assert leases["waits"].run("cat /tmp/where") == ("/root/hermes_tasks/waits\n", 0)
    mp.until_settled()
    assert sorted(mp.sandboxes()) == before


@pytest.mark.modal
def test_options_that_change_meanwhile(mount, modal):
    """A lease keeps its workdir; environments over the new maximum end when they come free."""
    mp = mount(max=2)
    one, two = mp.lease("one"), mp.lease("two")
    one.run("echo kept > file")
    two.run("true")
    mp.crash()
    mp.options.update(max=1, base="/tmp")
    mp.lines.clear()
    mp.start()
    assert one.run("pwd; cat file") == ("/root/hermes_tasks/one\nkept\n", 0)
    two.release()
    mp.until(lambda: sum(mp.environments()[s] for s in ("idle", "leased", "cleaning", "ending")) == 1)
    one.release()
    assert mp.lease("three").run("pwd; ls -A; ls -A /root/hermes_tasks 2> /dev/null || true") == ("/tmp/hermes_tasks/three\n", 0)


@pytest.mark.modal
def test_workdir_of_the_pool_that_changes_meanwhile(mount, modal):
    """The lease keeps it, and then its environment ends: to clean it up would remove what belongs to the image."""
    mp = mount(max=1, workdir="/srv/app")
    lease = mp.lease()
    lease.run("echo kept > file")
    used = lease.read("environment").strip()
    mp.crash()
    del mp.options["workdir"]
    mp.lines.clear()
    mp.start()
    assert lease.run("pwd; cat file") == ("/srv/app\nkept\n", 0)
    lease.release()
    other = mp.lease("other")
    assert other.run("pwd") == ("/root/hermes_tasks/other\n", 0) and other.read("environment").strip() != used
    assert mp.stats()["environments_cleaned_total"] == 0


@pytest.mark.modal
def test_a_job_that_ended_in_time_did_not_time_out(mount, modal):
    """Although its timeout had passed when the next daemon started."""
    mp = mount(max=2)
    ends, late = mp.lease("ends"), mp.lease("late")
    for lease in (ends, late):
        lease.write("timeout", "2")
    ends.submit("echo begun; (exec timeout 0.5 sleep 99); echo over; exit 6")
    late.submit("echo begun; sleep 1000")
    ends.until_running()
    late.until_running()
    mp.crash()
    while mp.alive("timeout"):
        pass
    time.sleep(2)
    mp.lines.clear()
    mp.start()
    assert ends.read() == "begun\nover\n" and ends.read("exit_code") == "6\n"
    assert ends.read("error") == "ok\n"
    assert late.read("exit_code") == "124\n" and "timed out" in late.read("error")
    assert {how: n for how, n in mp.stats()["jobs_ended"].items() if n} == {"failed": 1, "timeout": 1}


@pytest.mark.modal
def test_dirty_environments_are_cleaned_before_they_are_lent(mount, modal):
    """The daemon is killed during the clean-up: what the lease left is removed anyway."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("sleep 1234 & touch .dot; echo kept > file")
    modal.faults({"kind": "hang", "method": "Task*"})
    lease.release()
    mp.until(lambda: mp.environments()["cleaning"] == 1)
    mp.crash()
    modal.faults()
    mp.lines.clear()
    mp.start()
    lease = mp.lease()
    assert lease.run("ls -A; pgrep -f 'sleep 123[4]'") == ("", 1)
    assert mp.stats()["environments_adopted_total"] == 1


@pytest.mark.modal
def test_a_dead_sandbox_is_not_taken_back(mount, modal):
    mp = mount(max=2)
    one, two = mp.lease("one"), mp.lease("two")
    one.run("echo kept")
    two.submit("echo begun; sleep 1000")
    two.until_running()
    mp.crash()
    for sandbox in mp.sandboxes():
        modal.kill_sandbox(sandbox)
    mp.lines.clear()
    mp.start()
    mp.until(lambda: two.status()["state"] == one.status()["state"] == "lost")
    fails(errno.EIO, two.read, "exit_code")
    assert "gone" in two.read("jobs/1/error"), two.read("jobs/1/error")
    assert one.read("jobs/1/output") == "kept\n"
    two.write("ctl", "renew")
    assert two.run("echo new") == ("new\n", 0)


@pytest.mark.modal
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_create_that_was_never_answered(mount, modal, rpc, when):
    """Only Modal knows the sandbox: the next start finds it by its tag and ends it."""
    mp = mount(max=1)
    modal.faults({"kind": "hang", "method": rpc("SandboxCreate"), "when": when})
    mp.lease()
    while not modal.stats()["faults"]:
        pass
    assert len(mp.sandboxes()) == (when == "after")
    mp.crash()
    modal.faults()
    mp.lines.clear()
    mp.start()
    lease = mp.path / "t1"
    assert (lease / "environment").read_text().startswith("sb-")
    mp.until(lambda: mp.environments()["ending"] == 0)
    assert len(mp.sandboxes()) == 1


@pytest.mark.modal
def test_keep_over_modal(mount, modal):
    """Stopped on purpose, with jobs that go on."""
    mp = mount(max=2, min=2, keep=True)
    lease = mp.lease()
    mp.until(lambda: sum(mp.environments().values()) == 2 and mp.environments()["creating"] == 0)
    lease.submit("for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done; exit 3")
    lease.until_running()
    before = sorted(mp.sandboxes())
    mp.process.send_signal(signal.SIGTERM)
    assert mp.process.wait() == 0
    mp.listener.join()
    assert sorted(mp.sandboxes()) == before and not harness.mounted(mp.path)
    mp.lines.clear()
    mp.options["keep"] = False
    mp.start()
    assert lease.read() == "1\n2\n3\n4\n5\n6\n" and lease.read("exit_code") == "3\n"
    assert sorted(mp.sandboxes()) == before


@pytest.mark.modal
def test_reap_over_modal(mount, modal):
    """All sandboxes, including unknown ones, but none of another mount of the same app."""
    mp, other = mount(max=3), mount(max=1)
    mp.lease().run("true")
    other.lease().run("true")
    theirs = other.lease("x") and [one for one in mp.sandboxes()]
    mine = (mp / "t1/environment").read_text().strip()
    mp.crash()
    dry = mp.reap("--dry-run")
    assert dry.returncode == 0 and f"would end {mine}" in dry.stdout, dry.stdout + dry.stderr
    assert sorted(mp.sandboxes()) == sorted(theirs)
    done = mp.reap()
    assert done.returncode == 0 and f"ending {mine}" in done.stdout, done.stdout + done.stderr
    assert mp.sandboxes() == [one for one in theirs if one != mine]
    assert (other / "t1/status").exists() and other.stats()["environments"]["leased"] == 1
    assert list(mp.state.iterdir()) == [] and not harness.mounted(mp.path)


@pytest.mark.modal
@pytest.mark.parametrize("signals", [(signal.SIGHUP, signal.SIGHUP), (signal.SIGTERM, signal.SIGHUP),
                                     (signal.SIGHUP, signal.SIGTERM)], ids=lambda signals: "-".join(s.name for s in signals))
def test_a_hangup_is_never_the_second_signal(mount, calm, rpc, signals):
    """A terminal or session that ends sends more than one signal, but no sandbox may be left running."""
    mp = mount(max=1, stop_timeout=1000)
    mp.lease().run("true")
    terminate = rpc("SandboxTerminate")
    calm.faults({"kind": "status", "code": "UNAVAILABLE", "method": terminate})
    refused = len(mp.lines)
    for signo in signals:
        mp.process.send_signal(signo)
        calm.until(lambda stats: stats["faults"].get(f"status {terminate}", 0) > (signo is signals[1]) * 3)
    assert mp.process.poll() is None, mp.lines[refused:]
    calm.faults()
    mp.stop(signo=None)
    assert mp.sandboxes() == []


@pytest.mark.modal
def test_what_could_not_be_ended_is_ended_by_the_next_start(mount, modal, rpc):
    mp = mount(max=2, stop_timeout=1)
    mp.expected += ["not ended", "did not end in time"]
    mp.lease().run("true")
    modal.faults({"kind": "status", "code": "UNAVAILABLE", "method": rpc("SandboxTerminate")})
    mp.process.send_signal(signal.SIGTERM)
    assert mp.process.wait() == 0
    mp.listener.join()
    assert len(mp.sandboxes()) == 1 and list(mp.state.iterdir())
    assert any("did not end in time" in line and mp.sandboxes()[0] in line for line in mp.lines)
    modal.faults()
    mp.lines.clear()
    mp.start()
    mp.until(lambda: mp.environments()["ending"] == 0)
    assert mp.sandboxes() == [] and names(mp) == []


@pytest.mark.modal
@pytest.mark.limit(60)
def test_50_leases_at_sigterm(mount, modal):
    """Within stop_timeout nothing is left of them."""
    mp = mount(max=50, creates=50)
    leases = [mp.lease(f"t{i}") for i in range(50)]
    for lease in leases:
        lease.submit("sleep 1000")
    for lease in leases:
        lease.until_running()
    mp.process.send_signal(signal.SIGTERM)
    assert mp.process.wait() == 0
    assert mp.sandboxes() == []
    mp.process = None
    mp.listener.join()
    assert list(mp.state.iterdir()) == []
