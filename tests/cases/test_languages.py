# SPDX-License-Identifier: MIT
"""
Programs in many languages, each with its language's own files. Every one does the same:

- It reads the output of a running job a line at a time. The job goes on only when its first line was answered, so the
  lines do come while it runs. Then it reads exit_code.
- It writes a command in two parts to cmd, open for reading and writing, and reads its output to the end.
- It sets a time limit, and reads the exit code of a job that passes it.
"""

import os
import pathlib
import subprocess
import sys

import pytest

CLIENTS = pathlib.Path(__file__).parent / "clients"
JOB = ("exec 2> /dev/null; trap 'echo two; kill $!; exit 3' USR1;"
       "(trap '' USR1; exec sleep 1000) & echo one; until false; do wait; done")


@pytest.fixture
def tell(mp):
    """Run a client in a new lease, and compare what it prints."""
    def run(*command):
        mp.lease()
        assert mp.sh([*command]).stdout == "one\ntwo\n3\nab\n124\n"
        mp.jobs += 3
    return run


@pytest.mark.parametrize("program", [["stream"], ["events"], ["events", "edges"]], ids=" ".join)
def test_c(tell, compiled, program):
    tell(compiled(program[0]), "t1", JOB, *program[1:])


@pytest.mark.parametrize("program", ["plain.py", "selecting.py", "async.py"])
def test_python(tell, program):
    tell(sys.executable, CLIENTS / program, "t1", JOB)


@pytest.mark.parametrize("program", ["streams.js", "promises.js"])
def test_node(tell, need, program):
    need("node")
    tell("node", CLIENTS / program, "t1", JOB)


def test_perl(tell, need):
    need("perl")
    tell("perl", CLIENTS / "stream.pl", "t1", JOB)


def test_busybox(tell, need):
    need("busybox")
    tell("busybox", "sh", CLIENTS / "stream.sh", "t1", JOB)


# Those below are for `scripts/test languages`.

@pytest.fixture
def built(tmp_path):
    """built("stream.go", "go", "build"): the client, compiled."""
    def build(source, *compiler):
        subprocess.run([*compiler, "-o", tmp_path / "client", CLIENTS / source], cwd=tmp_path, check=True,
                       env={**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOTOOLCHAIN": "local"})
        return tmp_path / "client"
    return build


@pytest.mark.languages
@pytest.mark.limit(120)
def test_go(tell, need, built):
    need("go")
    tell(built("stream.go", "go", "build"), "t1", JOB)


@pytest.mark.languages
@pytest.mark.limit(120)
def test_rust(tell, need, built):
    need("rustc")
    tell(built("stream.rs", "rustc"), "t1", JOB)


@pytest.mark.languages
@pytest.mark.limit(120)
def test_java(tell, need):
    need("java", "javac")
    tell("java", CLIENTS / "Stream.java", "t1", JOB)


@pytest.mark.languages
def test_ruby(tell, need):
    need("ruby")
    tell("ruby", CLIENTS / "stream.rb", "t1", JOB)
