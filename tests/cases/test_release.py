# SPDX-License-Identifier: MIT
"""rmdir at work: nothing is left, the name is free, and open files give true results."""

import errno
import os
import select
import signal
import subprocess

import pytest

import processes
from test_lease import fails

MESS = ("mkdir -p .dot/deep 'a b' ro; echo x > .hidden; echo y > 'a b/c'; echo > ro/f; chmod 500 ro; chmod 000 'a b';"
        "ln -s / link; ln -s nowhere broken; mkfifo fifo; touch -- -rf '*' \"$(printf 'new\\nline')\";"
        "for i in $(seq 300); do touch f$i; done; mkdir -p $(seq -s/ 60)")


@pytest.mark.small
def test_release_during_a_job(mount):
    """Neither a process nor a file is left, and the next lease finds an empty workdir."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.submit(MESS + "; echo ready; sleep 1001 & setsid sleep 1002 & (sleep 1003 &) ; exec sleep 1004")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"ready\n"
    lease.release()
    assert not lease.path.exists()
    mp.until_settled()
    assert not mp.alive("sleep")
    for name in ("t1", "t2"):
        again = mp.lease(name)
        assert again.run("ls -A; ls -A ..") == (name + "\n", 0)
        again.release()


@pytest.mark.exact
def test_the_environment_is_lent_again(mount):
    mp = mount(max=1)
    lease = mp.lease()
    first = lease.read("environment")
    lease.submit(MESS + "; sleep 1000")
    lease.until_running()
    lease.release()
    lease = mp.lease()
    assert lease.read("environment") == first
    assert lease.run("ls -A; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 1[0]'") == ("0\n", 1)
    assert mp.stats()["environments_created_total"] == 1


def test_release_with_queued_jobs(mp):
    """None of them runs any more."""
    lease = mp.lease()
    lease.submit("echo up; sleep 1000")
    for i in range(20):
        lease.submit(f"touch /var/tmp/ran{i}")
    with open(lease / "output", "rb", buffering=0) as newest:
        lease.release()
        fails(errno.ESTALE, newest.read, 10)
    lease = mp.lease()
    assert lease.run("ls /var/tmp | grep -c ran") == ("0\n", 1)


@pytest.mark.small
def test_what_was_open_goes_on(mp):
    lease = mp.lease()
    lease.run("echo finished; exit 5")
    done = open(lease / "output", "rb", buffering=0)
    code = open(lease / "exit_code", "rb", buffering=0)
    lease.submit("echo received; sleep 1000")
    cut = open(lease / "output", "rb", buffering=0)
    assert cut.read(100) == b"received\n"
    unread = open(lease / "output", "rb", buffering=0)
    never = open(lease / "exit_code", "rb", buffering=0)
    cmd = open(lease / "cmd", "wb", buffering=0)
    ctl = open(lease / "ctl", "wb", buffering=0)
    env = open(lease / "env", "wb", buffering=0)
    stdin = open(lease / "stdin", "wb", buffering=0)
    directory = os.open(lease.path, os.O_RDONLY)
    lease.release()

    assert done.read() == b"finished\n"
    assert code.read() == b"5\n"
    assert unread.read(100) == b"received\n"
    for file in (cut, unread, never):
        fails(errno.ESTALE, file.read, 100)
    assert os.pread(cut.fileno(), 4, 2) == b"ceiv"
    fails(errno.ESTALE, cmd.write, b"echo late")
    fails(errno.ESTALE, ctl.write, b"kill\n")
    fails(errno.ESTALE, env.write, b"A=1\n")
    fails(errno.ESTALE, stdin.write, b"x")
    for name in ("cmd", "output", "status"):
        with pytest.raises(OSError) as raised:
            os.open(name, os.O_RDONLY, dir_fd=directory)
        assert raised.value.errno in (errno.ESTALE, errno.ENOENT)
    for file in (done, code, cut, unread, never, cmd, ctl, env, stdin):
        file.close()
    os.close(directory)
    assert os.listdir(mp.path) == [".pool"]


def test_waiting_readers_end(mp):
    """All kinds of waiting reads, in other processes."""
    lease = mp.lease()
    lease.submit("sleep 1000")
    lease.until_running()
    readers = [subprocess.Popen(["cat", name], cwd=lease.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for name in ("output", "stdout", "stderr", "exit_code", "jobs/1/output", "jobs/1/exit_code") * 3]
    bash = subprocess.Popen(["bash", "-c", "echo waiting >&2; exec 3<>cmd; echo 'sleep 5' >&3; cat <&3"], cwd=lease.path,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    bash.stderr.readline()
    mp.until(lambda: lease.status()["queued"] == "1")
    for reader in readers:
        processes.until_waits(reader.pid)
    lease.release()
    for reader in [*readers, bash]:
        _, error = reader.communicate()
        assert reader.returncode == 1 and "Stale file handle" in error, error


def test_release_while_waiting_for_an_environment(mount):
    mp = mount(max=1)
    first = mp.lease("first")
    first.read("environment")
    lease = mp.lease()
    lease.submit("echo never")
    output = open(lease / "output", "rb", buffering=0)
    environment = open(lease / "environment", "rb", buffering=0)
    assert lease.status()["state"] == "waiting"
    lease.release()
    fails(errno.ESTALE, output.read, 1)
    fails(errno.ESTALE, environment.read, 1)
    output.close(), environment.close()
    assert mp.stats()["leases_waiting"] == 0
    assert first.run("echo fine") == ("fine\n", 0)


def test_commands_half_written(mp):
    """A command that was being written when its lease was released never runs, in any lease."""
    lease = mp.lease()
    lease.read("environment")
    cmd = open(lease / "cmd", "wb", buffering=0)
    cmd.write(b"touch /var/tmp/half")
    lease.release()
    lease = mp.lease()
    cmd.close()
    assert lease.run("ls /var/tmp | grep -c half")[0] == "0\n"
    assert sorted(os.listdir(lease / "jobs")) == ["1", "latest"]


def test_poll_wakes_at_release(mp):
    lease = mp.lease()
    lease.submit("sleep 1000")
    fd = os.open(lease / "output", os.O_RDONLY)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    lease.release()
    assert poll.poll(5000)
    fails(errno.ESTALE, os.read, fd, 1)
    os.close(fd)


def test_working_directory_inside(mp):
    """A shell whose working directory is in a lease does not keep it."""
    done = mp.sh("mkdir t1 && cd t1 && echo 'echo hi' > cmd && cat output && rmdir ../t1 && mkdir ../t1 && ls ../t1 | grep -x cmd;"
                 "cat output; true")
    assert done.stdout.startswith("hi\ncmd\n") and "cat:" in done.stderr


@pytest.mark.small
def test_background_processes(mp):
    """They live on between jobs, and end with the lease."""
    lease = mp.lease()
    output, code = lease.run("(while :; do echo tick >> ticks; sleep 0.05; done) > /dev/null 2>&1 & echo $! > pid")
    assert code == 0
    assert lease.run("rm ticks; until test -s ticks; do sleep 0.02; done; kill -0 $(cat pid) && echo alive") == ("alive\n", 0)
    lease.run("nohup setsid sleep 1005 > /dev/null 2>&1 &")
    lease.release()
    mp.until_settled()
    assert not mp.alive("sleep")
    lease = mp.lease()
    assert lease.run("ls -A") == ("", 0)


def test_open_spools_and_the_state_directory(mp):
    """Output that nobody can read any more is removed from the disk; open output is not."""
    lease = mp.lease()
    lease.run("head -c 3000000 /dev/zero")
    used = lambda: sum(p.stat().st_size for p in mp.state.rglob("spool/*"))
    assert used() >= 3000000
    output = open(lease / "output", "rb", buffering=0)
    lease.release()
    assert len(output.read()) == 3000000
    output.close()
    lease = mp.lease()
    lease.run("true")
    assert used() < 100000
    big = b"# " + b"x" * (4 << 20) + b"\n"
    lease.submit(big)
    lease.read("exit_code")
    lease.release()
    mp.until_settled()
    os.listdir(mp.path)
    assert used() < 100000


def test_release_storm(mp):
    """Everything at once, many times: nothing is lost and nothing is left."""
    script = ("for i in $(seq 25); do mkdir $0-$i && echo \"echo $0; sleep 0.0$((i % 3)); sleep 30 &\" > $0-$i/cmd; "
              "if [ $((i % 2)) = 0 ]; then cat $0-$i/output; fi; rmdir $0-$i; done")
    users = [subprocess.Popen(["bash", "-c", script, name], cwd=mp.path, stdout=subprocess.PIPE, text=True)
             for name in "abcdef"]
    for name, user in zip("abcdef", users):
        assert user.communicate()[0] == f"{name}\n" * 12 and user.returncode == 0
    mp.until_settled()
    assert os.listdir(mp.path) == [".pool"]
    # What was cleaned is dead already. A sandbox that was terminated dies while Modal has answered that.
    assert mp.alive("sleep", 5) == []


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_stop_during_everything(mount, signo):
    """The daemon ends at once with status 0, and everything that waited gets an answer."""
    mp = mount(max=2)
    readers = []
    for i in range(4):
        lease = mp.lease(f"t{i}")
        lease.submit("echo up; sleep 1000 & sleep 1000")
        readers.append(subprocess.Popen(["cat", lease / "output"], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert readers[0].stdout.readline() == b"up\n"
    mp.stop(signo)
    for reader in readers:
        _, error = reader.communicate()
        assert reader.returncode == 1 and error, error
