# SPDX-License-Identifier: MIT
"""The helper's protocol, written a second time: what the program says is held against it."""

import collections
import struct

HEAD = 4
DATA_MAX = 16 << 10
INPUT_FIRST = 8 << 10
WINDOW = 512 << 10
JOBS_MAX = 32

# type: (name, fields and their formats in the order of the wire)
FROM_DAEMON = {
    1: ("HELLO", "version:I oldest:I key:16s epoch:Q carrier:Q"),
    2: ("START", "job:16s flags:B rows:H columns:H timeout_us:Q grace_us:Q window:I n_env:I spec_len:I"),
    3: ("SPEC", "job:16s offset:Q"),
    4: ("INPUT", "job:16s offset:Q end:B"),
    5: ("ACK", "job:16s stdout:Q stderr:Q window:I"),
    6: ("SIGNAL", "job:16s order:I signo:B"),
    7: ("KILL", "job:16s order:I grace_us:Q"),
    8: ("RESIZE", "job:16s order:I rows:H columns:H"),
    9: ("FORGET", "job:16s"),
    10: ("REQUEST", "request:Q kind:B flags:B"),
}
FROM_HELPER = {
    11: ("WELCOME", "version:I epoch:Q carrier:Q count:I"),
    12: ("STALE", "epoch:Q carrier:Q"),
    13: ("JOB", "job:16s state:B spec_len:I offset:Q limit:Q order:I flags:B"),
    14: ("OUTPUT", "job:16s stream:B offset:Q"),
    15: ("ENDED", "job:16s how:B value:I ran_us:Q stdout:Q stderr:Q"),
    16: ("REPLY", "request:Q kind:B value:I"),
    17: ("REFUSED", "count:I"),
    18: ("ERROR", ""),
}
FRESH, INPUT, TERMINAL = 1, 2, 4
PING, CLEAN, NOTE = range(3)
CLEAN_SANDBOX, CLEAN_COMPARE = 1, 2
RECEIVING, STARTING, RUNNING, DRAINING, ENDED = range(5)
EXIT, SIGNAL, TIMEOUT, CWD, USER, FAILED, UNKNOWN = range(7)

Frame = collections.namedtuple("Frame", "name fields data")


def _parse(table):
    parsed = {}
    for number, (name, fields) in table.items():
        pairs = [field.split(":") for field in fields.split()]
        parsed[number] = (name, [pair[0] for pair in pairs], struct.Struct("<" + "".join(pair[1] for pair in pairs)))
    return parsed


_to_helper = {name: (number, names, packer) for number, (name, names, packer) in _parse(FROM_DAEMON).items()}
_from_helper = _parse(FROM_HELPER)


def encode(name, data=b"", **fields):
    number, names, packer = _to_helper[name]
    body = packer.pack(*(fields.pop(field, 0) for field in names)) + data
    assert not fields, fields
    return len(body).to_bytes(3, "little") + bytes([number]) + body


class Decoder:
    """Frames of the helper, out of bytes in any pieces."""

    def __init__(self):
        self.buffer = b""

    def push(self, data):
        self.buffer += data
        while len(self.buffer) >= HEAD:
            size = int.from_bytes(self.buffer[:3], "little")
            if len(self.buffer) < HEAD + size:
                return
            name, names, packer = _from_helper[self.buffer[3]]
            body, self.buffer = self.buffer[HEAD:HEAD + size], self.buffer[HEAD + size:]
            assert size <= packer.size + DATA_MAX, name
            yield Frame(name, dict(zip(names, packer.unpack(body[:packer.size]))), body[packer.size:])


def strings(command, shell="", workdir="/tmp", cwd="", user="", env=()):
    """The strings of a job, and how many of them are variables."""
    parts = [shell, workdir, cwd, user, *env, command]
    return b"".join((part if isinstance(part, bytes) else part.encode()) + b"\0" for part in parts), len(env)
