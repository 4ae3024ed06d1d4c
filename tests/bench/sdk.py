# SPDX-License-Identifier: MIT
"""Two peers: Modal's Python SDK, and with --pool a small pool of sandboxes on it, as one keeps it in a program.

Each does what bench.py asks for, line by line; see there.
"""

import asyncio
import json
import os
import resource
import sys
import threading
import time

import certifi

if "SSL_CERT_FILE" in os.environ:
    # The SDK trusts certifi's list and nothing else; the check of the certificate stays as it is.
    certifi.where = lambda: os.environ["SSL_CERT_FILE"]

import modal  # noqa: E402


def cpu_ns():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return int((u.ru_utime + u.ru_stime) * 1e9)


def check(command, size, stdout, stderr, code):
    if (len(stdout), len(stderr), code) != (size, 0, 0):
        sys.exit(f"{command}: {len(stdout)} and {len(stderr)} bytes, exit code {code}")


class Sandboxes:
    def __init__(self):
        self.app = modal.App.lookup("bench", create_if_missing=True)
        self.image = modal.Image.from_registry("debian:12-slim")
        self.all = []

    def create(self):
        return modal.Sandbox.create(app=self.app, image=self.image, timeout=3600)

    def prepare(self, n):
        while len(self.all) < n:
            self.all.append(self.create())


def job(sandbox, command, size):
    """As in Modal's documentation: one after the other."""
    process = sandbox.exec("bash", "-c", command, text=False)
    check(command, size, process.stdout.read(), process.stderr.read(), process.wait())


async def job_at_once(sandbox, command, size):
    """As whoever knows asyncio would: output and exit code at once."""
    process = await sandbox.exec.aio("bash", "-c", command, text=False)
    check(command, size, *await asyncio.gather(process.stdout.read.aio(), process.stderr.read.aio(), process.wait.aio()))


def stream(sandbox, command, size):
    """Output that is thrown away as it comes."""
    process = sandbox.exec("bash", "-c", command, text=False)
    got = sum(len(part) for part in process.stdout)
    if got != size or process.wait() != 0:
        sys.exit(f"{command}: {got} bytes")


class Pool:
    """Sandboxes for whoever comes, each for one at a time; idle ones are kept."""

    def __init__(self, create, most=4):
        self.create = create
        self.most = most
        self.made = 0
        self.idle = []
        self.changed = threading.Condition()

    def acquire(self, name):
        with self.changed:
            self.changed.wait_for(lambda: self.idle or self.made < self.most)
            sandbox = self.idle.pop() if self.idle else None
            self.made += sandbox is None
        sandbox = sandbox or self.create()
        directory = f"/root/tasks/{name}"
        sandbox.exec("bash", "-c", f"mkdir -p {directory} && rm -rf {directory}/*").wait()
        return sandbox, directory

    def release(self, sandbox, directory):
        sandbox.exec("bash", "-c", f"rm -rf {directory}").wait()
        with self.changed:
            self.idle.append(sandbox)
            self.changed.notify()


def timed(n, what):
    ns = []
    for _ in range(n):
        start = time.perf_counter_ns()
        what()
        ns.append(time.perf_counter_ns() - start)
    return ns


async def in_turn(sandbox, n, job):
    ns = []
    for _ in range(n):
        start = time.perf_counter_ns()
        await job(sandbox)
        ns.append(time.perf_counter_ns() - start)
    return ns


async def all_at_once(sandboxes, n, job):
    await asyncio.gather(*(in_turn(sandbox, n, job) for sandbox in sandboxes))
    return []


def acquire(pool, n):
    took = []
    for i in range(n):
        start = time.perf_counter_ns()
        held = pool.acquire(f"t{i}")
        took.append(time.perf_counter_ns() - start)
        pool.release(*held)
    return took


def answer(line, sandboxes, pool):
    """jobs|stream|acquire N AT SIZE COMMAND"""
    verb, n, at, size, command = line.rstrip("\n").split(" ", 4)
    n, at, size = int(n), int(at), int(size)
    sandboxes.prepare(at)
    first = sandboxes.all[0]

    async def concurrent(sandbox):
        await job_at_once(sandbox, command, size)
    began, used, ns = time.perf_counter_ns(), cpu_ns(), []
    if verb == "acquire":
        ns = acquire(pool, n)
    elif verb == "stream":
        stream(first, command, size)
    elif at > 1:
        ns = asyncio.run(all_at_once(sandboxes.all[:at], n, concurrent))
    elif "--async" in sys.argv:
        ns = asyncio.run(in_turn(first, n, concurrent))
    else:
        ns = timed(n, lambda: job(first, command, size))
    return {"ns": ns, "wall_ns": time.perf_counter_ns() - began, "cpu_ns": cpu_ns() - used}


def main():
    sandboxes = Sandboxes()
    pool = Pool(sandboxes.create)
    sandboxes.prepare(1)
    job(sandboxes.all[0], "true", 0)
    print('{"ready": true}', flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line, sandboxes, pool)), flush=True)
    for sandbox in sandboxes.all + pool.idle:
        sandbox.terminate()


if __name__ == "__main__":
    main()
