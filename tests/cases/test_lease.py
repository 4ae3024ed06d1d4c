# SPDX-License-Identifier: MIT
"""mkdir and rmdir: names, refusals, the tree of a lease, and what cannot be done in it."""

import errno
import json
import os
import shutil
import stat
import subprocess
import time

import pytest

FILES = {"cmd", "output", "stdout", "stderr", "exit_code", "result", "status", "error", "environment", "stdin",
         "cwd", "timeout", "env", "user", "ctl", "files", "watch", "ports", "jobs"}
DIRECTORIES = {"ports", "jobs"}
JOB_FILES = {"cmd", "output", "stdout", "stderr", "exit_code", "result", "status", "error", "ctl"}


def fails(code, call, *args, **more):
    with pytest.raises(OSError) as raised:
        call(*args, **more)
    assert raised.value.errno == code, f"{errno.errorcode.get(raised.value.errno)}, not {errno.errorcode[code]}"


@pytest.mark.small
def test_the_promise(mp):
    done = mp.sh("mkdir t1 && echo 'echo hi; exit 3' > t1/cmd && cat t1/output t1/exit_code && rmdir t1")
    assert done.stdout == "hi\n3\n"


def test_fresh_mount(mp):
    assert set(os.listdir(mp.path)) == {".pool"}
    assert set(os.listdir(mp / ".pool")) == {"status", "stats", "metrics", "config", "events", "ctl"}
    assert stat.S_IMODE((mp / ".pool").stat().st_mode) == 0o755
    assert stat.S_IMODE((mp / ".pool/ctl").stat().st_mode) == 0o600


@pytest.mark.small
def test_tree_of_a_lease(lease):
    assert set(os.listdir(lease.path)) == FILES
    assert os.listdir(lease / "jobs") == []
    assert stat.S_IMODE(lease.path.stat().st_mode) == 0o700
    for name in FILES:
        found = (lease / name).lstat()
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
        assert stat.S_ISDIR(found.st_mode) == (name in DIRECTORIES)


def test_tree_of_a_job(lease):
    lease.run("echo hi")
    assert set(os.listdir(lease / "jobs")) == {"1", "latest"}
    assert os.readlink(lease / "jobs/latest") == "1"
    assert set(os.listdir(lease / "jobs/1")) == JOB_FILES
    for name in ("01", "0", "2", "x", "1x", "-1", "99999999999999999999"):
        assert not (lease / "jobs" / name).exists()


GOOD_NAMES = ["a", "Z9", "with space", " lead", "trail ", "it's", 'dou"ble', "$(touch BAD)", "`touch BAD`", "-rf", "--",
              "*", "?[a]", "a;b", "a@b", "a|b&c", "%s%n", "\\back\\", "~", "#hash", "grüße", "日本語", "🙂", "👩\u200d💻", "می\u200cخواهم", "a.b", "cmd",
              "x" * 200, "é" * 100, "{a,b}", "a=b", "!1", "<in>", "latest", "1"]


def test_names(mp):
    """Each works as a lease, and no shell ever sees more in it than a name."""
    for name in GOOD_NAMES:
        lease = mp.lease(name)
        assert name in os.listdir(mp.path)
        output, code = lease.run("printf %s \"${PWD##*/}\"; ls -A | wc -l; ls -A .. | grep -cx BAD; :")
        assert (output, code) == (name + "0\n0\n", 0)
        lease.release()
        assert not lease.path.exists()


@pytest.mark.parametrize("name", [b".hidden", b".poolx", b"...", b"@", b"new\nline", b"tab\there", b"esc\x1b[0m", b"del\x7f",
                                  b"\xff", b"latin\xe9", b"cut\xe2\x82", b"long\xc0\xaf", b"sur\xed\xa0\x80",
                                  b"\xf5\x80\x80\x80", "c1\u0085".encode(), "line\u2028".encode(), "mark\u200e".encode(),
                                  "txt\u202eexe".encode(), "isolate\u2066".encode(), "arabic\u061c".encode(), "bom\ufeff".encode()])
def test_refused_names(mp, name):
    fails(errno.EINVAL, os.mkdir, os.fsencode(mp.path) + b"/" + name)
    assert os.listdir(mp.path) == [".pool"]


def test_long_names(mp):
    for name in ("x" * 201, "é" * 101, "x" * 255):
        fails(errno.ENAMETOOLONG, os.mkdir, mp / name)
        fails(errno.ENAMETOOLONG, os.stat, mp / name)


def test_name_taken(mp):
    mp.lease()
    fails(errno.EEXIST, os.mkdir, mp / "t1")
    fails(errno.EEXIST, os.mkdir, mp / ".pool")
    done = mp.sh("mkdir t1", check=False)
    assert done.returncode == 1 and "File exists" in done.stderr


def test_name_free_at_once(mp):
    for i in range(50):
        lease = mp.lease()
        lease.submit(f"echo {i}; sleep 100")
        lease.release()
        assert os.listdir(mp.path) == [".pool"]
    lease = mp.lease()
    assert lease.run("ls -A") == ("", 0)


def test_limit_of_leases(mount):
    mp = mount(max=1, max_leases=3)
    for i in range(3):
        mp.lease(f"t{i}")
    fails(errno.EAGAIN, os.mkdir, mp / "t3")
    (mp / "t0").rmdir()
    mp.lease("t3")


def test_what_cannot_be_done(mp):
    lease = mp.lease()
    lease.run("true")
    outside = mp.directory / "file"
    outside.write_text("x")
    fails(errno.EPERM, os.rename, lease.path, mp / "t2")
    fails(errno.EPERM, os.rename, lease / "cmd", lease / "cmd2")
    fails(errno.EPERM, os.rename, lease / "cmd", lease / "output")
    fails(errno.EPERM, os.rename, lease / "jobs", lease / "j")
    fails(errno.EXDEV, os.rename, outside, lease / "cmd")
    fails(errno.EPERM, os.link, lease / "output", lease / "output2")
    fails(errno.EPERM, os.symlink, "x", lease / "link")
    fails(errno.EPERM, os.symlink, "x", mp / "link")
    fails(errno.EPERM, os.mkfifo, lease / "fifo")
    fails(errno.EPERM, os.mknod, lease / "node", 0o600 | stat.S_IFREG)
    fails(errno.EPERM, os.mknod, mp / "node", 0o600 | stat.S_IFREG)
    for where in (lease.path, lease / "jobs/1", mp / ".pool"):
        fails(errno.EPERM, os.mkdir, where / "nested")
        fails(errno.EPERM, open, where / "new", "w")
    fails(errno.EINVAL, os.mkdir, lease / "jobs/2")
    fails(errno.EPERM, open, lease / "jobs/new", "w")
    fails(errno.EPERM, open, mp / "new", "w")
    fails(errno.EPERM, os.chown, lease.path, 12345, -1)
    fails(errno.EPERM, os.chown, lease / "cmd", -1, 12345)
    for size in (0, 5):
        fails(errno.EACCES, os.truncate, lease / "output", size)
    fails(errno.EINVAL, os.truncate, lease / "cmd", 5)
    fails(errno.EACCES, open, lease / "output", "w")
    fails(errno.EACCES, open, lease / "jobs/1/cmd", "w")
    fails(errno.EPERM, os.unlink, mp / ".pool/stats")
    fails(errno.EPERM, os.rmdir, mp / ".pool")
    fails(errno.ENOENT, os.stat, lease / "nothing")
    fails(errno.ENOENT, os.unlink, lease / "nothing")
    fails(errno.ENOENT, os.rmdir, mp / "nothing")
    fails(errno.ENOTDIR, os.rmdir, lease / "cmd")
    fails(errno.EISDIR, os.unlink, lease / "jobs")
    assert set(os.listdir(lease.path)) == FILES and os.listdir(lease / "jobs/1")


def test_what_changes_nothing(lease):
    """What tools do in passing is no error."""
    os.chown(lease.path, os.geteuid(), os.getegid())
    os.chmod(lease.path, 0o700)
    os.utime(lease / "cmd")
    os.truncate(lease / "cmd", 0)
    lease.mount.sh("touch t1/cmd t1/env; test -d t1 && test -w t1/cmd && test -r t1/output && df t1")
    assert os.listdir(lease / "jobs") == []
    assert lease.run("echo still here") == ("still here\n", 0)


@pytest.mark.small
def test_unlink(lease):
    """A name goes; what it named does not, and all names are back behind the next submission."""
    lease.run("echo kept")
    with open(lease / "cmd", "wb", buffering=0) as cmd, open(lease / "output") as output:
        for name in sorted(FILES - DIRECTORIES) + ["jobs/1/output", "jobs/latest"]:
            os.unlink(lease / name)
            fails(errno.ENOENT, os.lstat, lease / name)
            fails(errno.ENOENT, os.unlink, lease / name)
            fails(errno.ENOENT, open, lease / name)
        assert set(os.listdir(lease.path)) == DIRECTORIES and os.listdir(lease / "jobs") == ["1"]
        assert set(os.listdir(lease / "jobs/1")) == JOB_FILES - {"output"}
        assert output.read() == "kept\n"
        assert lease.mount.sh("ls -A t1; cat t1/output", check=False).stdout == "jobs\nports\n"
        cmd.write(b"echo next")
    assert lease.read() == "next\n" and lease.read("jobs/1/output") == "kept\n"
    assert set(os.listdir(lease.path)) == FILES and os.readlink(lease / "jobs/latest") == "2"


def test_unlink_in_one_lease(mp):
    """Others keep their names, and so does the pool."""
    one, other = mp.lease("one"), mp.lease("other")
    one.run("true"), one.run("true"), other.run("true")
    os.unlink(one / "env"), os.unlink(one / "jobs/1/cmd")
    assert set(os.listdir(other.path)) == FILES and set(os.listdir(one.path)) == FILES - {"env"}
    for job in (other / "jobs/1", one / "jobs/2"):
        assert set(os.listdir(job)) == JOB_FILES
    other.run("true")
    assert set(os.listdir(one.path)) == FILES - {"env"}
    one.release()
    assert set(os.listdir(mp.lease("one").path)) == FILES


@pytest.mark.small
def test_create_what_was_unlinked(lease):
    """That brings all names back; what fails does not."""
    lease.run("true")
    for name in ("cmd", "output", "env", "stdin", "jobs/latest", "jobs/1/output"):
        os.unlink(lease / name)
    gone = FILES - {"cmd", "output", "env", "stdin"}
    for name in ("output", "jobs/1/output"):
        fails(errno.EACCES, os.open, lease / name, os.O_WRONLY | os.O_CREAT)
        fails(errno.EACCES, os.open, lease / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        fails(errno.ENOENT, os.open, lease / name, os.O_WRONLY)
    for name in ("cmd", "output", "jobs/1/output"):
        fails(errno.EPERM, os.mkdir, lease / name)
        fails(errno.EPERM, os.symlink, "x", lease / name)
        fails(errno.EPERM, os.mkfifo, lease / name)
        fails(errno.EPERM, os.link, lease / "ctl", lease / name)
        fails(errno.EPERM, os.rename, lease / "ctl", lease / name)
    for name in ("new", "jobs/latest", "jobs/new", "jobs/1/new"):
        fails(errno.EPERM, os.open, lease / name, os.O_WRONLY | os.O_CREAT)
    assert set(os.listdir(lease.path)) == gone
    os.close(os.open(lease / "env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    assert set(os.listdir(lease.path)) == FILES and os.readlink(lease / "jobs/latest") == "1"
    assert set(os.listdir(lease / "jobs/1")) == JOB_FILES
    fails(errno.EEXIST, os.open, lease / "cmd", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


@pytest.mark.small
def test_a_new_file_is_empty(lease):
    """What was unlinked and made again has nothing of the old one."""
    lease.write("env", "A=1"), lease.write("stdin", "old\n")
    os.unlink(lease / "env"), os.unlink(lease / "stdin")
    lease.mount.sh("set -C; echo new >> t1/stdin; rm t1/env; : > t1/env")
    assert lease.read("env") == ""
    assert lease.run("cat; echo $A") == ("new\n\n", 0)


def test_directories_stay(lease):
    """rmdir of what is in a lease is for tools that remove a tree."""
    lease.run("echo kept")
    lease.mount.sh("rm -rf t1/jobs/1; rmdir t1/jobs t1/ports")
    assert (lease / "ports/1").exists()
    assert set(os.listdir(lease.path)) == FILES and set(os.listdir(lease / "jobs")) == {"1", "latest"}
    lease.run("true")
    assert lease.read("jobs/1/output") == "kept\n"


def test_directories_stay_for_others(lease):
    """Who stands in a directory that was removed keeps the dead one; nobody else sees it."""
    lease.run("echo kept")
    held = [os.open(lease / name, os.O_RDONLY) for name in ("jobs", "jobs/1")]
    for _ in range(2):
        os.rmdir(lease / "jobs/1"), os.rmdir(lease / "jobs")
        assert set(os.listdir(lease / "jobs")) == {"1", "latest"}
        assert lease.read("jobs/1/output") == "kept\n"
    for fd in held:
        os.close(fd)


@pytest.mark.parametrize("script", ["rm -rf t1", "rm -r t1", "find t1 -delete", "rm -rf t1/ t2", "rm -rf t*"])
def test_remove_the_tree(mp, script):
    mp.lease().run("echo one; exit 1")
    mp.sh(script)
    assert os.listdir(mp.path) == [".pool"]
    mp.until(lambda: mp.environments()["leased"] == 0)


def test_rmtree(lease):
    lease.run("echo one")
    shutil.rmtree(lease.path)
    assert os.listdir(lease.mount.path) == [".pool"]


def test_node_rm(mp, need):
    need("node")
    mp.lease().run("echo one")
    mp.sh(["node", "-e", "require('fs').rmSync('t1', {recursive: true, force: true})"])
    assert os.listdir(mp.path) == [".pool"]


def test_many_leases_in_one_listing(mount):
    """More than one READDIR holds, in order of making."""
    mp = mount(max=1)
    names = [f"{'n' * 150}{i:04}" for i in range(1000)]
    for name in names:
        os.mkdir(mp / name)
    assert [e for e in os.listdir(mp.path) if e != ".pool"] == names
    with os.scandir(mp.path) as entries:
        for i, entry in enumerate(entries):
            assert entry.is_dir(follow_symlinks=False)
            if entry.name != ".pool" and i % 2:
                os.rmdir(entry.path)
    mp.sh("rm -rf n*")
    assert os.listdir(mp.path) == [".pool"]


def test_stat_of_the_root(mount):
    """df -i counts leases: an alarm at 100 % is right, mkdir fails then."""
    mp = mount(max=1, max_leases=2)
    for used, name in enumerate(("t1", "t2", None)):
        found = os.statvfs(mp.path)
        assert (found.f_namemax, found.f_files, found.f_ffree, found.f_favail) == (200, 2, 2 - used, 2 - used)
        assert mp.sh("df --output=iused,ipcent . | tail -n 1").stdout.split() == [str(used), f"{used * 50}%"]
        if name:
            mp.lease(name)
    fails(errno.EAGAIN, os.mkdir, mp / "t3")
    assert mp.sh("df . && stat -f . && ls -la . .pool").returncode == 0


def test_status(lease):
    lease.run("exit 3")
    status = lease.status()
    assert status["state"] == "leased" and status["newest"] == "1" and status["running"] == "-"
    assert status["environment"] == lease.read("environment").strip()
    assert status["error"] == "ok" and lease.read("error") == "ok\n"
    job = lease.status("jobs/1/status")
    assert job["state"] == "ended" and job["exit_code"] == "3" and float(job["took"]) >= 0


def result_of(lease, name="result"):
    return json.loads(lease.read(name))


def test_result(lease):
    """One object for every end, with the moments in order; the same in the lease and in the job."""
    assert lease.read("result") == ""
    before = time.time()
    lease.run("printf hello; printf no >&2; exit 3")
    result = result_of(lease)
    assert {key: result[key] for key in ("job", "end", "exit_code", "signal", "stdout_bytes", "stderr_bytes", "error")} == \
        {"job": 1, "end": "failed", "exit_code": 3, "signal": None, "stdout_bytes": 5, "stderr_bytes": 2, "error": None}
    assert before - 1 < result["submitted"] <= result["started"] <= result["ended"] < time.time() + 1
    assert abs((lease / "result").stat().st_mtime - result["ended"]) < 1
    assert (lease / "result").stat().st_size == len(lease.read("result"))
    assert set(result) == {"job", "end", "exit_code", "signal", "submitted", "started", "ended", "stdout_bytes",
                           "stderr_bytes", "error"}
    lease.run("kill -9 $$")
    assert [result_of(lease)[key] for key in ("job", "end", "exit_code", "signal")] == [2, "failed", 137, 9]
    lease.run("true")
    assert [result_of(lease)[key] for key in ("job", "end", "exit_code", "signal")] == [3, "ok", 0, None]
    assert result_of(lease, "jobs/1/result") == result and lease.status("jobs/1/status")["end"] == "failed"


def test_result_waits(lease):
    """Until the job has ended: killed, out of time, or cancelled, which has no exit code."""
    lease.submit("sleep 1000")
    lease.until_running()
    lease.submit("true")
    with subprocess.Popen(["cat", lease / "jobs/1/result"], stdout=subprocess.PIPE, text=True) as reader:
        while lease.mount.stats()["reads_waiting"] != 1:
            time.sleep(0.01)
        lease.write("ctl", "cancel\n")
        assert [result_of(lease)[key] for key in ("end", "exit_code", "started")] == ["cancelled", None, None]
        fails(errno.EIO, lease.read, "exit_code")
        lease.write("ctl", "kill\n")
        killed = json.loads(reader.stdout.read())
    assert [killed[key] for key in ("job", "end", "exit_code", "signal")] == [1, "killed", 137, 9]
    assert killed["error"] == lease.read("jobs/1/error").strip()
    lease.write("timeout", "0.2\n")
    lease.run("sleep 1000")
    assert [result_of(lease)[key] for key in ("end", "exit_code", "signal")] == ["timeout", 124, None]


def test_result_of_what_was_lost(mount):
    """It stays what it was after kill -9 of the daemon; a job whose environment went with that is lost."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("exit 4")
    before = result_of(lease)
    lease.submit("sleep 1000")
    lease.until_running()
    mp.crash()
    mp.start()
    assert result_of(lease, "jobs/1/result") == pytest.approx(before, abs=0.1)
    if mp.settings.provider == "local":
        assert [result_of(lease)[key] for key in ("job", "end", "exit_code")] == [2, "lost", None]
