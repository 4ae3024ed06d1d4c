# SPDX-License-Identifier: MIT
"""Carriers: who may come, who is replaced, and what a break of one costs, which is nothing."""

import os
import random
import signal
import socket
import subprocess

import pytest

import daemon as daemon_module
import wire


def test_nobody_without_the_key(box, daemon, make_daemon):
    job = daemon.start("sleep 1000")
    other = make_daemon(box, attach=False, epoch=100)
    other.key = bytes([daemon.key[0] ^ 1]) + daemon.key[1:]
    with pytest.raises(daemon_module.Gone):
        other.attach()
        other.run(lambda: False)
    assert not other.carrier.welcome and other.carrier.error is None
    daemon.run(lambda: daemon.refused == 1)
    assert daemon.do("echo on").out == b"on\n" and not job.end


def test_stale(box, make_daemon):
    """A daemon with a higher epoch replaces one, which is told, and comes back no more."""
    old, new = make_daemon(box, epoch=5), make_daemon(box, attach=False, epoch=6)
    job = old.start("echo up; cat; exit 5", live=True)
    old.run(lambda: job.out)
    new.jobs = old.jobs
    new.attach()
    new.feed(job, b"more", end=True)
    new.wait(job)
    assert job.code == (wire.EXIT, 5) and job.out == b"up\nmore"
    old.jobs = {}
    old.run(lambda: old.carrier.stale)
    assert old.carrier.stale == (6, 1)
    for carrier in range(3):
        with pytest.raises(daemon_module.Gone):
            old.attach(wait=False)
            old.run(lambda: False)
        assert old.carrier.stale == (6, 1) and not old.carrier.welcome
    equal = make_daemon(box, attach=False, epoch=6)
    with pytest.raises(daemon_module.Gone):
        equal.attach(wait=False)
        equal.run(lambda: False)
    assert equal.carrier.stale == (6, 1)
    assert new.do("echo on").out == b"on\n"


def test_what_comes_after_a_replacement_is_not_done(box, make_daemon):
    """An old carrier's last bytes and a new HELLO wait for a helper: what is done of them stands in its answer."""
    for epoch in range(2, 12, 2):
        old, new = make_daemon(box, epoch=epoch), make_daemon(box, attach=False, epoch=epoch + 1)
        helper = box.helper()
        os.kill(helper, signal.SIGSTOP)
        job = old.start(f"echo ran > /tmp/ran{epoch}")
        while old.carrier.unsent:
            old.carrier.step(0.05)
        new.attach(wait=False)
        new.carrier.step(0.1)
        os.kill(helper, signal.SIGCONT)
        new.run(lambda: new.carrier.welcome)
        new.do("true")
        listed = job.id in new.strays
        assert new.do(f"sleep 0.3; cat /tmp/ran{epoch}").out == (b"ran\n" if listed else b"")
        if listed:
            new.run(lambda: job.id in new.ended_strays)
            new.send("FORGET", job=job.id)
            new.do("true")


def test_a_late_attach_of_an_old_epoch(box, make_daemon):
    """All that an old daemon sent arrives after the new one has attached: none of it is done."""
    old, new = make_daemon(box, attach=False, epoch=1), make_daemon(box, attach=False, epoch=2)
    new.attach()
    old.attach(wait=False)
    old.start("echo ran > /tmp/ran")
    with pytest.raises(daemon_module.Gone):
        old.run(lambda: False)
    assert old.carrier.stale == (2, 1)
    assert new.do("cat /tmp/ran 2>/dev/null; sleep 0.1; cat /tmp/ran 2>/dev/null").out == b""


def test_another_pool(box, daemon, make_daemon):
    other = make_daemon(box, attach=False, epoch=9, pool=b"other")
    with pytest.raises(daemon_module.Gone):
        other.attach(wait=False)
        other.run(lambda: False)
    assert other.carrier.error == "this helper is of another pool"
    assert daemon.do("echo on").out == b"on\n"


@pytest.mark.parametrize("version, oldest, welcome", [(1, 1, True), (7, 1, True), (7, 2, True), (7, 3, True), (7, 4, False), (0, 0, False)])
def test_versions(box, make_daemon, version, oldest, welcome):
    daemon = make_daemon(box, attach=False, version=version)
    carrier = daemon.attach(wait=False)
    carrier.unsent = wire.encode("HELLO", b"pool", version=version, oldest=oldest, key=box.key, epoch=1, carrier=1)
    try:
        daemon.run(lambda: carrier.welcome)
    except daemon_module.Gone:
        assert carrier.error == "this helper speaks versions 1 to 3"
    assert bool(carrier.welcome) == welcome


def test_socket(box):
    assert os.stat(box.socket).st_mode & 0o777 == 0o600
    as_nobody = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c",
                                "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])", box.socket],
                               capture_output=True)
    assert as_nobody.returncode == 1 and b"PermissionError" in as_nobody.stderr
    os.chmod(box.socket, 0o666)
    with_a_way_in = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c",
                                    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                                    "sys.exit(len(s.recv(1)))", box.socket], capture_output=True)
    assert with_a_way_in.returncode in (0, 1), with_a_way_in  # closed or reset, and not served


def test_attach_to_nothing(box):
    failed = subprocess.run([box.program, "attach", "/no/socket"], capture_output=True, stdin=subprocess.DEVNULL)
    assert failed.returncode == 1 and b"/no/socket: No such file" in failed.stderr


def test_carriers_that_say_nothing(box, daemon):
    """They hold nothing up, and the oldest makes room for a new one."""
    silent = []
    for _ in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.connect(box.socket)
        silent.append(s)
    assert daemon.do("echo on").out == b"on\n"
    daemon.attach()
    assert daemon.do("echo on").out == b"on\n"
    for s in silent:
        s.close()


def lowest_oom_score():
    """As far as this machine lets its root go."""
    script = "echo -1000 > /proc/self/oom_score_adj; read score < /proc/self/oom_score_adj; echo $score"
    return int(subprocess.run(["sh", "-c", script], capture_output=True).stdout)


def test_daemonise(make_box, make_daemon):
    """It is there when `serve` returns, keeps nothing of its starter's, and cannot be started twice."""
    box = make_box(daemonise=True)
    assert box.said == b"served\n"
    daemon = make_daemon(box)
    assert daemon.do("echo on").out == b"on\n"
    helper = box.helper()
    assert os.getsid(helper) == helper
    opened = [os.readlink(f"/proc/{helper}/fd/{fd}") for fd in os.listdir(f"/proc/{helper}/fd")]
    assert opened.count("/dev/null") == 3 and "/run" not in opened
    assert int(open(f"/proc/{helper}/oom_score_adj").read()) == lowest_oom_score()
    assert os.stat(f"/proc/{helper}/fd").st_uid == 0
    again = daemon.do("head -c 16 /dev/zero | /run/helper serve /run/modalpool/socket")
    assert again.code == (wire.EXIT, 1) and b": Address" in again.err and again.err.endswith(b"in use\n")
    short = daemon.do("head -c 15 /dev/zero | /run/helper serve /tmp/x/socket")
    assert short.code == (wire.EXIT, 1) and b"no key" in short.err
    assert daemon.key.hex().encode() not in open(f"/proc/{helper}/environ", "rb").read().hex().encode()


# breaks

SIGNALS = 3
COMMAND = """echo x >> /tmp/n
trap 'echo urg >> /tmp/n; echo urg >&2' URG
cat
seq 3000 >&2
while [ $(wc -l < /tmp/n) -lt %d ]; do sleep 0.01; done
sleep 0.1
exit 9""" % (1 + SIGNALS)
NOISE = b"".join(b"%d\n" % i for i in range(1, 3001))


def attach_and_go_on(daemon, job, to_send, to_receive):
    """Until the job has ended, or the carrier breaks. Pending signals are one: each waits for the one before."""
    daemon.attach(to_send, to_receive, wait=False)
    while job.n_orders < SIGNALS:
        daemon.run(lambda: job.err == NOISE + b"urg\n" * job.n_orders)
        daemon.order(job, "SIGNAL", signo=23)
    daemon.run(lambda: job.end)


@pytest.mark.parametrize("seed", range(8))
def test_cut_at_random(box, make_daemon, seed):
    """Nothing is lost, nothing comes twice, and what was asked once is done once."""
    rng = random.Random(seed)
    daemon = make_daemon(box, attach=False)
    data = rng.randbytes(rng.randrange(200_000))
    job = daemon.start(COMMAND, input=data)
    cuts = 0
    while not job.end:
        most = rng.choice([100, 1000, 60_000]) if cuts else 100
        limits = [(rng.randrange(1, most), None), (None, rng.randrange(1, most))]
        try:
            attach_and_go_on(daemon, job, *(rng.choice(limits) if cuts < 50 else (None, None)))
        except daemon_module.Gone:
            cuts += 1
            assert cuts < 1000
    assert cuts > 0
    assert job.out == data and job.err == NOISE + b"urg\n" * SIGNALS and job.code == (wire.EXIT, 9)
    daemon.attach()
    assert daemon.do("cat /tmp/n").out == b"x\n" + b"urg\n" * SIGNALS


@pytest.mark.parametrize("direction", [0, 1])
def test_cut_at_each_byte(box, make_daemon, direction):
    """At each boundary of a frame, and inside each."""
    daemon = make_daemon(box, attach=False)
    n = runs = 0
    while True:
        n += 1 if os.environ.get("HELPER_STATIC") == "1" else 11  # sanitizers take their time
        runs += 1
        job = daemon.start("echo >> /tmp/n; read a; echo $a; echo err >&2; exit 9", input=b"line\n")
        cut = False
        try:
            daemon.attach(*((n, None) if direction == 0 else (None, n)), wait=False)
            daemon.wait(job)
        except daemon_module.Gone:
            cut = True
            daemon.attach()
            daemon.wait(job)
        assert (job.out, job.err, job.code) == (b"line\n", b"err\n", (wire.EXIT, 9))
        daemon.forget(job)
        if not cut:
            break
    assert n > 200
    daemon.attach()
    assert daemon.do("wc -l < /tmp/n").out == b"%d\n" % runs


def test_output_waits_for_a_carrier(box, make_daemon):
    """With none there, a job prints as far as the helper keeps, and stops; nothing is lost."""
    daemon = make_daemon(box)
    job = daemon.start("head -c 3000000 /dev/urandom | tee /tmp/copy")
    daemon.run(lambda: job.state == wire.RUNNING)
    daemon.close()
    os.kill(box.helper(), 0)
    daemon.attach()
    daemon.wait(job)
    assert daemon.do("cat /tmp/copy").out == job.out and len(job.out) == 3_000_000


def test_ends_wait_for_a_carrier(box, make_daemon):
    daemon = make_daemon(box)
    jobs = [daemon.start(f"echo {n}; exit {n}") for n in range(20)]
    daemon.run(lambda: all(job.state is not None for job in jobs))
    daemon.close()
    daemon.attach()
    daemon.wait(*jobs)
    assert [(job.out, job.code) for job in jobs] == [(b"%d\n" % n, (wire.EXIT, n)) for n in range(20)]
    for job in jobs:  # said again, as none was forgotten
        job.end = None
    daemon.attach()
    daemon.wait(*jobs)


def test_daemon_that_has_lost_everything(box, make_daemon):
    """A later epoch finds what there is, and can end it."""
    first = make_daemon(box, epoch=1)
    running = first.start("echo up; sleep 1000")
    first.wait(first.start("exit 3"))
    first.run(lambda: running.out)
    second = make_daemon(box, epoch=2)
    second.run(lambda: len(second.strays) == 2)
    for job in second.strays:
        second.send("KILL", job=job, order=100)
    second.run(lambda: second.ended_strays == second.strays)
    for job in second.strays:
        second.send("FORGET", job=job)
    second.send("REQUEST", request=1)
    second.run(lambda: second.replies)
    third = make_daemon(box, epoch=3)
    assert third.carrier.expected == 0


# what is hostile

def test_frames_at_random(box, make_daemon):
    """Whoever has the key and speaks nonsense loses the carrier, and nothing else happens."""
    rng = random.Random(4)
    keeper = make_daemon(box, epoch=1)
    job = keeper.start("sleep 1000")
    keeper.run(lambda: job.state == wire.RUNNING)
    samples = [wire.encode("START", b"sh\0/tmp\0\0\0sleep 0.1\0", job=rng.randbytes(16), spec_len=21, window=1000),
               wire.encode("SPEC", b"abc", job=job.id, offset=3), wire.encode("INPUT", b"abc", job=job.id, end=1),
               wire.encode("ACK", job=job.id), wire.encode("SIGNAL", job=job.id, order=1),
               wire.encode("RESIZE", job=job.id, order=2, rows=3, columns=4), wire.encode("REQUEST", request=1),
               wire.encode("FORGET", job=rng.randbytes(16))]
    epoch = 2
    for _ in range(150):
        daemon = make_daemon(box, attach=False, epoch=epoch)
        epoch += 1
        daemon.attach(wait=False)
        daemon.on_ended = daemon.on_job = daemon.on_output = lambda data, **fields: None
        for _ in range(rng.randrange(1, 30)):
            frame = bytearray(rng.choice(samples))
            for _ in range(rng.choice([0, 0, 1, 2, 8])):
                frame[rng.randrange(len(frame))] = rng.choice([rng.randrange(256), 0, 255, 128])
            daemon.carrier.raw(bytes(frame) if rng.random() < 0.95 else rng.randbytes(rng.randrange(40000)))
        try:
            while daemon.carrier.unsent:
                for frame in daemon.carrier.step(0.5):
                    daemon.take(frame)
                if daemon.carrier.gone:
                    break
        finally:
            daemon.close()
    last = make_daemon(box, attach=False, epoch=epoch)
    last.jobs = keeper.jobs
    last.attach()
    assert not job.end
    job.n_orders = 2**32 - 2  # those at random may have had any number
    last.kill(job)
    last.wait(job)


@pytest.mark.parametrize("what", ["INPUT beyond its limit", "INPUT for a job without", "ACK of what was never sent",
                                  "FORGET of a job that has not ended", "REQUEST of a kind that is not known",
                                  "SPEC behind a gap, or with too much", "HELLO a second time", "a frame that is none"])
def test_what_is_not_allowed(box, daemon, make_daemon, what):
    job = daemon.start("echo up; cat", live=True)
    plain = daemon.start("echo up; sleep 1000")
    daemon.run(lambda: job.out and plain.out)
    for name, fields, data in {
        "INPUT beyond its limit": [("INPUT", {"job": job.id, "offset": i * 16384}, bytes(16384)) for i in range(40)],
        "INPUT for a job without": [("INPUT", {"job": plain.id}, b"x")],
        "ACK of what was never sent": [("ACK", {"job": job.id, "stdout": 4}, b"")],
        "FORGET of a job that has not ended": [("FORGET", {"job": job.id}, b"")],
        "REQUEST of a kind that is not known": [("REQUEST", {"kind": 77}, b"")],
        "SPEC behind a gap, or with too much": [("START", {"job": bytes(16), "spec_len": 9}, b"x"),
                                                ("SPEC", {"job": bytes(16), "offset": 2}, b"x")],
        "HELLO a second time": [("HELLO", {"key": box.key, "epoch": 9, "version": 1, "oldest": 1}, b"pool")],
        "a frame that is none": [],
    }[what]:
        daemon.send(name, data, **fields)
    if what == "a frame that is none":
        daemon.carrier.raw(b"\xff\xff\xff\xff")
    with pytest.raises(daemon_module.Gone):
        daemon.run(lambda: False)
    assert daemon.carrier.error == what
    daemon.attach()  # both go on
    daemon.kill(job)
    daemon.kill(plain)
    daemon.wait(job, plain)
