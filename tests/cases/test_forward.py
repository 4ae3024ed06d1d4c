# SPDX-License-Identifier: MIT
"""modalpool forward: a socket of this machine leads to a port in a lease."""

import contextlib
import hashlib
import os
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from test_ports import ECHO, HANGS, PORT, SINK, SOURCE, lease, pattern, second_line, serve  # noqa: F401

pytestmark = pytest.mark.exact


@contextlib.contextmanager
def forward(lease, *more, port=PORT, where=None):
    """(address, process); with a working directory, it is given the lease's path from there."""
    path = lease.path.relative_to(where) if where else lease.path
    process = subprocess.Popen([*lease.mount.settings.wrapper, lease.mount.settings.program, "forward", "-v", str(path),
                                str(port), *more], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), process.stderr.read()
        yield line.removeprefix("listening on ").split(",")[0].strip(), process
    finally:
        process.terminate()
        process.wait(20)


def connect(address):
    if ":" not in address:
        s = socket.socket(socket.AF_UNIX)
        s.connect(address)
        return s
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), 60)


def read_all(s):
    data = bytearray()
    while piece := s.recv(1 << 18):
        data += piece
    return bytes(data)


@pytest.mark.parametrize("client", ["curl -sS http://{}/page", "wget -qO- http://{}/page"])
def test_http(lease, client):
    job = lease.path / "jobs/web"
    job.mkdir()
    (job / "cmd").write_text("mkdir w; cd w; echo 'the page' > page; exec python3 -u -m http.server 8000")
    with open(job / "output", "rb", buffering=0) as output:
        assert output.readline().startswith(b"Serving")
    with forward(lease) as (address, _):
        assert subprocess.run(client.format(address).split(), capture_output=True, timeout=60).stdout == b"the page\n"


def test_half_close(lease):
    """The server is told that no more comes, and answers then."""
    job = serve(lease, SINK)
    data = pattern(8 << 20)
    with forward(lease) as (address, process), connect(address) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == b"%d %s" % (len(data), hashlib.sha256(data).hexdigest().encode())
        assert process.stderr.readline() == "connection 1: opened\n"
        s.close()
        assert process.stderr.readline() == "connection 1: closed\n"


def test_much(lease):
    serve(lease, SOURCE.format(size=16 << 20))
    with forward(lease) as (address, _), connect(address) as s:
        assert hashlib.sha256(read_all(s)).digest() == hashlib.sha256(pattern(16 << 20)).digest()


def test_many_at_once(lease):
    serve(lease, ECHO)
    with forward(lease) as (address, _), contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(connect(address)) for _ in range(200)]
        for number, s in enumerate(sockets):
            s.sendall(b"%d\n" % number)
        for number, s in enumerate(sockets):
            assert s.makefile("rb").readline() == b"%d\n" % number


def test_nobody_listens_there(lease):
    with forward(lease) as (address, process):
        with pytest.raises(ConnectionResetError), connect(address) as s:
            s.recv(1)
        assert "Connection refused" in process.stderr.readline() + process.stderr.readline()


def test_a_local_socket(lease, tmp_path):
    serve(lease, ECHO)
    path = str(tmp_path / "socket")
    with forward(lease, "--unix", path) as (address, process):
        assert address == path and stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with connect(address) as s:
            s.sendall(b"hello\n")
            assert s.makefile("rb").readline() == b"hello\n"
    assert not os.path.exists(path)


def test_ends_with_the_lease(lease):
    serve(lease, ECHO)
    with forward(lease) as (address, process), connect(address) as s:
        s.sendall(b"hello\n")
        assert s.makefile("rb").readline() == b"hello\n"
        lease.release()
        assert process.wait(30) == 0


def test_the_server_closes_its_half(lease):
    """The client reads the end, and what it sends after that still arrives."""
    job = serve(lease, "import socket as s\nc.sendall(b'first')\nc.shutdown(s.SHUT_WR)\n" + SINK.replace("c.sendall", "(lambda _: 0)"))
    data = pattern(8 << 20)
    with forward(lease) as (address, _), connect(address) as s:
        assert read_all(s) == b"first"
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert second_line(job) == b"%d %s\n" % (len(data), hashlib.sha256(data).hexdigest().encode())


def test_a_server_that_accepts_nobody(lease):
    """Its connections wait, those that are there go on, and a client that gives up takes its own with it."""
    serve(lease, ECHO, PORT + 1, "echo")
    job = lease.path / "jobs/hangs"
    job.mkdir()
    (job / "cmd").write_text(f"exec python3 -u - <<'END'\n{HANGS}\nEND\n")
    with open(job / "output", "rb", buffering=0) as output:
        assert output.readline() == b"listening\n"
    with forward(lease) as (hanging, process), forward(lease, port=PORT + 1) as (echo, _), connect(echo) as other:
        waiting = [connect(hanging) for _ in range(20)]
        for _ in range(20):
            assert process.stderr.readline().endswith("opened\n")
        waiting[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting[0].recv(1)
        other.sendall(b"hello\n")
        assert other.makefile("rb").readline() == b"hello\n"
        for s in waiting:
            s.close()


def test_the_environment_dies(lease):
    """In the middle of a transfer: no client takes what it has for all."""
    serve(lease, SOURCE.format(size=1 << 40))
    with forward(lease) as (address, process), connect(address) as s:
        assert s.recv(1 << 20)
        lease.mount.murder(lease.mount.sandboxes())
        with pytest.raises(ConnectionResetError):
            read_all_and_drop(s)
        assert process.stderr.readline() == "connection 1: opened\n"
        assert process.stderr.readline().startswith("connection 1: closed: ")
        lease.release()
        assert process.wait(30) == 0


def read_all_and_drop(s):
    while s.recv(1 << 20):
        pass


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "crash"])
def test_a_restart_of_the_daemon(mount, settings, signo):
    """What was open ends, and is told from a good end; then there are new connections. It is started inside the mount."""
    if settings.provider != "local" and not settings.helper:
        pytest.skip("connections need the helper")
    mp = mount(max=1, keep=True, **({"orphan_timeout": 60} if settings.provider == "local" else {}))
    lease = mp.lease()
    serve(lease, ECHO)
    with forward(lease, where=mp.path) as (address, process), connect(address) as s:
        s.sendall(b"hello\n")
        assert s.makefile("rb").readline() == b"hello\n"
        assert process.stderr.readline() == "connection 1: opened\n"
        if signo == signal.SIGKILL:
            mp.crash(survives=True)
        else:
            mp.process.send_signal(signo)
            assert mp.process.wait() == 0
            mp.process = None
            mp.listener.join()
        with pytest.raises(ConnectionResetError):
            s.recv(1)
        assert process.stderr.readline().startswith("connection 1: closed: ")
        assert process.stderr.readline() == "modalpool: forward: the mount is away; connections are reset until it is back\n"
        with pytest.raises(ConnectionResetError), connect(address) as early:
            early.recv(1)
        assert process.stderr.readline().startswith("connection 2: not opened: ")
        mp.lines.clear()
        mp.options["keep"] = False
        mp.start()
        assert process.stderr.readline() == "modalpool: forward: the mount is back\n"
        with connect(address) as s:
            s.sendall(b"again\n")
            assert s.makefile("rb").readline() == b"again\n"
        lease.release()
        assert process.wait(30) == 0


@pytest.mark.many
@pytest.mark.limit(600)
def test_a_gibibyte_each_way(lease):
    """At once, over one forward."""
    size = 1 << 30
    serve(lease, SOURCE.format(size=size))
    sink = serve(lease, SINK, PORT + 1, "sink")
    piece = b"0123456789abcdef" * 65536
    sent, got = hashlib.sha256(), hashlib.sha256()
    with forward(lease) as (source, _), forward(lease, port=PORT + 1) as (address, _), connect(address) as up, \
            connect(source) as down:

        def send():
            for _ in range(size // len(piece)):
                sent.update(piece)
                up.sendall(piece)
            up.shutdown(socket.SHUT_WR)

        began = time.monotonic()
        sender = threading.Thread(target=send)
        sender.start()
        while data := down.recv(1 << 18):
            got.update(data)
        sender.join()
        answer = read_all(up)
        took = time.monotonic() - began
    wanted = hashlib.sha256()
    for i in range(size >> 20):
        wanted.update(bytes([i % 251]) * (1 << 20))
    assert got.digest() == wanted.digest()
    assert answer == b"%d %s" % (size, sent.hexdigest().encode()) and second_line(sink) == answer + b"\n"
    print(f"1 GiB each way at once in {took:.1f} s, {2048 / took:.0f} MiB/s together")


def test_wrong_words(lease):
    program = lease.mount.settings.program
    for words in ([], [str(lease.path)], [str(lease.path), "0"], [str(lease.path), "x"], [str(lease.path), "1", "70000"],
                  [str(lease.path), "1", "2", "--unix", "x"]):
        assert "usage" in subprocess.run([program, "forward", *words], capture_output=True, text=True).stderr
    gone = subprocess.run([program, "forward", str(lease.path) + "-none", "80"], capture_output=True, text=True)
    assert gone.returncode == 1 and "No such file" in gone.stderr
