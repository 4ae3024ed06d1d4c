# SPDX-License-Identifier: MIT
"""The local backend: what a sandbox is, and what isolate=none is."""

import os
import shutil
import signal
import subprocess

import pytest

import processes
from test_job import HIDDEN

pytestmark = pytest.mark.local


@pytest.mark.small
def test_own_processes(lease):
    """A PID namespace of its own: nothing of the host is seen or reached."""
    output, _ = lease.run("cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l; kill -0 " + str(os.getpid()) + " 2>&1; echo $?")
    assert output.splitlines()[0] == "helper"
    assert int(output.splitlines()[1]) < 20
    assert output.splitlines()[-1] == "1" or os.getpid() < 30


def test_own_files(lease, tmp_path):
    """The host's /usr can be read and not written; all else is the environment's own."""
    (tmp_path / "host").write_text("x")
    output, code = lease.run(f"ls {tmp_path} 2>/dev/null; ls /home 2>/dev/null; ls /tmp; test -x /usr/bin/env && echo usr; id -u; hostname;"
                             "touch /usr/x 2>/dev/null && echo BAD; echo ok > /tmp/x && echo ok > ~/y && cat /tmp/x ~/y; echo $HOME; test ! -e /etc/shadow && echo none")
    assert output == "usr\n0\nsandbox\nok\nok\n/root\nnone\n"


def test_no_network(mount):
    command = "ls /sys/class/net 2>/dev/null; cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' | sort"
    assert mount().lease().run(command)[0] == "lo\n"


@pytest.mark.exact
def test_network_where_asked_for(mount):
    """With network=yes it is the host's, seen by what is on loopback."""
    import socket
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected"
        assert mount(network=True).lease().run(script + " 2>/dev/null")[0] == "connected\n"
        assert mount().lease().run(script + " 2>/dev/null")[1] != 0


def test_size(mount):
    """Writable space is bounded."""
    lease = mount(size="16M").lease()
    lease.run("head -c 64M /dev/zero > big; echo $?; stat -c %s big; rm big; echo small > small && cat small")
    output = lease.read("stdout")
    assert output.splitlines()[0] == "1" and int(output.splitlines()[1]) <= 16 << 20 and output.endswith("small\n")
    assert "No space" in lease.read("stderr")


def test_base(mount):
    lease = mount(base="/srv/it's here").lease()
    assert lease.run("pwd") == ("/srv/it's here/hermes_tasks/t1\n", 0)
    assert lease.read("cwd") == "/srv/it's here/hermes_tasks/t1\n"


def test_leases_do_not_meet(mount):
    mp = mount(max=2)
    one, two = mp.lease("one"), mp.lease("two")
    one.run("echo secret > /tmp/file; echo secret > file; sleep 1000 > /dev/null 2>&1 &")
    assert two.run("ls /tmp; ls; ls ..; for p in /proc/[0-9]*; do cat $p/comm; done | grep -c sleep") == ("two\n0\n", 1)


@pytest.mark.small
def test_sandboxes_end_with_the_daemon(mount):
    """Even when it is killed and can clean up nothing."""
    mp = mount(max=3)
    leases = [mp.lease(f"t{i}") for i in range(3)]
    for lease in leases:
        lease.submit("sleep 1000 & setsid sleep 1000 & sleep 1000")
    for lease in leases:
        lease.until_running()
    pids = processes.descendants(mp.pid)
    assert len(pids) >= 6
    mp.process.kill()
    mp.process.wait()
    assert processes.gone(pids, 5) == []
    mp.start()


# isolate=none

@pytest.fixture
def plain(mount):
    """A lease without bubblewrap, as an ordinary process of this machine."""
    lease = mount(isolate="none", reset="workdir").lease()  # nothing could compare
    lease.read("environment")
    return lease


@pytest.mark.small
def test_plain(plain):
    assert plain.run("echo hi; exit 3") == ("hi\n", 3)
    output, _ = plain.run("pwd; echo $HOME; echo $TMPDIR; cat /proc/sys/kernel/hostname")
    pwd, home, tmp, host = output.splitlines()
    for path in (pwd, home, tmp):
        assert path.startswith(str(plain.mount.state))
    assert pwd.endswith("/hermes_tasks/t1") and host == os.uname().nodename


def test_plain_cwd(plain):
    """
    The workdir as the file shows it, and what is below it, are the environment's; every other path is the machine's. An
    error names a path as the file shows it.
    """
    shown, workdir = plain.read("cwd").strip(), plain.run("mkdir sub; pwd")[0].strip()
    assert workdir != shown and workdir.endswith(shown)
    for text, path in ((shown, workdir), (shown + "/sub", workdir + "/sub"), ("sub", workdir + "/sub"), ("/tmp", "/tmp")):
        plain.write("cwd", text)
        assert plain.run("pwd") == (path + "\n", 0)
    for text, path in (("gone", shown + "/gone"), (shown + "/gone", shown + "/gone"), (shown + "2", shown + "2")):
        plain.write("cwd", text)
        assert plain.run("pwd") == ("", 126)
        assert plain.read("error") == f"cwd: {path} is not a directory there\n"


def test_plain_needs_no_bubblewrap(mount, tmp_path):
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin"
    for tool in ("fusermount3",):
        if os.path.exists(f"/usr/bin/{tool}"):
            (path / tool).symlink_to(f"/usr/bin/{tool}")
    mp = mount(environment={"PATH": str(path)}, isolate="none")
    assert mp.lease().run("echo hi") == ("hi\n", 0)


@pytest.mark.parametrize("isolate", ["none", "bwrap"])
def test_no_helper(mount, settings, tmp_path, isolate):
    """A helper that cannot be executed is named, and why: at once, and in one line."""
    program = tmp_path / "bin/modalpool"
    program.parent.mkdir()
    shutil.copy(settings.program, program)
    helper = tmp_path / "pool/modalpool-helper"
    helper.parent.mkdir()
    mp = mount(start=False, isolate=isolate)
    for make, reason in ((lambda: None, "No such file or directory"), (helper.mkdir, "Permission denied")):
        make()
        words = [str(program) if word == settings.program else word for word in mp.command()]
        done = subprocess.run(words, capture_output=True, text=True, env=mp.environment)
        assert done.returncode == 1 and "did not answer" not in done.stderr, done.stderr
        assert "helper" in done.stderr and reason in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert list(mp.state.rglob("environments/*")) == []


@pytest.mark.parametrize("hide", ["sleep 1000 & sleep 1000", "setsid -w sleep 1000", "(setsid sleep 1000 &); sleep 1000",
                                  "nohup setsid bash -c 'sleep 1000 & sleep 1000' & sleep 1000"])
def test_plain_timeout(plain, hide):
    plain.write("timeout", "0.4")
    assert plain.run(hide)[1] == 124
    assert not plain.mount.alive("sleep")
    assert plain.run("echo next") == ("next\n", 0)


@pytest.mark.parametrize("hide", HIDDEN)
def test_plain_kill(plain, hide):
    plain.submit("echo up; " + hide)
    with open(plain / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    plain.write("ctl", "kill\n")
    assert plain.read("exit_code") == "137\n"
    assert not plain.mount.alive("sleep") and not plain.mount.alive("perl")


@pytest.fixture
def multitude(compiled):
    """4,200 processes, with numbers below those of whatever is started next."""
    lower = False
    while not lower:  # but where the kernel begins again from the lowest number just now
        crowd = subprocess.Popen([compiled("multitude"), "4200"], stdout=subprocess.PIPE)
        try:
            assert crowd.stdout.readline() == b"4200\n"
            many = processes.children(crowd.pid)
            next_one = subprocess.Popen(["true"])
            next_one.wait()
            lower = max(many) < next_one.pid
            if lower:
                yield
        finally:
            crowd.kill()
            crowd.wait()
        assert processes.gone(many, 10) == []


def test_plain_among_thousands(multitude, plain):
    """More processes on the machine than any fixed number: those of a job are found behind them."""
    mp, lease = plain.mount, plain
    lease.submit("setsid sleep 1000 & env -i setsid sleep 1000 & echo up; wait")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n" and not mp.alive("sleep")
    assert lease.run("setsid sleep 1000 > /dev/null 2>&1 & echo left") == ("left\n", 0)
    lease.release()
    mp.until_settled()
    assert not mp.alive("sleep") and mp.stats()["environments_cleaned_total"] == 1


def test_plain_job_without_its_reaper(plain):
    """A job may end who watches over it; it goes on, and its end is heard."""
    assert plain.run("sleep 0.1; kill -9 $PPID; echo on; sleep 0.1; exit 3") == ("on\n", 3)
    plain.submit("sleep 0.1; kill -9 $PPID; (env -i setsid sleep 1000 &); echo up; wait; sleep 1000")
    with open(plain / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    plain.write("ctl", "kill\n")
    assert plain.read("exit_code") == "137\n" and not plain.mount.alive("sleep")


def test_plain_release(plain):
    mp = plain.mount
    plain.submit("touch .hidden file; echo up; sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &) ; env -i setsid sleep 1000 & sleep 1000")
    with open(plain / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    plain.release()
    mp.until_settled()
    assert not mp.alive("sleep")
    assert mp.lease().run("ls -A") == ("", 0)


def test_plain_background_processes(plain):
    assert plain.run("sleep 1000 > /dev/null 2>&1 & echo $! > pid")[1] == 0
    assert plain.run("kill -0 $(cat pid) && echo alive") == ("alive\n", 0)


def test_plain_large_command(plain):
    plain.submit(b"# " + b"x" * (5 << 20) + b"\necho end")
    assert plain.read() == "end\n"


def test_plain_ends_with_the_daemon(plain):
    mp = plain.mount
    plain.submit("sleep 1000 & setsid sleep 1000 & sleep 1000")
    plain.until_running()
    pids = processes.descendants(mp.pid)
    mp.process.kill()
    mp.process.wait()
    assert processes.gone(pids, 5) == []
    mp.start()


@pytest.mark.exact
def test_plain_slow_end(mount):
    """
    A helper of the daemon before that is slow to end: what still goes on in its directory does not keep the next
    daemon from starting, and it removes nothing of that one's.
    """
    mp = mount(isolate="none", max=1)
    lease = mp.lease()
    lease.submit("while :; do mkdir -p $TMPDIR; : > $TMPDIR/$RANDOM; done 2> /dev/null")
    lease.until_running()
    left = processes.descendants(mp.pid)
    helpers = processes.children(mp.pid)
    processes.kill(helpers, signal.SIGSTOP)
    mp.process.kill()
    mp.process.wait()
    mp.listener.join()
    try:
        mp.start()
        lease.release()
        lease = mp.lease("t2")
        assert lease.run("echo mine > file; echo mine > ~/file") == ("", 0)
    finally:
        processes.kill(helpers, signal.SIGCONT)
    assert processes.gone(left, 10) == []
    assert lease.run("cat file ~/file") == ("mine\nmine\n", 0)
