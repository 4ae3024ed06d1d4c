"""What clients connect to: a proxy that understands HTTP/2 frames.

gRPC's Python server cannot reset a connection, send GOAWAY when told to, or
end a stream without trailers. So the servicers listen on a unix socket, and
this stands before them: it takes TLS off, passes frames through unchanged, and
breaks the connection or the stream when a fault says so. One listener takes TLS
and plain HTTP/2 on the same port (Modal's JS SDK, on loopback, speaks plain
HTTP/2 to the router whatever its url says); it tells them apart by the first byte.

Two things keep header compression right although header blocks are left out:
the client's SETTINGS are rewritten so that the server keeps no dynamic table,
so a block not passed on to the client is not missed; and after a request has
been held back by GOAWAY, no later request of that connection is passed on.
"""

import asyncio
import socket
import struct

import hpack

from .faults import WIRE_KINDS

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 7, 8, 9
END_STREAM, END_HEADERS, ACK, PADDED, PRIORITY = 0x1, 0x4, 0x1, 0x8, 0x20
HEADER_TABLE_SIZE = 1
CANCEL, INTERNAL_ERROR, NO_ERROR = 0x8, 0x2, 0x0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TLS_HANDSHAKE = 0x16
# ":status 200" and "content-type: application/grpc" without compression state.
PLAIN_HEADERS = b"\x88\x0f\x10\x10application/grpc"
BUFFER = 1 << 20
FRAME = 16384  # bytes that every peer takes


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def flood(stream, messages):
    """Empty messages of gRPC, five bytes each, in DATA frames that are full."""
    body = bytes(5 * messages)
    return b"".join(frame(DATA, 0, stream, body[at:at + FRAME]) for at in range(0, len(body), FRAME))


class Frames:
    """Cuts a byte stream into frames. Those that `wants` does not ask for go on in one piece."""

    def __init__(self, wants, take):
        self.wants = wants  # (kind, flags, stream, length) -> bool
        self.take = take    # (kind, flags, stream, payload) -> bytes to pass on instead
        self.rest = b""

    def receive(self, data):
        data = self.rest + data if self.rest else data
        position = passed = 0
        out = []
        while len(data) - position >= 9:
            length = int.from_bytes(data[position:position + 3], "big")
            end = position + 9 + length
            if end > len(data):
                break
            kind, flags = data[position + 3], data[position + 4]
            stream = int.from_bytes(data[position + 5:position + 9], "big") & 0x7fffffff
            if self.wants(kind, flags, stream, length):
                if passed < position:
                    out.append(data[passed:position])
                out.append(self.take(kind, flags, stream, data[position + 9:end]))
                passed = end
            position = end
        if passed < position:
            out.append(data[passed:position])
        self.rest = data[position:]
        return b"".join(out)


class Backend(asyncio.Protocol):
    """The connection to the servicers that belongs to one client connection."""

    def __init__(self, client):
        self.client = client
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFER)

    def data_received(self, data):
        self.client.from_server(data)

    def connection_lost(self, error):
        self.client.close()

    def pause_writing(self):
        self.client.transport.pause_reading()

    def resume_writing(self):
        self.client.transport.resume_reading()


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, listener):
        self.listener = listener
        self.transport = None
        self.backend = None
        self.up = Frames(self._wants_up, self._take_up)
        self.down = Frames(self._wants_down, self._take_down)
        self.preface = len(PREFACE)
        self.waiting = b""         # came before the backend was connected
        self.decoder = hpack.Decoder()
        self.block = None          # a header block in parts: (stream, flags, bytes)
        self.open = set()          # streams passed on and not ended
        self.last = 0              # the newest stream passed on
        self.leaving = False       # GOAWAY was sent: close when nothing is open
        self.stalled = False
        self.faulty = {}           # stream -> rule that strikes its answer
        self.answered = set()      # faulty streams whose first headers have passed
        self.left = {}             # stream -> bytes until it is cut
        self.swallow = set()       # streams of which nothing more goes to the client

    # Life

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFER)
        self.listener.connections.add(self)
        self.listener.records.wire[self.listener.name + " connections"] += 1
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self):
        loop = asyncio.get_running_loop()
        try:
            _, self.backend = await loop.create_unix_connection(lambda: Backend(self), self.listener.backend)
        except OSError:
            self.reset()
            return
        if self.transport.is_closing():
            self.backend.transport.abort()
        elif self.waiting:
            self._send_up(self.waiting)

    def connection_lost(self, error):
        self.listener.connections.discard(self)
        if self.backend:
            self.backend.transport.abort()

    def pause_writing(self):
        self.backend.transport.pause_reading()

    def resume_writing(self):
        self.backend.transport.resume_reading()

    def close(self):
        self.transport.close()

    def reset(self):
        """Closes with RST: what was sent may be lost, and the client sees an error."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # Client to server

    def data_received(self, data):
        if self.backend is None:
            self.waiting += data
        else:
            self._send_up(data)

    def _send_up(self, data):
        if self.stalled:
            return
        if self.preface:
            head, data = data[:self.preface], data[self.preface:]
            self.preface -= len(head)
            self.backend.transport.write(head)
        out = self.up.receive(data)
        if out and not self.transport.is_closing() and not self.stalled:
            self.backend.transport.write(out)

    def _wants_up(self, kind, flags, stream, length):
        return kind in (HEADERS, CONTINUATION, SETTINGS) or stream > self.last or (
            kind == RST_STREAM or stream in self.swallow)

    def _take_up(self, kind, flags, stream, payload):
        whole = frame(kind, flags, stream, payload)
        if kind == SETTINGS:
            return whole if flags & ACK else self._without_table(payload)
        if kind == HEADERS:
            return self._request(flags, stream, payload, whole)
        if kind == CONTINUATION and self.block:
            first, begun, collected, raw = self.block
            self.block = (first, begun, collected + payload, raw + whole)
            return self._request_complete() if flags & END_HEADERS else b""
        if stream > self.last:
            return b""  # belongs to a request that was held back
        if kind == RST_STREAM:
            self._ended(stream)
        elif stream in self.swallow and kind == WINDOW_UPDATE:
            return b""
        return whole

    def _without_table(self, payload):
        settings = {payload[i:i + 2]: payload[i:i + 6] for i in range(0, len(payload), 6)}
        name = HEADER_TABLE_SIZE.to_bytes(2, "big")
        settings[name] = name + (0).to_bytes(4, "big")
        return frame(SETTINGS, 0, 0, b"".join(settings.values()))

    def _request(self, flags, stream, payload, whole):
        pad = payload[0] if flags & PADDED else 0
        block = payload[1 if flags & PADDED else 0:len(payload) - pad]
        if flags & PRIORITY:
            block = block[5:]
        self.block = (stream, flags, block, whole)
        return self._request_complete() if flags & END_HEADERS else b""

    def _request_complete(self):
        stream, _, block, whole = self.block
        self.block = None
        headers = dict(self.decoder.decode(block, raw=True))
        if self.leaving:
            return b""
        method = headers.get(b":path", b"").decode(errors="replace").rsplit("/", 1)[-1]
        for rule in self.listener.plan.draw(method, WIRE_KINDS):
            if rule.kind == "stall":
                self.stalled = True
                return b""
            if rule.when == "before" and rule.kind == "reset":
                self.reset()
                return b""
            if rule.kind == "goaway":
                # The last stream it names is the last that will be served.
                self._go_away(self.last if rule.when == "before" else stream)
                if rule.when == "before":
                    self._leave_if_idle()
                    return b""
            else:
                self.faulty[stream] = rule
                if rule.kind == "cut":
                    self.left[stream] = rule.bytes
        self.last = stream
        self.open.add(stream)
        return whole

    def _go_away(self, last, code=NO_ERROR):
        self.leaving = True
        self.transport.write(frame(GOAWAY, 0, 0, struct.pack(">II", last, code)))

    # Server to client

    def from_server(self, data):
        if self.stalled:
            return
        out = self.down.receive(data)
        if out and not self.transport.is_closing():
            self.transport.write(out)
        if self.leaving:
            self._leave_if_idle()

    def _wants_down(self, kind, flags, stream, length):
        return stream in self.faulty or (
            kind in (DATA, HEADERS) and flags & END_STREAM or kind == RST_STREAM or stream in self.swallow)

    def _take_down(self, kind, flags, stream, payload):
        whole = frame(kind, flags, stream, payload)
        if stream in self.swallow:
            if kind == RST_STREAM or flags & END_STREAM and kind in (DATA, HEADERS):
                self._ended(stream)
            if kind == DATA and payload:
                # The server's window counts these bytes as under way until somebody says they arrived.
                self.backend.transport.write(frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big")))
            return b""
        last = kind == RST_STREAM or bool(flags & END_STREAM) and kind in (DATA, HEADERS)
        rule = self.faulty.get(stream)
        if rule is not None:
            whole = self._strike(rule, kind, flags, stream, payload, whole, last)
        if last:
            self._ended(stream)
        return whole

    def _strike(self, rule, kind, flags, stream, payload, whole, last):
        if rule.kind == "cut":
            if kind == DATA and len(payload) > self.left[stream]:
                return self._cut(rule, stream, payload[:self.left[stream]], len(payload))
            if kind == DATA:
                self.left[stream] -= len(payload)
            return whole
        if rule.kind in ("garble", "twice") and kind == DATA and payload:
            del self.faulty[stream]
            if rule.kind == "garble":
                return frame(DATA, flags, stream, b"\x01" + payload[1:])  # the flag of a compressed message
            return frame(DATA, 0, stream, payload) + whole
        if rule.kind == "flood" and kind == DATA:
            del self.faulty[stream]
            self.listener.records.wire["floods"] += 1
            return flood(stream, rule.messages) + whole
        if last and rule.kind == "reset":
            self.reset()
            return b""
        if rule.kind == "no_trailers" and kind == HEADERS:
            if last:
                first = b"" if stream in self.answered else frame(HEADERS, END_HEADERS, stream, PLAIN_HEADERS)
                return first + frame(DATA, END_STREAM, stream)
            self.answered.add(stream)
        return whole

    def _cut(self, rule, stream, payload, length):
        """Passes on the beginning of a DATA frame and ends the stream there."""
        head = frame(DATA, 0, stream, payload) if payload else b""
        if rule.how == "reset":
            self.transport.write(head)
            self.reset()
            return b""
        self.swallow.add(stream)
        del self.faulty[stream]
        self.backend.transport.write(
            frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))
            + frame(WINDOW_UPDATE, 0, 0, max(1, length - len(payload)).to_bytes(4, "big")))
        self.open.discard(stream)
        if rule.how == "no_trailers":
            return head + frame(DATA, END_STREAM, stream)
        return head + frame(RST_STREAM, 0, stream, INTERNAL_ERROR.to_bytes(4, "big"))

    def _ended(self, stream):
        self.open.discard(stream)
        self.faulty.pop(stream, None)
        self.left.pop(stream, None)
        self.answered.discard(stream)

    def _leave_if_idle(self):
        if self.leaving and not self.open:
            self.transport.close()


class Listener:
    """One port on 127.0.0.1 in front of one servicer's unix socket."""

    def __init__(self, name, backend, records, plan, tls, plain):
        self.name = name
        self.backend = backend
        self.records = records
        self.plan = plan
        self.tls = tls        # an ssl.SSLContext, or None to refuse TLS
        self.plain = plain    # whether HTTP/2 without TLS is let in
        self.connections = set()
        self._tasks = set()

    async def start(self, port=0):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(1024)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self._accepting = asyncio.ensure_future(self._accept())

    def stop(self):
        """New connections are refused from now on, and those there are reset."""
        self._accepting.cancel()
        self.socket.close()
        self.reset_all()

    def reset_all(self):
        for connection in list(self.connections):
            connection.reset()

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self.socket)
            task = asyncio.ensure_future(self._greet(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _greet(self, sock):
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            encrypted = await self._first_byte(sock) == TLS_HANDSHAKE
            if not (self.tls if encrypted else self.plain):
                sock.close()
                return
            await loop.connect_accepted_socket(
                lambda: Connection(self), sock, ssl=self.tls if encrypted else None)
        except (OSError, asyncio.CancelledError):
            sock.close()  # a client that does not trust the test CA ends here, too

    async def _first_byte(self, sock):
        """Looks at the first byte and leaves it where it is."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(sock, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(sock)
        data = sock.recv(1, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError
        return data[0]
