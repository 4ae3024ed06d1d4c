# SPDX-License-Identifier: MIT
"""ports/N: an open file is a connection to a port inside."""

import concurrent.futures
import errno
import hashlib
import os
import select
import signal
import statistics
import subprocess
import threading
import time

import pytest

pytestmark = pytest.mark.exact

SIZE = int(os.environ.get("MODALPOOL_PORTS_MIB", "24")) << 20
PORT = 8000

SERVER = r"""
import socket, sys, threading, time, hashlib
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", {port}))
s.listen(300)
print("listening", flush=True)
def serve(c):
    with c:
{body}
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
ECHO = "while data := c.recv(65536): c.sendall(data)"
SOURCE = "for i in range({size} >> 20): c.sendall(bytes([i % 251]) * (1 << 20))"
SINK = "n = 0\nh = hashlib.sha256()\nwhile data := c.recv(65536): n += len(data); h.update(data)\nc.sendall(b'%d %s' % (n, h.hexdigest().encode()))\nprint(n, h.hexdigest(), flush=True)"


def serve(lease, body, port=PORT, name="server"):
    """A job that serves; it listens when this returns."""
    job = lease.path / "jobs" / name
    job.mkdir()
    code = SERVER.format(port=port, body="\n".join("        " + line for line in body.splitlines()))
    (job / "timeout").write_text("0")
    (job / "cmd").write_text(f"exec python3 -u - <<'END'\n{code}\nEND\n")
    with open(job / "output", "rb", buffering=0) as output:
        assert output.readline() == b"listening\n"
    return job


def second_line(job):
    """Of what it printed, once it has."""
    with open(job / "output", "rb", buffering=0) as output:
        output.readline()
        return output.readline()


def eventually(true, seconds=30):
    """What no event tells of."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect(lease, port=PORT, flags=0):
    return os.open(lease / f"ports/{port}", os.O_RDWR | flags)


def read_all(fd):
    data = b""
    while piece := os.read(fd, 1 << 20):
        data += piece
    return data


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def pattern(size):
    return b"".join(bytes([i % 251]) * (1 << 20) for i in range(size >> 20))


@pytest.fixture
def lease(mount, settings):
    if settings.provider != "local" and not settings.helper:
        pytest.skip("connections need the helper")
    lease = mount(max=2).lease()
    lease.run("true")
    return lease


def test_there_and_back(lease):
    serve(lease, ECHO)
    fd = connect(lease)
    write_all(fd, b"hello")
    assert os.read(fd, 100) == b"hello"
    assert os.listdir(lease / "ports") == []
    os.close(fd)


def test_nobody_listens(lease):
    for port in (1, 9999, 65535):
        with pytest.raises(ConnectionRefusedError):
            connect(lease, port)
    for name in ("0", "65536", "080", "http", "-1"):
        with pytest.raises(FileNotFoundError):
            connect(lease, name)
    with pytest.raises(PermissionError):
        os.unlink(lease / "ports/80")


def test_http_by_the_file_alone(lease):
    """HTTP/1.0 from bash, without a client."""
    job = lease.path / "jobs/web"
    job.mkdir()
    (job / "cmd").write_text("mkdir w; cd w; echo 'the page' > index.html; exec python3 -m http.server 8000")
    lease.mount.until(lambda: lease.run("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000))'")[1] == 0)
    script = r"exec 3<>ports/8000; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3"
    answer = subprocess.run(["bash", "-c", script], cwd=lease.path, capture_output=True, check=True, timeout=60)
    assert answer.stdout.startswith(b"HTTP/1.0 200") and answer.stdout.endswith(b"the page\n")


def test_the_last_close_ends_it(lease):
    """What was written before arrives, and then the end."""
    job = serve(lease, SINK)
    fd = connect(lease)
    twin = os.dup(fd)
    data = pattern(2 << 20)
    write_all(fd, data)
    os.close(fd)
    write_all(twin, b"more")
    os.close(twin)
    digest = hashlib.sha256(data + b"more").hexdigest()
    assert f"{len(data) + 4} {digest}\n".encode() == second_line(job)


def test_fsync_ends_one_direction(lease):
    serve(lease, SINK)
    fd = connect(lease)
    write_all(fd, b"question")
    os.fsync(fd)
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"more")
    assert read_all(fd) == b"8 " + hashlib.sha256(b"question").hexdigest().encode()
    os.close(fd)


def test_much_each_way(lease):
    serve(lease, SOURCE.format(size=SIZE))
    serve(lease, SINK, PORT + 1, "sink")
    fd = connect(lease)
    digest = hashlib.sha256()
    while piece := os.read(fd, 1 << 20):
        digest.update(piece)
    os.close(fd)
    data = pattern(SIZE)
    assert digest.digest() == hashlib.sha256(data).digest()
    fd = connect(lease, PORT + 1)
    write_all(fd, data)
    os.close(fd)
    assert f"{SIZE} {digest.hexdigest()}\n".encode() == second_line(lease.path / "jobs/sink")


def test_a_reader_that_stops_holds_up_nobody(lease):
    """A stream that nobody reads, and one that is busy, leave a job its own round trip."""
    serve(lease, SOURCE.format(size=1 << 40))
    serve(lease, ECHO, PORT + 1, "echo")

    def seconds():
        begin = time.monotonic()
        assert lease.run("true") == ("", 0)
        return time.monotonic() - begin

    alone = statistics.median(seconds() for _ in range(21))
    stopped, busy, other = connect(lease), connect(lease), connect(lease, PORT + 1)
    ended = threading.Event()

    def read():
        while not ended.is_set():
            os.read(busy, 1 << 18)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        beside = statistics.median(seconds() for _ in range(21))
        write_all(other, b"ping")
        assert os.read(other, 10) == b"ping"
    finally:
        ended.set()
        reader.join()
        for fd in (stopped, busy, other):
            os.close(fd)
    print(f"\na job alone {alone * 1000:.2f} ms, beside a stream {beside * 1000:.2f} ms, ratio {beside / alone:.2f}")


def test_writes_wait_for_room(lease):
    """And only for their own: another connection to that port goes on."""
    serve(lease, "c.recv(1) == b'x' and time.sleep(1000); c.sendall(b'on')")
    stuck, free = connect(lease, flags=os.O_NONBLOCK), connect(lease)
    poller = select.poll()
    poller.register(stuck, select.POLLOUT | select.POLLIN)
    assert any(events & select.POLLOUT for _, events in poller.poll(30_000))
    written = os.write(stuck, b"x")
    with pytest.raises(BlockingIOError):
        while True:
            written += os.write(stuck, b"x" * 65536)
    assert written > 100_000 and not poller.poll(0)
    os.set_blocking(stuck, True)
    writer = subprocess.Popen(["dd", "bs=1M", "count=64", "if=/dev/zero", "status=none"], stdout=stuck)
    write_all(free, b"y")
    assert os.read(free, 10) == b"on"
    writer.send_signal(signal.SIGKILL)
    writer.wait(20)
    os.close(stuck)
    os.close(free)


def test_many_at_once(lease):
    serve(lease, ECHO)

    def one(number):
        fd = connect(lease)
        try:
            data = b"%d" % number * 1000
            write_all(fd, data)
            got = b""
            while len(got) < len(data):
                got += os.read(fd, 65536)
            assert got == data
            everybody.wait(60)
        finally:
            os.close(fd)

    everybody = threading.Barrier(200)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        list(pool.map(one, range(200)))


def test_connections_max(mount, lease):
    other = mount(connections_max=2).lease()
    serve(other, ECHO)
    held = [connect(other), connect(other)]
    with pytest.raises(OSError) as refused:
        connect(other)
    assert refused.value.errno == errno.EMFILE
    assert "connections_max" in other.read("error")
    os.close(held.pop())
    eventually(lambda: not fails(connect, other))
    os.close(held.pop())


def fails(call, *args):
    try:
        os.close(call(*args))
    except OSError:
        return True
    return False


HANGS = """
import socket, time
s = socket.socket()
s.bind(("127.0.0.1", 8000))
s.listen(0)
clients = [socket.socket() for _ in range(8)]
for c in clients:
    c.setblocking(False)
    c.connect_ex(("127.0.0.1", 8000))
print("listening", flush=True)
time.sleep(1000)
"""


def test_an_open_that_waits_can_be_interrupted(lease):
    """A server that accepts nobody, with a full queue. Nobody else waits."""
    job = lease.path / "jobs/hangs"
    job.mkdir()
    (job / "cmd").write_text(f"exec python3 -u - <<'END'\n{HANGS}\nEND\n")
    with open(job / "output", "rb", buffering=0) as output:
        assert output.readline() == b"listening\n"
    opener = subprocess.Popen(["cat", str(lease / "ports/8000")], stderr=subprocess.PIPE)
    assert lease.run("echo on") == ("on\n", 0)
    with pytest.raises(ConnectionRefusedError):
        connect(lease, 8001)
    assert opener.poll() is None, opener.stderr.read()
    opener.send_signal(signal.SIGINT)
    assert opener.wait(20) == -signal.SIGINT


def test_the_lease_is_released(lease):
    serve(lease, SOURCE.format(size=1 << 40))
    fd = connect(lease)
    assert os.read(fd, 10)
    lease.release()
    with pytest.raises(OSError) as ended:
        while os.read(fd, 1 << 20):
            pass
    assert ended.value.errno in (errno.ESTALE, errno.ENODEV)
    with pytest.raises(OSError):
        os.write(fd, b"x")
    os.close(fd)


def test_a_lease_without_a_job(mount, lease):
    """The open waits for the environment."""
    new = lease.mount.lease("t2")
    with pytest.raises(ConnectionRefusedError):
        connect(new)


@pytest.mark.plain
def test_without_a_helper(mount, settings):
    if settings.provider == "local":
        pytest.skip("each local environment has a helper")
    lease = mount().lease()
    lease.run("true")
    with pytest.raises(OSError) as refused:
        connect(lease)
    assert refused.value.errno == errno.EOPNOTSUPP
    assert "has no helper" in lease.read("error")


@pytest.mark.modal
def test_round_trips(lease, calm, rpc):
    """A connection costs one call, and what the server says first is there without another."""
    serve(lease, "c.sendall(b'hello')\nc.recv(1)")
    before = calm.stats()["rpcs"]
    opened = []
    for _ in range(20):
        opened.append(os.open(lease / f"ports/{PORT}", os.O_RDWR))
        assert os.read(opened[-1], 5) == b"hello"
    after = calm.stats()["rpcs"]
    made = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    # What the server's job printed is acknowledged at some time, and a stream of output may be asked for again.
    assert 20 <= made.pop("TaskExecStdinWrite") <= 22 and set(made) <= {"TaskExecStdioRead", rpc("SandboxWait")}, made
    for fd in opened:
        os.close(fd)
