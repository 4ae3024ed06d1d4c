# SPDX-License-Identifier: MIT
"""What the helper takes: bytes of its file, memory; and that one job holds up no other."""

import os
import pathlib
import time

import pytest

import wire

STATIC = os.environ.get("HELPER_STATIC") == "1"
RESIDENT_MAX = 2 << 20


def resident(box):
    status = pathlib.Path(f"/proc/{box.helper()}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


@pytest.mark.skipif(not STATIC, reason="only the static program is that small")
def test_file(box):
    assert os.path.getsize(box.program) <= 200 << 10
    program = pathlib.Path(box.program).read_bytes()
    assert b"ld-linux" not in program and b"ld-musl" not in program


def fill(box, make_daemon):
    """All jobs print without end, read nothing of as much input as may be sent, and nothing is acknowledged."""
    daemon = make_daemon(box)
    jobs = [daemon.start("yes & yes >&2 & sleep 1000", input=b"x" * (1 << 20)) for _ in range(wire.JOBS_MAX)]
    for job in jobs:
        job.hold = True
    sizes = None
    while sizes != [len(job.out) + len(job.err) for job in jobs] or not all(sizes):
        sizes = [len(job.out) + len(job.err) for job in jobs]
        until = time.monotonic() + 0.5
        daemon.run(lambda: time.monotonic() > until)
    return daemon, jobs, sizes


def test_memory(box, make_daemon):
    daemon, jobs, sizes = fill(box, make_daemon)
    assert all(0 < size <= wire.WINDOW for size in sizes)
    if STATIC:
        assert resident(box) <= RESIDENT_MAX
    for job in jobs:
        daemon.kill(job)
        job.hold = False
        daemon._acknowledge(job)
    daemon.wait(*jobs)
    if STATIC:
        assert resident(box) <= RESIDENT_MAX


def descriptors(box, daemon):
    """Once the helper has read all that it was sent."""
    daemon.replies.clear()
    daemon.send("REQUEST", request=1)
    daemon.run(lambda: daemon.replies)
    return len(os.listdir(f"/proc/{box.helper()}/fd"))


def test_memory_of_many_jobs(box, daemon):
    """None is lost from job to job, and no descriptor."""
    daemon.do("true")
    before = descriptors(box, daemon)
    for n in range(100):
        job = daemon.do("cat; (sleep 0.01 &)", input=b"x", terminal=(3, 4) if n % 3 == 0 else None)
        assert job.code == (wire.EXIT, 0)
    daemon.do("true")  # its reaper is kept again
    assert descriptors(box, daemon) == before
    if STATIC:
        assert resident(box) <= RESIDENT_MAX


def test_window(daemon):
    """No more than it says is sent ahead; none with a window of 0."""
    job = daemon.start("yes", window=1000)
    job.hold = True
    daemon.run(lambda: job.out)
    assert daemon.do("sleep 0.2; echo on").out == b"on\n"
    assert len(job.out) == 1000
    job.window, job.hold = 0, False
    daemon._acknowledge(job)
    assert daemon.do("sleep 0.2; echo on").out == b"on\n"
    assert len(job.out) == 1000
    job.window = 50_000
    daemon._acknowledge(job)
    daemon.run(lambda: len(job.out) > 200_000)
    daemon.kill(job)
    daemon.wait(job)


def test_in_turn(daemon):
    """Of two that print without end none waits for the other. How much each prints is for the kernel's scheduler to say."""
    jobs = [daemon.start("yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaa") for _ in range(2)]
    for _ in range(10):
        before = [len(job.out) for job in jobs]
        daemon.run(lambda: all(len(job.out) > n + 300_000 for job, n in zip(jobs, before)))
    for job in jobs:
        daemon.kill(job)
    daemon.wait(*jobs)


def test_beside_one_without_end(daemon):
    printer = daemon.start("yes")
    daemon.run(lambda: len(printer.out) > 1_000_000)
    for n in range(30):
        assert daemon.do(f"cat; echo {n}", input=b"x" * 20_000).out == b"x" * 20_000 + b"%d\n" % n
    daemon.kill(printer)
    daemon.wait(printer)


def test_one_that_is_not_read_holds_up_none(box, make_daemon):
    """Everything is full, and another daemon's jobs, once there is a place, go on at once."""
    daemon, jobs, _ = fill(box, make_daemon)
    daemon.kill(jobs[0])
    jobs[0].hold = False
    daemon._acknowledge(jobs[0])
    daemon.wait(jobs[0])
    daemon.forget(jobs[0])
    for _ in range(5):
        data = os.urandom(300_000)
        assert daemon.do("cat", input=data).out == data
