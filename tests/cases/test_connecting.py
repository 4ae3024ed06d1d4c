# SPDX-License-Identifier: MIT
"""Clients that people use, through forward to servers that jobs run. test_forward.py has curl and wget."""

import asyncio
import shutil
import subprocess

import pytest

from test_forward import forward, lease  # noqa: F401

pytestmark = pytest.mark.exact

PARTS = 100

WEBSOCKETS = r"""
import asyncio, websockets
async def echo(socket, *_):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 8000, max_size=None):
        print("listening", flush=True)
        await asyncio.Future()
asyncio.run(main())
"""

# A page with so many scripts; each adds one, and the page shows the sum. HTTP/1.0, so each has a connection.
PAGE = r"""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, text = "text/html", "".join(f"<script src=/part{{n}}.js></script>" for n in range({parts}))
        text = "<!DOCTYPE html><script>let sum = 0</script>" + text + "<p><script>document.write('sum ' + sum)</script></p>"
        if self.path.startswith("/part"):
            kind, text = "text/javascript", "sum++;" + " " * 20000
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())
class Server(ThreadingHTTPServer):
    request_queue_size = 100
server = Server(("127.0.0.1", 8000), Handler)
print("listening", flush=True)
server.serve_forever()
"""


def start(lease, command, ready):
    """A job that serves, once it has printed a line with these words."""
    job = lease.path / "jobs/server"
    job.mkdir()
    (job / "timeout").write_text("0")
    (job / "cmd").write_text(command)
    with open(job / "output", "rb", buffering=0) as output:
        while line := output.readline():
            if ready in line:
                return
    raise RuntimeError("the server ended: " + (job / "output").read_text())


def start_python(lease, code):
    start(lease, f"exec /usr/bin/python3 -u - <<'END'\n{code}\nEND\n", b"listening")


def test_websocket(lease):
    """Messages of both sizes that a frame of a channel splits and does not; and the ping of the protocol."""
    websockets = pytest.importorskip("websockets", reason="python3-websockets is not installed")

    async def talk(address):
        async with websockets.connect(f"ws://{address}", max_size=None) as socket:
            await (await socket.ping())
            for message in ("hello", "x" * (1 << 20), b"\0" * 100_000):
                await socket.send(message)
                assert await socket.recv() == message

    start_python(lease, WEBSOCKETS)
    with forward(lease) as (address, _):
        asyncio.run(talk(address))


def test_redis(lease, need):
    need("redis-server", "redis-cli")
    start(lease, "exec redis-server --port 8000 --bind 127.0.0.1 --save '' --appendonly no", b"eady to accept connections")
    with forward(lease) as (address, _):
        host, port = address.split(":")
        commands = "".join(f"SET key{n} {n}\n" for n in range(1000)) + "GET key999\nDBSIZE\n"
        done = subprocess.run(["redis-cli", "-h", host, "-p", port], input=commands, capture_output=True, text=True,
                              timeout=60, check=True)
        assert done.stdout.splitlines() == ["OK"] * 1000 + ["999", "1000"]


@pytest.mark.languages
@pytest.mark.limit(120)
def test_browser(lease, tmp_path):
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed")
    start_python(lease, PAGE.format(parts=PARTS))
    with forward(lease) as (address, _):
        done = subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"http://{address}/"],
                              capture_output=True, text=True, timeout=100)
    assert f"sum {PARTS}<" in done.stdout, done.stderr
