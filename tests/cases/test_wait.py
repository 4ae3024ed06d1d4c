# SPDX-License-Identifier: MIT
"""Waiting reads: interrupts, O_NONBLOCK, poll, select and epoll; nothing else ever waits."""

import concurrent.futures
import errno
import os
import select
import signal
import subprocess
import threading
import time

import pytest

import processes
from test_lease import fails


@pytest.fixture
def busy(lease):
    """A lease whose job runs until it is told to go on."""
    lease.submit("mkfifo go; echo up; read x < go; echo over")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    return lease


def finish(lease):
    """End the job of a busy lease from inside its environment."""
    lease.write("ctl", "signal TERM\n")


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize("name", ["output", "exit_code"])
def test_signals_end_waiting_readers(busy, signo, name):
    reader = subprocess.Popen(["cat", busy / name], stdout=subprocess.PIPE)
    if name == "output":
        assert reader.stdout.read(3) == b"up\n"
    processes.until_waits(reader.pid)
    reader.send_signal(signo)
    assert reader.wait() == -signo
    reader.stdout.close()
    assert busy.status()["running"] == "1"


@pytest.mark.small
def test_timeout_command(busy):
    done = busy.mount.sh("timeout 0.3 cat t1/output", check=False)
    assert done.returncode == 124 and done.stdout == "up\n"


def test_interrupted_read_goes_on(busy):
    """A handler that returns restarts the read; nothing is lost."""
    hits = []
    signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
    with open(busy / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
        timers = [threading.Timer(0.1 * i, os.kill, (os.getpid(), signal.SIGUSR1)) for i in (1, 2, 3)]
        timers.append(threading.Timer(0.5, finish, (busy,)))
        for timer in timers:
            timer.start()
        assert output.read(10) == b""
        for timer in timers:
            timer.join()
    assert len(hits) == 3
    assert busy.read("exit_code") == "143\n"


@pytest.mark.small
def test_nonblocking(busy):
    for name in ("exit_code", "jobs/1/exit_code", "stderr"):
        fd = os.open(busy / name, os.O_RDONLY | os.O_NONBLOCK)
        fails(errno.EAGAIN, os.read, fd, 10)
        os.close(fd)
    fd = os.open(busy / "output", os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(fd, 10) == b"up\n"
    fails(errno.EAGAIN, os.read, fd, 10)
    os.set_blocking(fd, True)
    threading.Timer(0.2, finish, (busy,)).start()
    assert os.read(fd, 10) == b""
    os.set_blocking(fd, False)
    assert os.read(fd, 10) == b""
    os.close(fd)
    assert busy.mount.sh("dd if=t1/exit_code iflag=nonblock status=none").stdout == "143\n"


def test_nonblocking_read_write(lease):
    fd = os.open(lease / "cmd", os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"sleep 0.2; echo done")
    fails(errno.EAGAIN, os.read, fd, 10)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(5000) == [(fd, select.POLLIN)]
    assert os.read(fd, 10) == b"done\n"
    os.close(fd)


def test_nonblocking_environment(mount):
    mp = mount(max=1)
    mp.lease("first")
    lease = mp.lease()
    fd = os.open(lease / "environment", os.O_RDONLY | os.O_NONBLOCK)
    fails(errno.EAGAIN, os.read, fd, 10)
    os.close(fd)
    fd = os.open(mp / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    while True:
        try:
            assert os.read(fd, 1 << 17)
        except BlockingIOError:
            break
    os.close(fd)


@pytest.mark.small
@pytest.mark.parametrize("kind", ["poll", "select", "epoll"])
def test_poll(lease, kind):
    """A file is ready exactly if a read would not wait."""
    lease.submit("sleep 0.3; echo one; sleep 0.3; echo two")
    fd = os.open(lease / "output", os.O_RDONLY)
    code = os.open(lease / "exit_code", os.O_RDONLY)

    def ready(seconds_):
        if kind == "select":
            return select.select([fd], [], [], seconds_)[0] == [fd]
        waiter = select.poll() if kind == "poll" else select.epoll()
        waiter.register(fd, select.POLLIN if kind == "poll" else select.EPOLLIN)
        found = waiter.poll(seconds_ * (1000 if kind == "poll" else 1))
        if kind == "epoll":
            waiter.close()
        return found == [(fd, select.POLLIN)]

    got = b""
    assert not ready(0)
    while True:
        assert ready(10)
        chunk = os.read(fd, 100)
        got += chunk
        if not chunk:
            break
        assert chunk in (b"one\n", b"two\n")
        assert not ready(0) or os.fstat(fd).st_size > len(got) or lease.status()["running"] == "-"
    assert got == b"one\ntwo\n"
    assert ready(0)  # the end
    waiter = select.poll()
    waiter.register(code, select.POLLIN)
    assert waiter.poll(0) == [(code, select.POLLIN)]
    os.close(fd), os.close(code)


def test_poll_in_another_thread(busy):
    """The end of the job wakes a waiting poll, on every file whose reads wait."""
    fds = {name: os.open(busy / name, os.O_RDONLY) for name in ("stderr", "exit_code", "jobs/1/exit_code", "jobs/1/stderr")}
    epoll = select.epoll()
    for fd in fds.values():
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
    assert epoll.poll(0) == []
    threading.Timer(0.2, finish, (busy,)).start()
    woken = set()
    while woken != set(fds.values()):
        found = epoll.poll(10)
        assert found
        woken |= {fd for fd, _ in found}
    epoll.close()
    for fd in fds.values():
        os.close(fd)


# Says more at each USR1. Its sleep does not hear that.
TALKER = "trap 'echo more' USR1; echo up; (trap '' USR1; exec sleep 1000) & until wait $!; do :; done"


def until_edge(epoll, fd, size):
    """Read as programs do that ask for edges: until EAGAIN, and then only when there was an event. Up to SIZE bytes."""
    got = b""
    while len(got) < size:
        try:
            chunk = os.read(fd, size - len(got))
        except BlockingIOError:
            assert epoll.poll(20), f"no event after {got}"
            continue
        if not chunk:
            break
        got += chunk
    return got


@pytest.mark.small
@pytest.mark.parametrize("name", ["output", "stdout", "stderr", "jobs/1/stdout", "cmd"])
def test_edges(lease, name):
    """Edge-triggered epoll reports all later changes, even if there was something to read at first."""
    if name == "cmd":
        fd = os.open(lease / name, os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, TALKER.encode())
        fails(errno.EAGAIN, os.read, fd, 10)
    else:
        lease.submit(f"exec {'>&2' if name == 'stderr' else ''}; {TALKER}")
        fd = os.open(lease / name, os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([fd], [], [], 20)[0] == [fd]
    with select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        assert epoll.poll(20) == [(fd, select.EPOLLIN)]
        assert until_edge(epoll, fd, 3) == b"up\n"
        for _ in range(2):
            fails(errno.EAGAIN, os.read, fd, 10)
            lease.write("ctl", "signal USR1\n")
            assert until_edge(epoll, fd, 5) == b"more\n"
        fails(errno.EAGAIN, os.read, fd, 10)
        finish(lease)
        assert until_edge(epoll, fd, 1) == b""
    os.close(fd)


def test_edges_of_events(mp):
    fd = os.open(mp / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    with select.epoll() as epoll:
        mp.lease("t0").release()
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        assert epoll.poll(20) == [(fd, select.EPOLLIN)]
        got = b""
        for name in ("t1", "t2"):
            mp.lease(name)
            while f'"lease":"{name}","state":"leased"'.encode() not in got:
                got += until_edge(epoll, fd, 1)
            try:
                while True:
                    got += os.read(fd, 1 << 17)
            except BlockingIOError:
                pass
    os.close(fd)


def test_poll_at_the_end(busy):
    """poll after a read that found nothing waits for new bytes, also where a seek has passed over the old ones."""
    fd = os.open(busy / "output", os.O_RDONLY | os.O_NONBLOCK)
    assert os.lseek(fd, 3, os.SEEK_SET) == 3
    fails(errno.EAGAIN, os.read, fd, 10)
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    assert waiter.poll(0) == []
    finish(busy)
    assert waiter.poll(20000) == [(fd, select.POLLIN)] and os.read(fd, 10) == b""
    os.close(fd)


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY])
@pytest.mark.parametrize("kind", ["poll", "select", "epoll", "edge"])
def test_asking_submits_nothing(lease, kind, flags):
    """An unfinished command stays unfinished, whoever polls for writability."""
    def ask(fd):
        if kind == "select":
            select.select([fd], [fd], [fd], 0)
            return
        waiter = select.poll() if kind == "poll" else select.epoll()
        waiter.register(fd, select.POLLIN | select.POLLOUT | (select.EPOLLET if kind == "edge" else 0))
        assert waiter.poll(0)[0][1] & select.POLLOUT

    fd = os.open(lease / "cmd", flags)
    ask(fd)
    os.write(fd, b"echo one\n")
    ask(fd)
    assert lease.status()["newest"] == "-"
    os.write(fd, b"echo two\n")
    ask(fd)
    if flags == os.O_RDWR:
        got = b""
        while chunk := os.read(fd, 100):
            got += chunk
        assert got == b"one\ntwo\n"
    os.close(fd)
    assert lease.read() == "one\ntwo\n"
    assert lease.status()["newest"] == "1"


def test_asking_reads_nothing(mp):
    """A read returns what there is when it arrives, not what there was at an earlier poll."""
    lease = mp.lease()
    lease.read("environment")
    fd = os.open(lease / "environment", os.O_RDONLY)
    assert select.select([fd], [], [], 0)[0] == [fd]
    mp.murder(mp.sandboxes())
    mp.until(lambda: lease.status()["state"] == "lost")
    fails(errno.ENODEV, os.read, fd, 100)
    os.close(fd)


# processes that share an open file of cmd

@pytest.fixture
def shared(lease):
    """cmd, open for reading and writing, whose job talks; and a process that waits for it to say more."""
    fd = os.open(lease / "cmd", os.O_RDWR)
    os.write(fd, TALKER.encode())
    with subprocess.Popen(["cat"], stdin=fd, stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline() == b"up\n"
        until_one_waits(lease.mount)
        yield lease, fd, reader
        os.close(fd)
        reader.stdout.close()


def until_one_waits(mp):
    while mp.stats()["reads_waiting"] != 1:
        time.sleep(0.01)


@pytest.mark.small
def test_writer_beside_a_waiting_reader(shared):
    """The write succeeds at once and submits nothing; the reader's next read submits it."""
    lease, fd, reader = shared
    for word in ("'echo ne'", "xt"):
        subprocess.run(["sh", "-c", f"printf %s {word}"], stdout=fd, check=True)
    assert lease.status()["newest"] == "1"
    lease.write("ctl", "signal USR1\n")
    assert reader.stdout.readline() == b"more\n"
    lease.mount.until(lambda: lease.status()["newest"] == "2")
    finish(lease)
    assert reader.stdout.read() == b"next\n"
    assert lease.read("jobs/2/cmd") == "echo next"


def test_waiting_read_stays_with_its_job(shared):
    """Another process submits the next command: a waiting read gets output of its own job, later reads that of the next."""
    lease, fd, reader = shared
    os.write(fd, b"echo next")
    os.fsync(fd)
    assert lease.status()["newest"] == "2"
    lease.write("ctl", "signal USR1\n")
    assert reader.stdout.readline() == b"more\n"
    finish(lease)
    assert reader.stdout.read() == b"next\n"


def test_readers_of_one_description(busy):
    """Without an offset, a waiting reader keeps no other from waiting or from being killed."""
    fd = os.open(busy.mount / ".pool/events", os.O_RDONLY)
    os.set_blocking(fd, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.read(fd, 1 << 17)
    os.set_blocking(fd, True)
    readers = [subprocess.Popen(["cat"], stdin=fd, stdout=subprocess.DEVNULL) for _ in range(2)]
    while busy.mount.stats()["reads_waiting"] != 2:
        time.sleep(0.01)
    for reader in readers:
        reader.terminate()
        assert reader.wait() == -signal.SIGTERM
    os.close(fd)


def test_waking_up_submits_nothing(lease):
    """If half a command was written while a read waited, it is still unfinished when that read ends."""
    fd = os.open(lease / "cmd", os.O_RDWR)
    os.write(fd, TALKER.encode())
    assert os.read(fd, 100) == b"up\n"
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        reader = threads.submit(os.read, fd, 5)
        until_one_waits(lease.mount)
        os.write(fd, b"echo ne")
        lease.write("ctl", "signal USR1\n")
        assert reader.result() == b"more\n"
        assert lease.status()["newest"] == "1"
    os.write(fd, b"xt")
    finish(lease)
    assert os.read(fd, 100) == b"next\n"
    os.close(fd)


def test_poller_follows_to_the_next_job(lease):
    """If the next command is submitted during a poll, the poll reports on the new job."""
    fd = os.open(lease / "cmd", os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"sleep 1000")
    fails(errno.EAGAIN, os.read, fd, 1)
    with concurrent.futures.ThreadPoolExecutor(1) as threads, select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        assert epoll.poll(0) == []
        waiter = threads.submit(epoll.poll, 20)
        os.write(fd, TALKER.encode())
        os.fsync(fd)
        finish(lease)
        assert waiter.result() == [(fd, select.EPOLLIN)]
        assert until_edge(epoll, fd, 3) == b"up\n"
    lease.until_running(2)
    finish(lease)
    os.close(fd)


def test_poll_for_an_environment(mount):
    mp = mount(max=1)
    first = mp.lease("first")
    lease = mp.lease()
    fd = os.open(lease / "environment", os.O_RDONLY)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(100) == []
    threading.Timer(0.2, first.release).start()
    assert poll.poll(20000) == [(fd, select.POLLIN)]
    assert os.read(fd, 100).strip() == lease.status()["environment"].encode()
    os.close(fd)


def test_poll_for_events(mp):
    fd = os.open(mp / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(0):
        os.read(fd, 1 << 17)
    threading.Timer(0.2, mp.lease).start()
    assert poll.poll(10000) == [(fd, select.POLLIN)]
    assert b'"lease":"t1"' in os.read(fd, 1 << 17)
    os.close(fd)


def test_poll_for_writing(lease):
    fd = os.open(lease / "cmd", os.O_WRONLY)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    assert poll.poll(0) == [(fd, select.POLLOUT)]
    os.close(fd)


def test_nothing_else_waits(busy):
    """With readers waiting everywhere, everything else answers at once."""
    mp = busy.mount
    readers = [subprocess.Popen(["cat", name], cwd=busy.path, stdout=subprocess.DEVNULL)
               for name in ("output", "stdout", "stderr", "exit_code", "jobs/latest/output") * 4]
    mp.sh(
        "ls -laR . >/dev/null; stat t1/output t1/exit_code t1 .pool >/dev/null; df . >/dev/null; cat t1/status t1/error >/dev/null;"
        "mkdir x && rmdir x; echo true > t1/cmd; echo 5 > t1/timeout; echo A=1 > t1/env; echo /tmp > t1/cwd; rm -f t1/output;"
        "echo cancel > t1/ctl; cat .pool/status .pool/stats .pool/metrics .pool/config > /dev/null")
    finish(busy)
    for reader in readers:
        assert reader.wait() in (0, 1)


def test_a_thousand_waiting_readers(busy):
    """kill -9 ends them all, and their job and the mount go on."""
    mp = busy.mount
    shell = subprocess.Popen(["bash", "-c", "for i in $(seq 1000); do cat t1/exit_code & done; echo; wait"], cwd=mp.path,
                             stdout=subprocess.PIPE)
    shell.stdout.readline()
    readers = processes.children(shell.pid)
    assert len(readers) == 1000
    processes.until_waits(readers[-1])
    assert mp.sh("mkdir x && ls && rmdir x").stdout == "t1\nx\n"
    processes.kill(readers)
    assert processes.gone(readers, 10) == []
    shell.wait()
    shell.stdout.close()
    assert busy.status()["running"] == "1"
    finish(busy)
    assert busy.read("exit_code") == "143\n"


def test_a_thousand_readers_are_all_served(busy):
    mp = busy.mount
    shell = subprocess.Popen(["bash", "-c", "for i in $(seq 1000); do cat t1/exit_code & done; echo; wait"], cwd=mp.path,
                             stdout=subprocess.PIPE)
    shell.stdout.readline()
    finish(busy)
    assert shell.communicate()[0].split() == [b"143"] * 1000


def test_readers_come_and_go(busy):
    """Interrupts that race with answers."""
    def one(i):
        reader = subprocess.Popen(["cat", busy / "output"], stdout=subprocess.DEVNULL)
        time.sleep(i % 7 * 0.003)
        reader.send_signal(signal.SIGINT if i % 2 else signal.SIGKILL)
        return reader.wait()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert all(status < 0 for status in threads.map(one, range(200)))
    finish(busy)
    assert busy.read() == "up\n"


@pytest.mark.local
def test_nothing_waits_for_an_environment(mount):
    """All environments are lent and frozen, and fifty leases wait: all calls but reads of results answer a thousand times."""
    mp = mount(max=2)
    for i in range(2):
        lease = mp.lease(f"busy{i}")
        lease.submit("sleep 1000")
        lease.until_running()
    for i in range(50):
        mp.lease(f"wait{i:02}")
    frozen = list(processes.descendants(mp.pid))
    processes.kill(frozen, signal.SIGSTOP)
    for i in range(200):
        os.mkdir(mp / f"x{i}")
        assert len(os.listdir(mp.path)) == 54
        with pytest.raises(FileNotFoundError):
            os.stat(mp / f"new{i}")
        (mp / f"x{i}/cmd").write_text("echo never")
        os.rmdir(mp / f"x{i}")
    assert mp.stats()["leases_waiting"] == 50
    processes.kill(frozen, signal.SIGCONT)
