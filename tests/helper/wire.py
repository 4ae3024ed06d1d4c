# SPDX-License-Identifier: MIT
"""The helper's protocol, written a second time: what the program says is held against it."""

import collections
import struct

HEAD = 4
DATA_MAX = 16 << 10
INPUT_FIRST = 8 << 10
WINDOW = 512 << 10
JOBS_MAX = 32
VERSION, OLDEST = 3, 1
CHANNELS_MAX = 256
CHANNEL_WINDOW, CHANNEL_WINDOW_MIN = 256 << 10, 32 << 10

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
    64: ("CALL", "request:Q"),
    96: ("OPEN", "channel:I kind:B flags:B port:H window:I"),
    97: ("CLOSE", "channel:I"),
    98: ("DATA", "channel:I offset:Q end:B"),
    99: ("WINDOW", "channel:I offset:Q limit:Q"),
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
    65: ("ANSWER", "request:Q value:I"),
    98: ("DATA", "channel:I offset:Q end:B"),
    99: ("WINDOW", "channel:I offset:Q limit:Q"),
    100: ("OPENED", "channel:I"),
    101: ("RESET", "channel:I value:I"),
    102: ("CLOSED", "channel:I"),
}
FRESH, INPUT, TERMINAL = 1, 2, 4
PORT, WATCH = range(2)
RESUME, RECURSIVE = 1, 2
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


# Calls about files, and their answers.
CALLS_MAX = 128
OPS = ("none lookup set mkdir mknod symlink link unlink rmdir rename prepare readlink statfs list open create stat read write"
       " sync close seek allocate copy getxattr listxattr setxattr removexattr").split()
NO_ID = 0xffffffff
_ARGS = struct.Struct("<BIIIIIQQQQQqIqI")
_ATTRIBUTES = struct.Struct("<IIIIQQQQQqIqIqIB")
_HEAD = struct.Struct("<QB")

Attributes = collections.namedtuple("Attributes", "mode nlink uid gid ino dev size blocks rdev atime atime_ns mtime mtime_ns"
                                                  " ctime ctime_ns flags")


def call(op, dir=b"", name=b"", dir2=b"", name2=b"", data=b"", flags=0, mode=0, uid=NO_ID, gid=NO_ID, which=0, handle=0,
         handle2=0, offset=0, offset2=0, size=0, atime=(0, 0), mtime=(0, 0)):
    head = _ARGS.pack(OPS.index(op), flags, mode, uid, gid, which, handle, handle2, offset, offset2, size, *atime, *mtime)
    strings = (part if isinstance(part, bytes) else part.encode() for part in (dir, name, dir2, name2))
    return head + b"".join(part + b"\0" for part in strings) + data


def attributes(data):
    return Attributes(*_ATTRIBUTES.unpack(data[:_ATTRIBUTES.size]))


def head(data):
    """(handle, whether contents follow to the end, attributes, what follows)"""
    handle, whole = _HEAD.unpack(data[:_HEAD.size])
    rest = data[_HEAD.size:]
    return handle, bool(whole), attributes(rest), rest[_ATTRIBUTES.size:]


def entries(data):
    found = {}
    while data:
        size = data[_ATTRIBUTES.size]
        name = data[_ATTRIBUTES.size + 1:][:size]
        assert name not in found and len(name) == size
        found[name] = attributes(data)
        data = data[_ATTRIBUTES.size + 1 + size:]
    return found


def strings(command, shell="", workdir="/tmp", cwd="", user="", env=()):
    """The strings of a job, and how many of them are variables."""
    parts = [shell, workdir, cwd, user, *env, command]
    return b"".join((part if isinstance(part, bytes) else part.encode()) + b"\0" for part in parts), len(env)
