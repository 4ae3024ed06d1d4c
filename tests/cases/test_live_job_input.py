# SPDX-License-Identifier: MIT
"""Live input: what is written to the stdin of a job with a name reaches it while it runs."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading

import pytest

import processes

KEPT = 1 << 20  # bytes that are kept for a job until its sandbox has them


@pytest.fixture
def live(lease):
    """A lease whose environment has a helper."""
    try:
        os.mkdir(lease / "jobs/probe")
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        pytest.skip("these environments have no helper")
    os.rmdir(lease / "jobs/probe")
    return lease


@contextlib.contextmanager
def refused(number):
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number


def begin(lease, name, command, first=b""):
    """A job whose input is live; @first is written before that."""
    os.mkdir(lease / f"jobs/{name}")
    if first:
        lease.write(f"jobs/{name}/stdin", first)
    lease.write(f"jobs/{name}/ctl", "input open\n")
    lease.write(f"jobs/{name}/cmd", command)


def eof(lease, name):
    lease.write(f"jobs/{name}/ctl", "eof\n")


def accepted(lease, name):
    return os.stat(lease / f"jobs/{name}/stdin").st_size


def write_all(path, data):
    """What a program does that knows no more of pipes than that a write may be short."""
    with open(path, "wb", buffering=0) as f:
        view = memoryview(data)
        while view:
            view = view[f.write(view):]


class Reader:
    """Output, line by line."""

    def __init__(self, lease, name, stream="stdout"):
        self.file = open(lease / f"jobs/{name}/{stream}", "rb", buffering=0)
        self.text = b""

    def until(self, end):
        while end not in self.text:
            data = self.file.read(1 << 16)
            assert data, self.text
            self.text += data
        before, _, self.text = self.text.partition(end)
        return before

    def exactly(self, n):
        while len(self.text) < n:
            data = self.file.read(1 << 16)
            assert data, self.text
            self.text += data
        before, self.text = self.text[:n], self.text[n:]
        return before


def test_what_goes_in_comes_out(live):
    """Each word by itself, over one file that stays open and over one for each word; the close ends nothing."""
    lease = live
    begin(lease, "a", "cat; echo over; exit 3")
    out = Reader(lease, "a")
    with open(lease / "jobs/a/stdin", "wb", buffering=0) as stdin:
        for word in b"one\n", b"\0\xff\n", b"three\n":
            assert stdin.write(word) == len(word)
            assert out.exactly(len(word)) == word
    for word in b"four\n", b"five\n":
        lease.write("jobs/a/stdin", word)
        assert out.until(b"\n") + b"\n" == word
    subprocess.run(["sh", "-c", f"echo six > {lease}/stdin; echo seven >> {lease}/stdin".replace(
        f"{lease}", str(lease / "jobs/a"))], check=True)
    assert out.until(b"\n") == b"six" and out.until(b"\n") == b"seven"
    assert accepted(lease, "a") == len("one\n12\nthree\nfour\nfive\nsix\nseven\n")
    assert lease.status("jobs/a/status")["state"] == "running"
    eof(lease, "a")
    eof(lease, "a")  # a second one does nothing
    assert out.until(b"\n") == b"over"
    assert lease.read("jobs/a/exit_code") == "3\n"


def test_before_it_runs(live):
    """What was written before is the first that it reads, whatever was open when; also an end that came before."""
    lease = live
    begin(lease, "a", "cat", first=b"before\n")
    lease.write("jobs/a/stdin", b"after\n")
    eof(lease, "a")
    assert lease.read("jobs/a/output") == "before\nafter\n"
    os.mkdir(lease / "jobs/b")
    with open(lease / "jobs/b/stdin", "wb", buffering=0) as early:
        early.write(b"early ")
        lease.write("jobs/b/ctl", "input open\ninput open\n")
        early.write(b"and then ")
        lease.write("jobs/b/ctl", "eof\n")
        with refused(errno.EPIPE):
            early.write(b"late")
    lease.write("jobs/b/cmd", "cat; echo end")
    assert lease.read("jobs/b/output") == "early and then end\n"


def test_refusals(live):
    lease = live
    with refused(errno.EINVAL):
        lease.write("ctl", "input open\n")
    with refused(errno.EINVAL):
        lease.write("ctl", "eof\n")
    os.mkdir(lease / "jobs/a")
    for words in "input", "input shut", "eof", "eof now":
        with refused(errno.EINVAL):
            lease.write("jobs/a/ctl", words + "\n")
        assert lease.read("error").startswith(f'ctl: "{words}": ')
    lease.write("jobs/a/cmd", "cat")
    with refused(errno.EBUSY):
        lease.write("jobs/a/ctl", "input open\n")
    assert lease.read("error") == 'ctl: "input open": refused: the job was submitted\n'
    with refused(errno.EBUSY):
        lease.write("jobs/a/stdin", "late")
    assert lease.read("jobs/a/output") == ""
    lease.run("true")
    with refused(errno.EBUSY):
        lease.write("jobs/1/ctl", "input open\n")
    os.mkdir(lease / "jobs/much")
    lease.write("jobs/much/stdin", bytes(KEPT + 1))
    with refused(errno.EFBIG):
        lease.write("jobs/much/ctl", "input open\n")
    assert lease.read("error") == 'ctl: "input open": refused: stdin has more than 1024 KiB\n'
    lease.write("jobs/much/cmd", "wc -c")
    assert lease.read("jobs/much/output").strip() == str(KEPT + 1)
    assert "input open\neof\n" in lease.read("jobs/much/ctl") and "eof" not in lease.read("ctl")


def test_nothing_to_cut_and_nothing_to_read(live):
    lease = live
    begin(lease, "a", "cat")
    with open(lease / "jobs/a/stdin", "r+b", buffering=0) as stdin:
        stdin.write(b"some bytes")
        assert stdin.read(100) == b""
        stdin.truncate(10)
        with refused(errno.EINVAL):
            stdin.truncate(4)
    lease.write("jobs/a/stdin", b" and more")  # its O_TRUNC cuts nothing
    eof(lease, "a")
    assert lease.read("jobs/a/output") == "some bytes and more"


def test_nobody_reads_any_more(live, settings):
    """A job that closes its input, one that has ended, one that was removed: the writer is told."""
    lease = live
    if not settings.gvisor:
        begin(lease, "a", "exec <&-; echo closed; exec sleep 1000")
        assert Reader(lease, "a").until(b"\n") == b"closed"
        with refused(errno.EPIPE):
            write_all(lease / "jobs/a/stdin", bytes(8 * KEPT))
        lease.write("jobs/a/ctl", "kill\n")
        assert lease.read("jobs/a/exit_code") == "137\n"
    begin(lease, "b", "true")
    assert lease.read("jobs/b/exit_code") == "0\n"
    with refused(errno.EPIPE):
        lease.write("jobs/b/stdin", "late")
    for how in "kill", "rmdir", "release":
        begin(lease, how, "exec sleep 1000")
        with open(lease / f"jobs/{how}/stdin", "wb", buffering=0) as stdin, writing(stdin) as end:
            if how == "kill":
                lease.write("jobs/kill/ctl", "kill\n")
            elif how == "rmdir":
                os.rmdir(lease / "jobs/rmdir")
            else:
                lease.release()
            assert end() == errno.EPIPE


@contextlib.contextmanager
def writing(stdin):
    """Another thread writes until that fails; the errno by which it did. When it waits, this goes on."""
    fd = os.open(f"/proc/self/fd/{stdin.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    errors = []

    def run():
        try:
            while True:
                stdin.write(bytes(1 << 16))
        except OSError as e:
            errors.append(e.errno)
    thread = threading.Thread(target=run)
    thread.start()
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    while poller.poll(200):
        pass
    os.close(fd)

    def end():
        thread.join()
        return errors[0]
    yield end
    thread.join()


def test_room(live):
    """One who must not wait is told EAGAIN, poll and both kinds of epoll tell when there is room, and no byte is lost."""
    lease = live
    begin(lease, "a", "while ! [ -e go ]; do sleep 0.01; done; exec sha256sum")
    fd = os.open(lease / "jobs/a/stdin", os.O_WRONLY | os.O_NONBLOCK)
    digest, total, rng = hashlib.sha256(), 0, random.Random(1)
    edge, level = select.epoll(), select.poll()
    edge.register(fd, select.EPOLLOUT | select.EPOLLET)
    level.register(fd, select.POLLOUT)
    assert edge.poll(0) and level.poll(0)

    def write(n):
        nonlocal total
        data = rng.randbytes(n)
        n = os.write(fd, data)
        assert n > 0
        digest.update(data[:n])
        total += n

    def fill():
        with refused(errno.EAGAIN):
            while True:
                write(50_000)
                assert total < 64 * KEPT
    fill()
    while level.poll(2000):  # until all that lies between is full
        fill()
    assert KEPT <= total <= 4 * KEPT
    edge.poll(0)
    assert lease.run("touch go") == ("", 0)
    assert edge.poll() and level.poll()
    while total < 16 * KEPT:
        try:
            write(50_000)
        except BlockingIOError:
            assert edge.poll()
    os.close(fd)
    eof(lease, "a")
    assert lease.read("jobs/a/output").split()[0] == digest.hexdigest()


WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
while True:
    print(os.write(fd, bytes(300_000)), flush=True)
"""


def test_a_writer_that_waits(live):
    """A write of more than there is room for waits, and kill -9 ends its program at once."""
    lease = live
    begin(lease, "a", "while ! [ -e go ]; do sleep 0.01; done; wc -c")
    with subprocess.Popen([sys.executable, "-c", WRITER, lease / "jobs/a/stdin"], stdout=subprocess.PIPE, text=True) as writer:
        while accepted(lease, "a") < KEPT:
            assert int(writer.stdout.readline()) == 300_000
        # No more than a few of these fit, so it waits in one, or will.
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
    written = accepted(lease, "a")
    assert KEPT <= written < 5 * 300_000
    assert lease.run("touch go") == ("", 0)
    eof(lease, "a")
    assert lease.read("jobs/a/output").strip() == str(written)


def test_a_signal_ends_a_write(live):
    """With what it has written by then, or with EINTR."""
    lease = live
    begin(lease, "a", "exec sleep 1000")
    script = """
import errno, os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 1, 1)
fd = os.open(sys.argv[1], os.O_WRONLY)
import ctypes
libc, data, total = ctypes.CDLL(None, use_errno=True), bytes(300_000), 0
while (n := libc.write(fd, data, len(data))) > 0:
    total += n
print(total, ctypes.get_errno() == errno.EINTR)
"""
    done = subprocess.run([sys.executable, "-c", script, lease / "jobs/a/stdin"], capture_output=True, text=True, check=True)
    total, interrupted = done.stdout.split()
    assert interrupted == "True" and int(total) == accepted(lease, "a") >= KEPT


def test_python(live):
    """`python3 -i`, driven by its prompt."""
    lease = live
    begin(lease, "py", "exec python3 -i -u 2>&1")
    out = Reader(lease, "py")
    out.until(b">>> ")

    def say(line):
        lease.write("jobs/py/stdin", line + "\n")
        return out.until(b">>> ").decode()
    assert say("a = 6") == ""
    assert say("a * 7") == "42\n"
    assert say("import os; os.getpid() > 0") == "True\n"
    assert "ZeroDivisionError" in say("1 / 0")
    lease.write("jobs/py/stdin", "raise SystemExit(5)\n")
    assert lease.read("jobs/py/exit_code") == "5\n"


SERVER = """
import json, sys
while True:
    head = {}
    while (line := sys.stdin.buffer.readline().strip()):
        key, _, value = line.partition(b":")
        head[key.strip().lower()] = value.strip()
    if not head:
        break
    message = json.loads(sys.stdin.buffer.read(int(head[b"content-length"])))
    answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": message["params"][::-1]}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
    sys.stdout.buffer.flush()
"""


def test_a_server_of_json_rpc(live):
    """As language servers are: messages of a stated length over standard input and output."""
    lease = live
    lease.run(f"cat > server.py <<'END'\n{SERVER}\nEND")
    begin(lease, "server", "exec python3 server.py")
    out = Reader(lease, "server")
    for number in range(50):
        params = "x" * number * 1000 + "y"
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "reverse", "params": params}).encode()
        lease.write("jobs/server/stdin", b"Content-Length: %d\r\n\r\n" % len(body) + body)
        length = int(out.until(b"\r\n\r\n").split(b":")[1])
        answer = json.loads(out.exactly(length))
        assert answer == {"jsonrpc": "2.0", "id": number, "result": params[::-1]}
    eof(lease, "server")
    assert lease.read("jobs/server/exit_code") == "0\n"


def through_cat(lease, size):
    """So many bytes in and out; and how much memory the daemon took for it, in KiB."""
    begin(lease, "cat", "cat")
    digest, rng, total = hashlib.sha256(), random.Random(size), 0
    source = hashlib.sha256()
    peak = 0

    def write():
        with open(lease / "jobs/cat/stdin", "wb", buffering=0) as stdin:
            for _ in range(size >> 18):
                data = rng.randbytes(1 << 18)
                source.update(data)
                assert stdin.write(data) == len(data)
        eof(lease, "cat")
    thread = threading.Thread(target=write)
    thread.start()
    with open(lease / "jobs/cat/stdout", "rb", buffering=0) as out:
        while (data := out.read(1 << 20)):
            digest.update(data)
            total += len(data)
            peak = max(peak, int(processes.read(f"/proc/{lease.mount.pid}/status").split("VmRSS:")[1].split()[0]))
    thread.join()
    assert total == size and digest.hexdigest() == source.hexdigest()
    assert lease.read("jobs/cat/exit_code") == "0\n"
    return peak


@pytest.mark.limit(300)
def test_32_mib_through_cat(live):
    assert through_cat(live, 32 << 20) < 64 << 10


@pytest.mark.many
@pytest.mark.limit(3600)
def test_a_gibibyte_through_cat(live):
    peak = through_cat(live, 1 << 30)
    print(f"the daemon took {peak} KiB")
    assert peak < 64 << 10


def outlive(settings):
    """The option by which environments live through a restart of their daemon."""
    return {"orphan_timeout": 60} if settings.provider == "local" else {}


def again(mp):
    """kill -9, and the next start at the same place."""
    mp.crash(survives=True)
    mp.lines.clear()
    mp.start()


@pytest.mark.limit(120)
@pytest.mark.parametrize("seed", range(3))
def test_the_daemon_is_killed(mount, settings, seed):
    """kill -9 in the middle, again and again: what was written is delivered once, and goes on behind what was accepted."""
    if not settings.helper:
        pytest.skip("these environments have no helper")
    mp, rng = mount(max=1, **outlive(settings)), random.Random(seed)
    lease = mp.lease()
    data = b"".join(b"%d\n" % i for i in range(400_000))
    begin(lease, "a", "cat")
    done = 0
    for piece in itertools.chain(range(len(data) // 5, len(data), len(data) // 5), (len(data),)):
        stop_at = rng.randrange(done, piece)
        killed = threading.Event()
        path = lease / "jobs/a/stdin"
        with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stdin:
            while done < piece:
                if done >= stop_at and not killed.is_set():
                    killed.set()
                    threading.Thread(target=mp.process.kill).start()
                done += stdin.write(data[done:done + rng.randint(1, 40_000)])
        again(mp)
        assert done <= accepted(lease, "a") <= done + 40_000
        done = accepted(lease, "a")
    if done < len(data):
        write_all(path, data[done:])
    eof(lease, "a")
    again(mp)
    assert (lease / "jobs/a/output").read_bytes() == data
    assert lease.read("jobs/a/exit_code") == "0\n"
