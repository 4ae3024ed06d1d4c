# SPDX-License-Identifier: MIT
"""Programs that are written to while they run, and whose output is held back: the backends alone."""

import contextlib
import errno
import os
import random
import uuid

import pytest

import drive

pytestmark = pytest.mark.exact

PIECE = 16 << 10  # bytes of one command line of the driver: not more than a pipe takes


class Live(drive.Run):
    """A sandbox, and one program with live input in it."""

    def begin(self, command):
        self.got = {1: b"", 2: b""}
        self.ended = None
        self.held = False
        self.tell("live", str(uuid.uuid4()), command.hex() if isinstance(command, bytes) else command.encode().hex())

    def event(self, *wanted):
        """The next line that begins with one of these words, without it; output is kept."""
        while True:
            word, _, rest = self.line().partition(" ")
            if word == "output":
                assert not self.held, "output while it is held back"
                stream, _, data = rest.partition(" ")
                self.got[int(stream) + 1] += bytes.fromhex(data)
            if word == "ended":
                assert not self.held, "the end while output is held back"
                self.ended = rest.split(" ")[:2]
            if word in wanted:
                return rest
            assert word in ("output", "started", "room", "ended"), word

    def write(self, data):
        """How many bytes were taken, or -errno."""
        self.tell("write", data.hex())
        return int(self.event("wrote"))

    def write_all(self, data):
        while data:
            n = self.write(data[:PIECE])
            assert n >= 0, f"not written: {errno.errorcode[-n]}"
            if n < min(len(data), PIECE):
                self.event("room")
            data = data[n:]

    def until(self, n, stream=1):
        while len(self.got[stream]) < n:
            self.event("output")

    def hold(self):
        self.tell("hold")
        self.write(b"")  # what was said before the driver obeyed has been read with the answer
        self.held = True

    def give(self):
        self.held = False
        self.tell("give")

    def end(self):
        """(how, exit code)"""
        while self.ended is None:
            self.event("ended")
        return self.ended[0], int(self.ended[1])


@contextlib.contextmanager
def sandbox(settings, tmp_path, **variables):
    program, sim = drive.program(settings, tmp_path / "drive"), settings.simulator
    env = sim.env() if sim else os.environ
    with Live(settings, program, settings.provider, str(uuid.uuid4()), env={**env, "DRIVE_HELPER": "yes" if settings.helper else "no", **variables}) as run:
        run.tell("create", str(uuid.uuid4()))
        run.expect("created ok")
        yield run
        run.destroy()


@pytest.fixture
def live(settings, tmp_path):
    with sandbox(settings, tmp_path) as run:
        yield run


def test_what_goes_in_comes_out(live):
    live.begin("cat; echo bye >&2; exit 3")
    for word in b"one\n", b"two\n", b"\0\xff\n":
        before = len(live.got[1])
        assert live.write(word) == len(word)
        live.until(before + len(word))
    live.tell("eof")
    live.tell("eof")  # a second one does nothing
    assert live.end() == ("ok", 3)
    assert live.got == {1: b"one\ntwo\n\0\xff\n", 2: b"bye\n"}


def test_before_it_has_started(live):
    """What is written at once is the first that it reads, whichever way its command goes in."""
    for command in "cat", "cat; exit 0 # " + 200_000 * "x", b"cat; : '\xff'":
        live.begin(command)
        live.write_all(b"early\n")
        live.tell("eof")
        assert live.end() == ("ok", 0)
        assert live.got[1] == b"early\n"


@pytest.mark.parametrize("seed", range(2))
def test_a_megabyte_each_way(live, seed):
    """With output held back and given at random; nothing comes while it is held."""
    rng = random.Random(seed)
    data = rng.randbytes(1 << 20)
    live.begin("cat")
    at = 0
    while at < len(data):
        if rng.random() < 0.2:
            if live.held:
                live.give()
            else:
                live.hold()
        n = live.write(data[at:at + rng.randint(1, PIECE)])
        assert n >= 0
        at += n
        if n == 0 and live.held:
            live.give()  # all that lies between us and the program is full
        if n == 0:
            live.event("room")
    live.tell("eof")
    if live.held:
        live.give()
    assert live.end() == ("ok", 0)
    assert live.got[1] == data


def test_held_back_at_the_end(live):
    """A program that has ended has not ended for its owner before all was given."""
    live.begin("read x; echo over; echo error >&2; exit 5")
    live.hold()
    live.write_all(b"\n")
    live.tell("eof")
    assert live.got[1] == b""
    live.give()
    assert live.end() == ("ok", 5)
    assert live.got == {1: b"over\n", 2: b"error\n"}


def test_killed_while_held_back(live):
    # Slowly: what a provider keeps meanwhile comes too when output is given again, and that takes its time here.
    live.begin("while :; do echo y; sleep 0.02; done")
    live.until(1)
    live.hold()
    live.tell("kill", "0")
    assert live.write(b"") in (0, -errno.EPIPE)
    live.give()
    assert live.end() == ("ok", 137)
    assert set(live.got[1].split(b"\n")) <= {b"y", b""}


def write_until_it_fails(live):
    n = 0
    while n >= 0:
        n = live.write(bytes(PIECE))
        if 0 <= n < PIECE:
            live.event("room")
    return -n


def test_nobody_reads(live, settings):
    """A program that has closed its input: the writer is told."""
    if settings.gvisor:
        pytest.skip("runsc holds the input open until the program has ended")
    live.begin("exec <&-; echo closed; exec sleep 1000")
    live.until(len(b"closed\n"))
    assert write_until_it_fails(live) == errno.EPIPE
    live.tell("kill", "0")
    assert live.end() == ("ok", 137)


def test_written_after_the_end(live):
    """A program that has ended, which its owner does not hear of as long as output is held back."""
    live.begin("read x; exit 7")
    live.hold()
    live.write_all(b"\n")
    assert write_until_it_fails(live) == errno.EPIPE
    live.tell("eof")
    live.give()
    assert live.end() == ("ok", 7)


def test_one_that_does_not_read(live):
    """It is given no more than fits; then the writer waits, until the program ends."""
    live.begin("exec sleep 1000")
    total = 0
    while True:
        n = live.write(bytes(PIECE))
        total += n
        if n < PIECE:
            break
        assert total < 32 << 20
    live.tell("kill", "0")
    assert live.end() == ("ok", 137)


def test_an_end_that_is_delayed(settings, tmp_path):
    """Through the backend that makes faults: the end of a program is on its way when output is held back."""
    with sandbox(settings, tmp_path, DRIVE_FAULTS="delay:1") as live:
        for code in range(10):
            live.begin(f"echo over; exit {code}")
            live.until(5)
            live.tell("hold")
            live.tell("give")
            assert live.end() == ("ok", code)
        for test in test_what_goes_in_comes_out, test_held_back_at_the_end, test_killed_while_held_back:
            test(live)
        if not settings.gvisor:
            test_nobody_reads(live, settings)


def test_a_sandbox_that_dies(settings, tmp_path):
    """It takes nothing more, and its death is all that is heard."""
    with sandbox(settings, tmp_path, DRIVE_FAULTS="death:1") as live:
        live.begin("cat")
        live.tell("write", b"x".hex())
        death, wrote = sorted((live.line(), live.line()))  # in whichever order they come
        assert death.startswith("died lost")
        # For a helper it is kept, until that or the end of the sandbox is heard of.
        assert wrote == f"wrote {-errno.EPIPE}" or (wrote == "wrote 1" and settings.helper)
        assert live.write(b"x") == -errno.EPIPE
        live.hold()
        live.tell("eof")
        live.tell("cancel")


FAULTS = [
    {"kind": "status", "method": "TaskExecStdinWrite", "rate": 0.1},
    {"kind": "status", "method": "TaskExecStdinWrite", "rate": 0.1, "when": "after"},
    {"kind": "reset", "method": "TaskExecStdinWrite", "rate": 0.05, "when": "after"},
    {"kind": "cut", "method": "TaskExecStdioRead", "rate": 0.3, "bytes": 30001},
    {"kind": "status", "method": "TaskExecStdioRead", "rate": 0.3, "bytes": 50000},
    {"kind": "no_trailers", "method": "TaskExecStdinWrite", "rate": 0.05},
]


@pytest.mark.modal
@pytest.mark.parametrize("seed", range(3))
def test_faults_on_the_way(live, calm, seed):
    """Each byte arrives once, in order, whatever breaks between."""
    calm.faults(*FAULTS, seed=seed)
    test_a_megabyte_each_way(live, seed)
    assert calm.stats()["faults"]


@pytest.mark.modal
def test_the_router_moves(live, calm):
    data = random.Random(1).randbytes(1 << 19)
    live.begin("cat")
    live.write_all(data[:1 << 18])
    live.until(1)
    calm.move_router()
    live.write_all(data[1 << 18:])
    live.tell("eof")
    assert live.end() == ("ok", 0)
    assert live.got[1] == data
