# SPDX-License-Identifier: MIT
"""A backend without a pool: the program tests/backend/drive.c, which reads commands line by line."""

import os
import pathlib
import select
import shutil
import subprocess
import time
import uuid

import processes


class Run:
    """One run of it; killed at the end, as a crash does."""

    def __init__(self, settings, program, *arguments, env=None):
        self.slow = settings.slow
        self.process = subprocess.Popen(
            [program, *arguments], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=processes.die_with_parent)
        self.buffer = b""
        self.got = {1: b"", 2: b""}  # bytes of each output
        for _ in arguments[1:] or arguments:  # the ids of pools
            self.expect("ready ok")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def tell(self, *words):
        self.process.stdin.write(" ".join(words).encode() + b"\n")
        self.process.stdin.flush()

    def line(self, seconds=20):
        deadline = time.monotonic() + seconds * self.slow
        while b"\n" not in self.buffer:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert readable, "it says nothing"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, f"it ended: {self.process.wait()}"
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def expect(self, begin, **options):
        """The next line that is no output; what follows its beginning."""
        while True:
            line = self.line(**options)
            if line.startswith("output "):
                _, stream, data = line.split(" ")
                self.got[int(stream) + 1] += bytes.fromhex(data)
                continue
            assert line.startswith(begin), line
            return line[len(begin):].strip()

    def until_output(self, n):
        while len(self.got[1]) < n:
            _, stream, data = self.line().split(" ")
            self.got[int(stream) + 1] += bytes.fromhex(data)

    def create(self):
        """(nonce, id, token)"""
        nonce = str(uuid.uuid4())
        self.tell("create", nonce)
        seconds, box, token = self.expect("created ok").split(" ", 2)
        assert 590 <= int(seconds) <= 600
        return nonce, box, token

    def adopt(self, nonce, token):
        self.tell("adopt", nonce, token)
        return self.expect("created ok").split(" ", 2)

    def run(self, job, command, how="start", data=os.devnull):
        self.tell("exec", job, how, command.encode().hex(), str(data))

    def destroy(self):
        self.tell("destroy")
        self.expect("destroyed ok")

    def list(self):
        self.tell("list")
        found = {}
        while True:
            line = self.line()
            if line.startswith("listed"):
                return found, line.split(" ")[1]
            _, box, nonce, created = line.split(" ")
            assert box not in found
            found[box] = (nonce, int(created))


def program(settings, directory):
    """A copy of it in a new @directory, from where the local backend finds the helper as from the build directory."""
    build = pathlib.Path(settings.program).parents[1]
    (directory / "fs").mkdir(parents=True)
    (directory / "pool").symlink_to(build / "pool")
    return pathlib.Path(shutil.copy(build / "tests/backend/drive", directory / "fs"))
