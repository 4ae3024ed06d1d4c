# SPDX-License-Identifier: MIT
"""A daemon's end of the helper's protocol, for tests: jobs over carriers that may be cut at any byte."""

import collections
import json
import os
import select
import subprocess
import time
import uuid

import wire

DEADLINE = 60  # seconds; nothing takes as long but what hangs


class Gone(Exception):
    """The helper has closed the carrier."""


class Job:
    def __init__(self, spec, start, source=b"", keep_open=False):
        self.id = uuid.uuid4().bytes
        self.spec, self.start = spec, start
        self.source, self.keep_open = source, keep_open  # input; more may come
        self.streams = [bytearray(), bytearray()]
        self.order = []  # (stream, bytes) as they came
        self.state = None
        self.reads_input = True
        self.orders = []  # (number, frame) that the helper has not confirmed
        self.n_orders = 0
        self.sent_spec = self.sent_input = self.wanted = 0
        self.limit = wire.INPUT_FIRST
        self.end_sent = False
        self.end = None
        self.text = b""
        self.hold = False  # acknowledge nothing

    def __repr__(self):
        return (f"job {self.id.hex()}: {self.state}, input {self.sent_input} sent, {self.wanted} wanted, up to {self.limit}, "
                f"out {len(self.out)}, err {len(self.err)} … {bytes(self.err[-40:])}, orders {self.n_orders}, "
                f"unconfirmed {self.orders}, end {self.end}")

    @property
    def code(self):
        return self.end and (self.end["how"], self.end["value"])

    @property
    def out(self):
        return self.streams[0]

    @property
    def err(self):
        return self.streams[1]


class Channel:
    """What the daemon has of a channel. Bytes are read at once, unless it is held."""

    def __init__(self, number, fields, data):
        self.number, self.fields, self.strings = number, fields, data
        self.window = fields["window"]
        self.source, self.ends = bytearray(), False  # what is sent, and whether that is all
        self.acked = self.sent = 0
        self.end_sent = False
        self.limit = self.window
        self.received, self.ended = bytearray(), False
        self.read = 0  # bytes that were taken
        self.hold = False
        self.opened = self.closing = self.closed = False
        self.error = None

    @property
    def over(self):
        return self.error is not None or self.ended

    def lines(self):
        return [json.loads(line) for line in bytes(self.received).splitlines()]


class Carrier:
    """One `attach`, or a socket; cut() ends it, after so many bytes more if it is told so."""

    def __init__(self, box, daemon, number):
        self.number = number
        self.process = box.open_carrier()
        self.decoder = wire.Decoder()
        self.unsent = b""
        self.gone = False
        self.welcome = None
        self.stale = None
        self.error = None
        self.to_send = self.to_receive = None  # bytes until it is cut
        os.set_blocking(self.process.stdin.fileno(), False)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.send("HELLO", version=daemon.version, oldest=wire.OLDEST, key=daemon.key, epoch=daemon.epoch, carrier=number, data=daemon.pool)

    def send(self, name, data=b"", **fields):
        self.raw(wire.encode(name, data, **fields))

    def raw(self, data):
        self.unsent += data

    def step(self, timeout):
        """Some bytes in both directions. Frames that came."""
        readers = [self.process.stdout]
        writers = [self.process.stdin] if self.unsent and not self.process.stdin.closed else []
        readable, writable, _ = select.select(readers, writers, [], timeout)
        if writable:
            piece = self.unsent if self.to_send is None else self.unsent[:self.to_send]
            try:
                n = os.write(self.process.stdin.fileno(), piece[:65536])
            except BlockingIOError:
                n = 0
            except BrokenPipeError:
                n = len(piece)
            self.unsent = self.unsent[n:]
            if self.to_send is not None:
                self.to_send -= n
                if self.to_send <= 0:
                    self.cut()
                    return []
        if not readable:
            return []
        most = 65536 if self.to_receive is None else min(65536, self.to_receive)
        data = os.read(self.process.stdout.fileno(), most)
        if not data:
            self.gone = True
        frames = list(self.decoder.push(data))
        if self.to_receive is not None:
            self.to_receive -= len(data)
            if self.to_receive <= 0:
                self.cut()
        return frames

    def cut(self):
        self.gone = True
        self.process.kill()
        self.close()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Daemon:
    def __init__(self, box, epoch=1, pool=b"pool", version=wire.VERSION):
        self.box, self.key, self.epoch, self.pool = box, box.key, epoch, pool
        self.version = version
        self.jobs = {}
        self.channels = {}
        self.n_channels = 0
        self.carrier = None
        self.n_carriers = 0
        self.refused = 0
        self.replies = []
        self.requests, self.answers = {}, {}  # what is done once, by kind and number
        self.calls, self.done = {}, {}  # about files: what has no answer yet, by number; answers
        self.n_calls = 0
        self.forgotten = collections.deque(maxlen=wire.JOBS_MAX)
        self.strays, self.ended_strays = set(), set()  # jobs that are not ours

    # carriers

    def attach(self, to_send=None, to_receive=None, wait=True):
        """A new carrier, in place of what there was."""
        old = self.carrier
        self.n_carriers += 1
        self.carrier = Carrier(self.box, self, self.n_carriers)
        self.carrier.to_send, self.carrier.to_receive = to_send, to_receive
        for job in self.forgotten:  # the carrier before may have taken that with it
            self.send("FORGET", job=job)
        for job in self.jobs.values():
            self._acknowledge(job)
            if job.state is None:
                self._send_start(job)
        for key in self.requests:
            self._send_request(key)
        for number, data in sorted(self.calls.items()):
            self.send("CALL", data, request=number)
        for channel in self.channels.values():
            self._resume(channel)
        if wait:
            self.run(lambda: self.carrier.welcome or self.carrier.gone)
        if old and not old.gone:
            old.cut()
        return self.carrier

    def close(self):
        if self.carrier:
            if not self.carrier.gone:
                self.carrier.cut()
            elif not self.carrier.process.stdin.closed:
                self.carrier.close()

    def send(self, name, data=b"", **fields):
        if self.carrier and not self.carrier.gone:
            self.carrier.send(name, data, **fields)

    # jobs

    def start(self, command, shell="", workdir="/tmp", cwd="", user="", env=(), timeout=0, grace=1.0, fresh=False,
              input=None, live=False, terminal=None, window=wire.WINDOW):
        spec, n_env = wire.strings(command, shell, workdir, cwd, user, env)
        flags = (wire.FRESH if fresh else 0) | (wire.INPUT if input is not None or live else 0)
        rows, columns = terminal or (0, 0)
        if terminal:
            flags |= wire.TERMINAL
        job = Job(spec, {"flags": flags, "rows": rows, "columns": columns, "timeout_us": int(timeout * 1e6),
                         "grace_us": int(grace * 1e6), "window": window, "n_env": n_env, "spec_len": len(spec)},
                  input or b"", live)
        job.window = window
        self.jobs[job.id] = job
        self._send_start(job)
        return job

    def _send_start(self, job):
        job.sent_spec = min(len(job.spec), wire.DATA_MAX)
        self.send("START", job.spec[:job.sent_spec], job=job.id, **job.start)
        self._send_spec(job)
        job.sent_input, job.limit, job.end_sent = 0, wire.INPUT_FIRST, False
        self._send_input(job)

    def _send_spec(self, job):
        while job.sent_spec < len(job.spec):
            piece = job.spec[job.sent_spec:job.sent_spec + wire.DATA_MAX]
            self.send("SPEC", piece, job=job.id, offset=job.sent_spec)
            job.sent_spec += len(piece)

    def _send_input(self, job):
        if not job.start["flags"] & wire.INPUT or job.end:
            return
        while not job.end_sent:
            piece = job.source[job.sent_input:min(job.limit, job.sent_input + wire.DATA_MAX)]
            last = not job.keep_open and job.sent_input + len(piece) == len(job.source)
            if not piece and not last:
                return
            self.send("INPUT", piece, job=job.id, offset=job.sent_input, end=last)
            job.sent_input += len(piece)
            job.end_sent = last

    def feed(self, job, data, end=False):
        job.source += data
        job.keep_open = not end
        self._send_input(job)

    def order(self, job, name, **fields):
        job.n_orders += 1
        job.orders.append((job.n_orders, name, fields))
        self.send(name, job=job.id, order=job.n_orders, **fields)

    def kill(self, job, grace=0.0):
        self.order(job, "KILL", grace_us=int(grace * 1e6))

    def forget(self, job):
        self.send("FORGET", job=job.id)
        self.forgotten.append(job.id)
        del self.jobs[job.id]

    def _acknowledge(self, job):
        if not job.hold:
            self.send("ACK", job=job.id, stdout=len(job.out), stderr=len(job.err), window=job.window)

    # channels

    def open(self, kind, data=b"", window=wire.CHANNEL_WINDOW, **fields):
        self.n_channels += 1
        channel = Channel(self.n_channels, {"kind": kind, "window": window, **fields}, data)
        self.channels[channel.number] = channel
        self.send("OPEN", data, channel=channel.number, **channel.fields)
        return channel

    def connect(self, port, **more):
        return self.open(wire.PORT, port=port, **more)

    def watch(self, path, workdir="/tmp", recursive=False, wait=True):
        strings = b"".join(os.fsencode(string) + b"\0" for string in (workdir, path))
        channel = self.open(wire.WATCH, strings, flags=wire.RECURSIVE if recursive else 0)
        if wait:
            self.run(lambda: channel.opened or channel.error is not None)
        return channel

    def _resume(self, channel):
        fields = dict(channel.fields)
        if channel.opened:
            fields["flags"] = fields.get("flags", 0) | wire.RESUME
        self.send("OPEN", channel.strings, channel=channel.number, **fields)
        self._tell_window(channel)
        channel.sent, channel.end_sent = channel.acked, False
        self._send_data(channel)
        if channel.closing:
            self.send("CLOSE", channel=channel.number)

    def _tell_window(self, channel):
        if not channel.hold:
            channel.read = len(channel.received)
        self.send("WINDOW", channel=channel.number, offset=len(channel.received), limit=channel.read + channel.window)

    def _send_data(self, channel):
        while not channel.end_sent:
            piece = bytes(channel.source[channel.sent:min(channel.limit, channel.sent + wire.DATA_MAX)])
            last = channel.ends and channel.sent + len(piece) == len(channel.source)
            if not piece and not last:
                return
            self.send("DATA", piece, channel=channel.number, offset=channel.sent, end=last)
            channel.sent += len(piece)
            channel.end_sent = last

    def write(self, channel, data, end=False):
        channel.source += data
        channel.ends |= end
        self._send_data(channel)

    def close_channel(self, channel):
        channel.closing = True
        self.send("CLOSE", channel=channel.number)

    # requests

    def request(self, kind, *strings, flags=0):
        """Ask for it. The key of its answer."""
        key = kind, len(self.requests) + 1
        self.requests[key] = flags, b"".join(os.fsencode(string) + b"\0" for string in strings)
        self._send_request(key)
        return key

    def _send_request(self, key):
        if key not in self.answers:
            flags, data = self.requests[key]
            self.send("REQUEST", data, request=key[1], kind=key[0], flags=flags)

    def clean(self, workdir="", *emptied, flags=wire.CLEAN_SANDBOX, seconds=DEADLINE):
        """(errno, what is left) of a clean-up."""
        key = self.request(wire.CLEAN, workdir, *(emptied or ["/tmp"]), flags=flags)
        self.run(lambda: key in self.answers, seconds)
        return self.answers[key]

    # files

    def call(self, op, *names, **more):
        """Ask. The number of the call."""
        self.n_calls += 1
        self.calls[self.n_calls] = wire.call(op, *names, **more)
        self.send("CALL", self.calls[self.n_calls], request=self.n_calls)
        return self.n_calls

    def answer(self, number):
        """(errno, data)"""
        self.run(lambda: number in self.done)
        return self.done.pop(number)

    def ask(self, op, *names, **more):
        return self.answer(self.call(op, *names, **more))

    def get(self, op, *names, **more):
        """The data of an answer that is no error."""
        error, data = self.ask(op, *names, **more)
        assert error == 0, (op, names, more, os.strerror(error))
        return data

    def list(self, directory):
        """A whole directory: {name: attributes}."""
        found, handle, more = {}, 0, {}
        while True:
            handle, _, _, data = wire.head(self.get("list", directory, **more))
            found.update(wire.entries(data))
            if not handle:
                return found
            more = {"handle": handle}

    # frames

    def run(self, until, seconds=DEADLINE):
        """Until the condition holds."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "it takes too long: " + "; ".join(map(repr, self.jobs.values()))
            if self.carrier.gone:
                raise Gone(self.carrier.error)
            for frame in self.carrier.step(0.05):
                self.take(frame)

    def wait(self, *jobs):
        self.run(lambda: all(job.end for job in jobs))
        return jobs[0] if len(jobs) == 1 else jobs

    def do(self, command, **more):
        """Run it, forget it."""
        job = self.wait(self.start(command, **more))
        self.forget(job)
        return job

    def take(self, frame):
        getattr(self, "on_" + frame.name.lower())(frame.data, **frame.fields)

    def on_welcome(self, data, version, epoch, carrier, count):
        assert (version, epoch, carrier) == (min(self.version, wire.VERSION), self.epoch, self.carrier.number)
        self.carrier.welcome = True
        self.carrier.expected, self.carrier.listed = count, set()

    def on_stale(self, data, epoch, carrier):
        self.carrier.stale = (epoch, carrier)

    def on_error(self, data):
        self.carrier.error = data.decode()

    def on_refused(self, data, count):
        self.refused = count

    def on_reply(self, data, request, kind, value):
        if kind == wire.PING:
            self.replies.append((request, value))
        else:
            self.answers[kind, request] = (value, data)

    def on_answer(self, data, request, value):
        del self.calls[request]
        self.done[request] = (value, data)

    def on_job(self, data, job, state, spec_len, offset, limit, order, flags):
        first = job not in self.carrier.listed and len(self.carrier.listed) < self.carrier.expected
        self.carrier.listed.add(job)
        if job not in self.jobs:
            self.strays.add(job)
            return
        job = self.jobs[job]
        assert job.state is None or state >= job.state
        job.state = state
        job.reads_input = not flags
        job.limit = max(job.limit, limit)
        job.orders = [item for item in job.orders if item[0] > order]
        if first:  # a new carrier: go on where the helper is
            job.sent_spec, job.sent_input, job.end_sent = spec_len, offset, False
            self._send_spec(job)
            for number, name, fields in job.orders:
                self.send(name, job=job.id, order=number, **fields)
        assert offset <= len(job.source)
        job.wanted = offset
        self._send_input(job)

    def on_output(self, data, job, stream, offset):
        if job not in self.jobs:
            self.strays.add(job)
            return
        job = self.jobs[job]
        have = len(job.streams[stream])
        assert offset <= have, "bytes are missing"
        new = data[have - offset:]
        if new:
            job.streams[stream] += new
            job.order.append((stream, new))
        self._acknowledge(job)

    def on_ended(self, data, job, **end):
        if job not in self.jobs:
            self.strays.add(job)
            self.ended_strays.add(job)
            return
        job = self.jobs[job]
        assert job.end in (None, end)
        assert (end["stdout"], end["stderr"]) == (len(job.out), len(job.err))
        job.end, job.text = end, data

    def on_opened(self, data, channel):
        self.channels[channel].opened = True

    def on_reset(self, data, channel, value):
        assert self.channels[channel].error in (None, value)
        self.channels[channel].error = value

    def on_closed(self, data, channel):
        assert self.channels[channel].closing
        self.channels.pop(channel).closed = True

    def on_data(self, data, channel, offset, end):
        channel = self.channels[channel]
        have = len(channel.received)
        assert offset <= have, "bytes are missing"
        assert offset + len(data) <= channel.read + channel.window, "the window is overrun"
        channel.received += data[have - offset:]
        channel.ended |= bool(end)
        if len(channel.received) - channel.read >= channel.window // 2:
            self._tell_window(channel)

    def on_window(self, data, channel, offset, limit):
        channel = self.channels[channel]
        assert channel.acked <= offset <= len(channel.source)
        channel.acked = offset
        channel.limit = max(channel.limit, limit)
        self._send_data(channel)
