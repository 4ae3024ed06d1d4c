"""Ways from this machine to a port inside a sandbox: tunnels, and the door of connect tokens.

A connection inside is made by the spawner, which joins the sandbox's network and hands the socket
out; so sandboxes stay apart from each other, and a server inside is found at its 127.0.0.1.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import urllib.parse

HOST = "127.0.0.1"
PIECE = 1 << 16
HEAD_MAX = 1 << 16
TOKEN_NAME = "_modal_connect_token"


async def pump(reader, writer):
    """One direction, until its end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()  # TLS has no half of an end


class Door:
    """A port of this machine that leads to one of a sandbox."""

    def __init__(self, sandbox, inner, context, guarded=True):
        self.sandbox = sandbox
        self.inner = inner
        self.context = context
        self.guarded = guarded     # inbound_cidr_allowlist rules it
        self._server = None
        self._tasks = set()
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]

    async def open(self):
        self._server = await asyncio.start_server(self._serve, sock=self._socket, ssl=self.context)

    def close(self):
        if self._server:
            self._server.close()
        self._socket.close()
        for task in self._tasks:
            task.cancel()

    def _allowed(self, address):
        allowed = self.sandbox.definition.inbound_cidr_allowlist
        return not (self.guarded and allowed) or any(
            ipaddress.ip_address(address) in ipaddress.ip_network(cidr) for cidr in allowed)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            if self._allowed(writer.get_extra_info("peername")[0]) and (head := await self.admit(reader, writer)) is not None:
                self.sandbox.touch()
                inside = await self.sandbox.container.connect(self.inner)
                await self._carry(reader, writer, *await asyncio.open_connection(sock=inside), head)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # nobody listens inside, or one of the two has gone
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _carry(self, reader, writer, inner_reader, inner_writer, head):
        try:
            inner_writer.write(head)
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            inner_writer.close()

    async def admit(self, reader, writer):
        """What goes before the rest, or None when the caller is sent away."""
        return b""


class ConnectDoor(Door):
    """HTTP for those who bring a connect token; each connection is judged by its first request."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.tokens = {}  # token -> the user's words about its holder

    def make_token(self, metadata):
        token = secrets.token_urlsafe(24)
        self.tokens[token] = metadata
        return token

    async def admit(self, reader, writer):
        first, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        given = {}
        for line in rest.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            given[name.strip().lower()] = value.strip()
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(first.split(b" ")[1].decode("latin-1")).query)
        cookies = dict(part.strip().partition("=")[::2] for part in given.get("cookie", "").split(";"))
        tokens = [given.get("authorization", "").removeprefix("Bearer "), cookies.get(TOKEN_NAME),
                  *query.get(TOKEN_NAME, [])]
        token = next((t for t in tokens if t in self.tokens), None)
        if token is None:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return None
        words = urllib.parse.quote(self.tokens[token])
        return first + f"\r\nX-Verified-User-Data: {words}\r\n".encode() + rest


class Tunnels:
    """The doors of one sandbox; its ports are known from the beginning."""

    def __init__(self, sandbox, context):
        self.sandbox = sandbox
        self.context = context
        self.ports = []     # (number inside, encrypted door, unencrypted door or None)
        self.doors = []
        self.connects = {}  # number inside -> ConnectDoor
        for spec in sandbox.definition.open_ports.ports:
            plain = self._door(Door(sandbox, spec.port, None, False)) if spec.unencrypted else None
            self.ports.append((spec.port, self._door(Door(sandbox, spec.port, context)), plain))

    def _door(self, door):
        self.doors.append(door)
        return door

    async def open(self):
        for door in self.doors:
            await door.open()

    def close(self):
        for door in self.doors:
            door.close()

    async def connect_token(self, port, metadata):
        """(url, token)"""
        door = self.connects.get(port)
        if door is None:
            door = self.connects[port] = self._door(ConnectDoor(self.sandbox, port, self.context))
            await door.open()
        return f"{'https' if self.context else 'http'}://{HOST}:{door.port}", door.make_token(metadata)
