# SPDX-License-Identifier: MIT
"""How long things take that must never wait: best of three rounds, as the machine may be busy."""

import os
import time

import pytest

pytestmark = pytest.mark.quick
SAMPLES = 200
LIMIT_MS = 20


def p99(samples):
    return sorted(samples)[int(len(samples) * 0.99)] * 1000


def measure(calls):
    """{name: 99th percentile in ms} of calls that are made in turn."""
    samples = {name: [] for name in calls}
    for i in range(SAMPLES):
        for name, call in calls.items():
            began = time.perf_counter()
            call(i)
            samples[name].append(time.perf_counter() - began)
    return {name: p99(times) for name, times in samples.items()}


@pytest.fixture
def full(mount):
    """A pool whose environments are all taken, with 50 leases waiting."""
    mp = mount(max=2, log="info")
    for i in range(2):
        lease = mp.lease(f"busy{i}")
        lease.submit("sleep 1000")
        lease.until_running()
    for i in range(50):
        mp.lease(f"wait{i:02}")
    return mp


@pytest.mark.limit(60)
def test_with_the_pool_exhausted(full):
    """mkdir, rmdir, ls and stat of a new name answer within 20 ms at the 99th percentile."""
    def stat_new(i):
        try:
            os.stat(full / f"new{i}")
        except FileNotFoundError:
            pass

    calls = {"mkdir": lambda i: os.mkdir(full / f"x{i}"), "ls": lambda i: os.listdir(full.path), "stat of a new name": stat_new,
             "rmdir": lambda i: os.rmdir(full / f"x{i}"), "open and close of cmd": lambda i: open(full / "wait00/cmd", "wb").close()}
    best = None
    for _ in range(3):
        found = measure(calls)
        if best is None or max(found.values()) < max(best.values()):
            best = found
        if max(best.values()) < LIMIT_MS:
            break
    for name, ms in best.items():
        print(f"{name}: p99 {ms:.2f} ms")
    assert max(best.values()) < LIMIT_MS
    assert full.stats()["leases_waiting"] == 50


@pytest.mark.limit(60)
def test_while_environments_come_and_go(mount):
    """The same while sandboxes are created, cleaned and destroyed all the time."""
    mp = mount(max=2, log="info", wait="0.01")
    n = [0]

    def make(i):
        n[0] += 1
        os.mkdir(mp / f"x{n[0]}")
        (mp / f"x{n[0]}/cmd").write_text("echo hi")

    calls = {"mkdir and submit": make, "ls": lambda i: os.listdir(mp.path), "rmdir": lambda i: os.rmdir(mp / f"x{n[0]}")}
    best = min((measure(calls) for _ in range(3)), key=lambda found: max(found.values()))
    for name, ms in best.items():
        print(f"{name}: p99 {ms:.2f} ms")
    assert max(best.values()) < 5 * LIMIT_MS


@pytest.mark.exact
def test_round_trips(lease):
    """For the record: a job's round trip, and mkdir with rmdir."""
    began = time.perf_counter()
    with open(lease / "cmd", "r+b", buffering=0) as cmd:
        for _ in range(SAMPLES):
            cmd.write(b"echo hi")
            assert cmd.read() == b"hi\n"
    job = (time.perf_counter() - began) / SAMPLES * 1000
    path = str(lease.mount / "x")
    began = time.perf_counter()
    for _ in range(1000):
        os.mkdir(path)
        os.rmdir(path)
    pair = (time.perf_counter() - began) / 1000 * 1e6
    print(f"a job {job:.2f} ms, mkdir with rmdir {pair:.0f} µs")
    assert job < 200 and pair < 20000
