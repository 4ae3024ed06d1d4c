# SPDX-License-Identifier: MIT
"""modalpool forward: a socket of this machine leads to a port in a lease."""

import contextlib
import hashlib
import os
import socket
import stat
import subprocess

import pytest

from test_ports import ECHO, PORT, SINK, SOURCE, lease, pattern, serve  # noqa: F401

pytestmark = pytest.mark.exact


@contextlib.contextmanager
def forward(lease, *more, port=PORT):
    """(address, process)."""
    process = subprocess.Popen([*lease.mount.settings.wrapper, lease.mount.settings.program, "forward", "-v", str(lease.path),
                                str(port), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
        sockets = [stack.enter_context(connect(address)) for _ in range(100)]
        for number, s in enumerate(sockets):
            s.sendall(b"%d\n" % number)
        for number, s in enumerate(sockets):
            assert s.makefile("rb").readline() == b"%d\n" % number


def test_nobody_listens_there(lease):
    with forward(lease) as (address, process), connect(address) as s:
        with pytest.raises(ConnectionResetError):
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


def test_wrong_words(lease):
    program = lease.mount.settings.program
    for words in ([], [str(lease.path)], [str(lease.path), "0"], [str(lease.path), "x"], [str(lease.path), "1", "70000"],
                  [str(lease.path), "1", "2", "--unix", "x"]):
        assert "usage" in subprocess.run([program, "forward", *words], capture_output=True, text=True).stderr
    gone = subprocess.run([program, "forward", str(lease.path) + "-none", "80"], capture_output=True, text=True)
    assert gone.returncode == 1 and "No such file" in gone.stderr
