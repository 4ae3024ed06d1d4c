# SPDX-License-Identifier: MIT
"""Jobs with names: made by mkdir, side by side, each with its own settings, its own end, its own result."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

NAMES = ["a", "A.b_c-9", "0x", "1.", "x" * 64]
NO_NAMES = ["1", "0", "007", "latest", ".hidden", "-x", "a b", "ü", "a\nb", "x" * 65, "a:b"]


@contextlib.contextmanager
def refused(number):
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number


def make(lease, name, command=None, **settings):
    os.mkdir(lease / f"jobs/{name}")
    for setting, text in settings.items():
        lease.write(f"jobs/{name}/{setting}", text)
    if command is not None:
        lease.write(f"jobs/{name}/cmd", command)


def result(lease, name):
    return json.loads(lease.read(f"jobs/{name}/result"))


@pytest.mark.plain
def test_an_environment_that_runs_one_job_at_a_time(lease):
    """There mkdir says so, and the lease works as ever."""
    with refused(errno.EOPNOTSUPP):
        os.mkdir(lease / "jobs/a")
    assert "runs one job at a time" in lease.read("error")
    assert lease.run("echo on") == ("on\n", 0)


def test_four_at_once(together):
    """A server, its client, one that is out of time, one that is killed: four results, and no one disturbs another."""
    lease = together
    make(lease, "server", "exec python3 -u -c 'import http.server as h; s = h.HTTPServer((\"127.0.0.1\", 0), "
                          "h.SimpleHTTPRequestHandler); print(s.server_port); s.serve_forever()'")
    with open(lease / "jobs/server/stdout") as out:
        port = int(out.readline())
    make(lease, "late", "echo begun; sleep 1000", timeout="0.5")
    make(lease, "killed", "echo begun; sleep 1000")
    with open(lease / "jobs/killed/output") as out:
        assert out.readline() == "begun\n"
    make(lease, "client", f"python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:{port}\").status)'; exit 7")
    assert lease.read("jobs/client/output") == "200\n"
    lease.write("jobs/killed/ctl", "kill\n")
    ends = {name: result(lease, name) for name in ("client", "late", "killed")}
    assert {name: (r["end"], r["exit_code"], r["signal"]) for name, r in ends.items()} == {
        "client": ("failed", 7, None), "late": ("timeout", 124, None), "killed": ("killed", 137, 9)}
    assert [r["job"] for r in ends.values()] == ["client", "late", "killed"]
    assert lease.status()["running"] == "server" and lease.status("jobs/server/status")["state"] == "running"
    assert lease.run("echo beside") == ("beside\n", 0)
    lease.write("ctl", "kill all\n")
    assert result(lease, "server")["end"] == "killed"
    assert lease.read("jobs/late/output") == lease.read("jobs/killed/output") == "begun\n"


def test_sixteen_at_once_and_the_next_waits(together):
    """16 wait for each other; one more begins when one of them has ended."""
    lease = together
    for i in range(16):
        make(lease, f"j{i}", f"touch here{i}; until [ $(ls here* | wc -l) = 16 ]; do sleep 0.01; done; [ {i} != 0 ] && sleep 1000; true")
    make(lease, "next", "echo began; sleep 1000")
    lease.submit("echo behind")
    assert lease.read("jobs/j0/exit_code") == "0\n"
    with open(lease / "jobs/next/output") as out:
        assert out.readline() == "began\n"
    assert lease.status()["queued"] == "1" and lease.status("jobs/1/status")["state"] == "queued"
    lease.write("jobs/next/ctl", "kill\n")
    assert lease.read("output") == "behind\n"
    lease.write("ctl", "kill all\n")
    assert all(result(lease, f"j{i}")["end"] == "killed" for i in range(1, 16))


def test_jobs_max(mount):
    lease = mount(jobs_max=1).lease()
    lease.read("environment")
    try:
        make(lease, "a", "sleep 1000")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        pytest.skip("these environments run one job at a time")
    make(lease, "b", "echo b")
    lease.submit("echo cmd")
    lease.mount.until(lambda: lease.status("jobs/a/status")["state"] == "running")
    assert lease.status()["queued"] == "2"
    os.rmdir(lease / "jobs/a")
    assert lease.read("jobs/b/output") == "b\n" and lease.read("output") == "cmd\n"


def runs_as_others(lease):
    """Whether jobs can be run as other users there."""
    try:
        lease.write("user", "nobody")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        return False
    lease.submit("true")
    ran = json.loads(lease.read("result"))["end"] == "ok"  # the simulator's sandboxes may have one user
    lease.write("user", "")
    return ran


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=[pytest.mark.many, pytest.mark.limit(600)])])
def test_settings_of_its_own(together, times):
    """Two clients set different things in drafts of one lease at once: each job gets its own."""
    lease = together
    ids = {"daemon": 1, "nobody": 65534} if runs_as_others(lease) else {"": 0}
    shown = set(os.listdir(lease / "jobs"))
    failures = []

    def client(me):
        try:
            for i in range(times):
                name = f"{me}{i}"
                late = i % 25 == 24
                user = sorted(ids)[(i + (me == "tmp")) % len(ids)]
                make(lease, name, 'pwd; echo "$WHO"; id -u; cat; ' + ("exec sleep 1000" if late else "exit 3"),
                     cwd=f"/{me}", env=f"WHO={name}\n", stdin=f"input {name}", timeout="0.5" if late else f"{1000 + i}",
                     **({"user": user} if user else {}))
                want = (f"/{me}\n{name}\n{ids[user]}\ninput {name}", "124\n" if late else "3\n", user)
                got = [lease.read(f"jobs/{name}/{file}") for file in ("output", "exit_code", "user")]
                assert (*got[:2], got[2].strip()) == want, (got, want)
                assert late or lease.read(f"jobs/{name}/timeout") == f"{1000 + i}\n"
                os.rmdir(lease / f"jobs/{name}")
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    clients = [threading.Thread(target=client, args=(me,)) for me in ("tmp", "usr")]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert not failures
    assert set(os.listdir(lease / "jobs")) == shown


def test_a_draft(together):
    """It has the settings that the lease has then; its results are empty; what it has is read back."""
    lease = together
    lease.write("cwd", "/tmp")
    lease.write("env", "A=1\nB=2\n")
    make(lease, "d")
    lease.write("cwd", "/")
    assert lease.status("jobs/d/status")["state"] == "draft"
    assert lease.read("jobs/d/cwd") == "/tmp\n" and lease.read("jobs/d/env") == "A=1\nB=2\n"
    for name in ("output", "stdout", "stderr", "exit_code", "result", "cmd", "stdin"):
        assert lease.read(f"jobs/d/{name}") == ""
    lease.write("jobs/d/timeout", "5.5")
    assert lease.read("jobs/d/timeout") == "5.5\n" and lease.read("timeout") != "5.5\n"
    with refused(errno.EINVAL):
        lease.write("jobs/d/timeout", "soon")
    with refused(errno.EINVAL):
        lease.write("jobs/d/env", "export X=1\n")
    with open(lease / "jobs/d/cmd", "wb"):
        pass  # an open that wrote nothing submits nothing
    assert lease.status("jobs/d/status")["state"] == "draft"
    lease.write("jobs/d/cmd", "pwd; echo $A$B")
    assert lease.read("jobs/d/output") == "/tmp\n12\n"
    assert lease.read("jobs/d/cmd") == "pwd; echo $A$B" and lease.read("jobs/d/cwd") == "/tmp\n"
    for name in ("cmd", "cwd", "timeout", "env", "stdin"):
        with refused(errno.EBUSY):
            lease.write(f"jobs/d/{name}", "1")
    assert lease.read("jobs/d/output") == "/tmp\n12\n"


def test_read_write(together):
    """Write a command and read back its output; then it takes no other."""
    lease = together
    make(lease, "rw")
    fd = os.open(lease / "jobs/rw/cmd", os.O_RDWR)
    try:
        os.write(fd, b"echo one; echo two")
        assert os.read(fd, 100) and lease.read("jobs/rw/exit_code") == "0\n"
        with refused(errno.EBUSY):
            os.write(fd, b"echo three")
    finally:
        os.close(fd)
    assert lease.read("jobs/rw/output") == "one\ntwo\n"


def test_ftruncate_after_the_submission(together):
    """Open files of input and settings take no change any more, and say so."""
    lease = together
    make(lease, "t", stdin="input")
    stdin, cwd = (os.open(lease / f"jobs/t/{name}", os.O_WRONLY) for name in ("stdin", "cwd"))
    lease.write("jobs/t/cmd", "cat")
    for fd in stdin, cwd:
        with refused(errno.EBUSY):
            os.ftruncate(fd, 0)
    with refused(errno.EBUSY):
        os.write(stdin, b"more")
    os.close(stdin)
    os.close(cwd)
    assert lease.read("jobs/t/output") == "input"


def test_two_writers(together):
    """The first to close submits; the other's bytes are not run, and he is told as soon as he writes."""
    lease = together
    make(lease, "w")
    with open(lease / "jobs/w/cmd", "wb", buffering=0) as one, open(lease / "jobs/w/cmd", "wb", buffering=0) as other:
        other.write(b"echo other")
        one.write(b"echo one")
        one.close()
        assert lease.read("jobs/w/output") == "one\n"
        with refused(errno.EBUSY):
            other.write(b" more")
    assert lease.read("jobs/w/cmd") == "echo one"


@pytest.mark.parametrize("name", NAMES)
def test_names(together, name):
    make(together, name, "echo $0 >/dev/null; echo ran")
    assert together.read(f"jobs/{name}/output") == "ran\n"
    assert os.listdir(together / "jobs") == [name]
    with refused(errno.EEXIST):
        os.mkdir(together / f"jobs/{name}")
    together.run("true")
    assert sorted(os.listdir(together / "jobs")) == sorted(["1", "latest", name])
    assert result(together, name)["job"] == name and os.readlink(together / "jobs/latest") == "1"


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_cannot_be(together, name):
    with refused(errno.EINVAL):
        os.mkdir(together / f"jobs/{name}")
    assert together.read("error").startswith("jobs/")
    assert os.listdir(together / "jobs") == []


def test_how_many_may_wait(together):
    """Drafts and queued jobs share a maximum of 64, with those of cmd."""
    lease = together
    for i in range(63):
        make(lease, f"d{i}")
    make(lease, "last")
    with refused(errno.EAGAIN):
        make(lease, "more")
    with refused(errno.EAGAIN):
        lease.submit("echo no")
    with refused(errno.EEXIST):
        make(lease, "last")
    lease.write("jobs/last/cmd", "echo last")
    assert lease.read("jobs/last/output") == "last\n"
    assert lease.run("echo room") == ("room\n", 0)
    os.rmdir(lease / "jobs/d0")
    make(lease, "d0", "echo again")
    assert lease.read("jobs/d0/output") == "again\n"


def test_rmdir(together):
    """It kills, and frees the name; what was open ends with the job."""
    lease = together
    make(lease, "r", "trap '' TERM HUP; echo begun; (setsid sleep 86407 &); sleep 86407")
    with open(lease / "jobs/r/output", "rb", buffering=0) as out:
        assert out.read(100) == b"begun\n"
        os.rmdir(lease / "jobs/r")
        make(lease, "r", "echo new")
        assert lease.read("jobs/r/output") == "new\n"
        assert out.read(100) == b""
    lease.mount.until(lambda: lease.status()["running"] == "-")
    assert lease.run("cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 8640[7]'")[0] == "0\n"
    with refused(errno.ENOENT):
        lease.read("jobs/r/nothing")


def test_rmdir_and_the_next_job(together):
    """What was killed is gone when the next job starts: it sees none of its processes, and can lock what they had locked."""
    lease = together
    for n in range(10):
        make(lease, f"s{n}", "for i in $(seq 20); do (setsid sleep 86407 &); done; exec flock -n file sh -c 'echo up; exec sleep 86407'")
        with open(lease / f"jobs/s{n}/output", "rb", buffering=0) as out:
            assert out.read(100) == b"up\n"
        os.rmdir(lease / f"jobs/s{n}")
        make(lease, f"after{n}", "cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' ' | grep -c '8640[7]'; flock -n file true")
        assert result(lease, f"after{n}")["exit_code"] == 0
        assert lease.read(f"jobs/after{n}/output") == "0\n"


def test_rmdir_of_a_draft_and_of_one_that_waits(together):
    lease = together
    make(lease, "draft")
    with open(lease / "jobs/draft/cmd", "wb", buffering=0) as cmd:
        cmd.write(b"touch ran")
        os.rmdir(lease / "jobs/draft")
    for i in range(16):
        make(lease, f"j{i}", "sleep 86400")
    make(lease, "waits", "touch ran")
    with open(lease / "jobs/waits/result") as waiting:
        os.rmdir(lease / "jobs/waits")
        assert json.loads(waiting.read())["end"] == "cancelled"
    lease.mount.until(lambda: lease.status()["queued"] == "0")  # they wait until the first has made the workdir
    lease.write("ctl", "kill all\n")
    for i in range(16):
        assert result(lease, f"j{i}")["end"] == "killed"
    assert lease.run("ls") == ("", 0)


def test_remove_all(together):
    """rm -rf of a lease and of a job, with tools that unlink first."""
    lease = together
    make(lease, "a", "sleep 86400")
    make(lease, "b")
    subprocess.run(["rm", "-rf", lease / "jobs/b"], check=True)
    assert os.listdir(lease / "jobs") == ["a"]
    lease.mount.until(lambda: lease.status("jobs/a/status")["state"] == "running")
    subprocess.run(["rm", "-rf", lease.path], check=True)
    assert not lease.path.exists()


def test_ctl_of_one_job(together):
    """A signal, a kill and a cancel reach one job; a numbered job has a ctl as well."""
    lease = together
    make(lease, "a", "trap 'echo got; exit 5' USR1; echo ready; while :; do read -t 0.1 x <> <(:); done")
    make(lease, "b", "echo ready; sleep 1000")
    lease.submit("echo ready; sleep 1000")
    for name in ("a", "b", "1"):
        with open(lease / f"jobs/{name}/output") as out:
            assert out.readline() == "ready\n"
    lease.write("jobs/a/ctl", "signal USR1\n")
    assert lease.read("jobs/a/exit_code") == "5\n" and lease.read("jobs/a/output") == "ready\ngot\n"
    lease.submit("echo never")
    lease.write("jobs/2/ctl", "cancel\n")
    assert json.loads(lease.read("jobs/2/result"))["end"] == "cancelled"
    lease.write("jobs/1/ctl", "kill\n")
    assert lease.read("jobs/1/exit_code") == "137\n"
    assert lease.status("jobs/b/status")["state"] == "running"
    with refused(errno.EINVAL):
        lease.write("jobs/b/ctl", "renew\n")
    lease.write("jobs/b/ctl", "signal KILL\n")
    assert lease.read("jobs/b/exit_code") == "137\n"


# A client that asks for the job and takes up what is there. It is killed at the step that it is told.
CLIENT = """
import errno, os, signal, sys
lease, step = sys.argv[1:]
def at(name):
    if name == step: os.kill(os.getpid(), signal.SIGKILL)
job = lease + "/jobs/once"
at("start")
try: os.mkdir(job)
except FileExistsError: pass
at("mkdir")
try:
    with open(job + "/stdin", "wb", buffering=0) as f:
        f.truncate(0)
        f.write(b"some input")
    at("stdin")
    fd = os.open(job + "/cmd", os.O_WRONLY)
    at("open")
    os.write(fd, b"cat; echo run >> $HOME/runs; exit 4")
    at("write")
    os.close(fd)
    at("close")
except OSError as e:
    if e.errno != errno.EBUSY: raise
out = open(job + "/output").read()
at("read")
print(out, open(job + "/exit_code").read().strip())
"""


@pytest.mark.parametrize("step", ["start", "mkdir", "stdin", "open", "write", "close", "read"])
def test_a_client_that_is_killed(together, step):
    """It starts again, asks for the same job, and the job has run once."""
    lease = together
    lease.write("env", "HOME=/tmp\n")
    command = [sys.executable, "-c", CLIENT, str(lease.path)]
    assert subprocess.run([*command, step], check=False).returncode == -signal.SIGKILL
    said = subprocess.run([*command, "none"], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said == "some input 4\n"
    assert lease.run("cat /tmp/runs") == ("run\n", 0)


def test_files_of_a_tree(together):
    """A job's directory has what the manual names, with their modes."""
    lease = together
    make(lease, "d")
    files = {name: oct(os.stat(lease / f"jobs/d/{name}").st_mode & 0o777) for name in os.listdir(lease / "jobs/d")}
    written = {"cmd", "stdin", "cwd", "timeout", "env", "user", "terminal", "ctl"}
    read = {"output", "stdout", "stderr", "exit_code", "result", "status", "error"}
    assert files == {**dict.fromkeys(written, "0o600"), **dict.fromkeys(read, "0o400")}
    assert lease.read("jobs/d/ctl") == "kill\nsignal NAME\ncancel\ninput open\neof\nresize ROWS COLUMNS\n"


def test_a_restart(mount):
    """A draft is there again after a crash, with its settings; of what ran there is a result."""
    mp = mount(max=2)
    lease = mp.lease()
    lease.read("environment")
    try:
        make(lease, "draft", stdin="x" * 5000, cwd="/usr", env="A=7\n", timeout="9")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        pytest.skip("these environments run one job at a time")
    make(lease, "done", "echo done; exit 2")
    assert lease.read("jobs/done/exit_code") == "2\n"
    make(lease, "gone", "sleep 86400")
    for name in ("one", "two"):
        make(lease, name, f"echo {name}; sleep 86400")
        with open(lease / f"jobs/{name}/output") as out:
            assert out.readline() == f"{name}\n"
    os.rmdir(lease / "jobs/gone")
    mp.crash()
    mp.start()
    assert sorted(os.listdir(lease / "jobs")) == ["done", "draft", "one", "two"]
    assert lease.status("jobs/draft/status")["state"] == "draft"
    assert [lease.read(f"jobs/draft/{name}") for name in ("cwd", "env", "timeout")] == ["/usr\n", "A=7\n", "9\n"]
    assert lease.read("jobs/done/output") == "done\n" and lease.read("jobs/done/exit_code") == "2\n"
    if lease.status()["state"] == "lost":  # this backend's environments end with the daemon
        for name in ("one", "two"):
            assert result(lease, name)["end"] == "lost"
            with refused(errno.EIO):
                lease.read(f"jobs/{name}/output")
        lease.write("ctl", "renew\n")
    else:
        lease.write("ctl", "kill all\n")
        assert [result(lease, name)["end"] for name in ("one", "two")] == ["killed", "killed"]
    lease.write("jobs/draft/cmd", "pwd; echo $A; cat")
    assert lease.read("jobs/draft/output") == "/usr\n7\n"
