# SPDX-License-Identifier: MIT
"""Jobs that attack the helper: root may harm its own sandbox alone, and another user harms nothing."""

import random

import pytest

import daemon as daemon_module
import wire

# Those of the sandbox; the first is the helper itself, the others wait for its jobs.
HELPERS = """
import ctypes, os, signal, socket, subprocess, sys, time
def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read()
    except OSError:
        return ""
helpers = [pid for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) if comm(pid) == "helper\\n"]
libc = ctypes.CDLL(None, use_errno=True)
ptrace = libc.ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ATTACH, DETACH, SEIZE, INTERRUPT = 16, 17, 0x4206, 0x4207
"""

ATTACH_WITH_EACH = """
size = int(sys.stdin.buffer.readline())
while piece := sys.stdin.buffer.read(size):
    attach = subprocess.run(["/run/helper", "attach", "/run/modalpool/socket"], input=piece, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)
    print(len(attach.stdout))
"""

STOP = """
os.kill(helpers[0], signal.SIGSTOP)
time.sleep(0.5)
os.kill(helpers[0], signal.SIGCONT)
print("done")
"""

TRACE = """
assert ptrace(SEIZE, helpers[0], None, None) == 0
assert ptrace(INTERRUPT, helpers[0], None, None) == 0
os.waitpid(helpers[0], 0x40000000)
time.sleep(0.5)
assert ptrace(DETACH, helpers[0], None, None) == 0
print("done")
"""

# What another user can do to each of them: a line for what succeeds, then how many attacks there were.
TRY_ALL = """
tries = 0
def attack(what, call):
    global tries
    tries += 1
    try:
        if call() != -1:
            print("gained:", what)
    except OSError:
        pass
def connect():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/modalpool/socket")
def read(path):
    with open(path, "rb") as f:
        f.read(1)
for pid in helpers:
    for signo in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        attack(f"signal {signo}", lambda: os.kill(pid, signo))
    for how in (ATTACH, SEIZE):
        attack(f"ptrace {how}", lambda: ptrace(how, pid, None, None))
    for name in ("mem", "environ", "auxv", "maps"):
        attack(name, lambda: read(f"/proc/{pid}/{name}"))
    for name in ("fd", "map_files"):
        attack(name, lambda: os.listdir(f"/proc/{pid}/{name}"))
attack("connect", connect)
attack("end of the socket", lambda: os.unlink("/run/modalpool/socket"))
attack("mode of the socket", lambda: os.chmod("/run/modalpool/socket", 0o666))
attack("a file beside it", lambda: os.mkdir("/run/modalpool/new"))
print(len(helpers) > 0, tries > 10)
"""


def attack(script):
    return f"exec python3 -c '{HELPERS}{script}'"


@pytest.fixture
def pair(make_box, make_daemon):
    """Two sandboxes. In the first is the attacker; its helper is not the first process, which signals do not reach."""
    first, second = make_box(daemonise=True), make_box()
    return make_daemon(first), make_daemon(second)


def hellos(rng):
    return [wire.encode("HELLO", b"pool", version=wire.VERSION, oldest=wire.OLDEST, key=rng.randbytes(16), epoch=2**40, carrier=1)
            for _ in range(60)]


@pytest.mark.parametrize("what", ["keys", "frames"])
def test_attach_of_a_job(pair, what):
    """It gets no answer, and the daemon keeps its place."""
    daemon, other = pair
    rng = random.Random(6)
    pieces = hellos(rng) if what == "keys" else [rng.randbytes(500) for _ in range(60)]
    carrier = daemon.carrier
    job = daemon.do(attack(ATTACH_WITH_EACH), input=b"%d\n" % len(pieces[0]) + b"".join(pieces))
    assert job.code == (wire.EXIT, 0), bytes(job.err)
    assert job.out.split() == [b"0"] * len(pieces)
    assert daemon.carrier is carrier and not carrier.gone and not carrier.stale
    if what == "keys":
        daemon.run(lambda: daemon.refused == len(pieces))
    assert daemon.do("echo on").out == b"on\n" and other.do("echo on").out == b"on\n"


@pytest.mark.parametrize("script", [STOP, TRACE], ids=["stop", "trace"])
def test_root_holds_up_its_own_helper(pair, script):
    daemon, other = pair
    job = daemon.start(attack(script))
    assert other.do("echo on").out == b"on\n"
    daemon.wait(job)
    assert job.code == (wire.EXIT, 0) and job.out == b"done\n", bytes(job.err)
    assert daemon.do("echo on").out == b"on\n"


def test_root_kills_its_own_helper(pair):
    daemon, other = pair
    daemon.start(attack("os.kill(helpers[0], signal.SIGKILL)"))
    with pytest.raises(daemon_module.Gone):
        daemon.run(lambda: False)
    assert other.do("echo on").out == b"on\n"


def test_another_user_gains_nothing(pair):
    daemon, other = pair
    job = daemon.do(attack(TRY_ALL), user="nobody")
    assert job.code == (wire.EXIT, 0) and job.out == b"True True\n", bytes(job.out + job.err)
    assert daemon.do("echo on").out == b"on\n" and other.do("echo on").out == b"on\n"
