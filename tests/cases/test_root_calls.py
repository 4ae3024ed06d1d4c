# SPDX-License-Identifier: MIT
"""How many calls to the environment an operation costs: each may be a round trip."""

import os
import time

import pytest

from test_root import files  # noqa: F401


class Count:
    def __init__(self, lease):
        self.mount = lease.mount

    def __enter__(self):
        self.before, self.begin = self.mount.stats()["file_calls_total"], time.monotonic()
        return self

    def __exit__(self, *_):
        self.calls = self.mount.stats()["file_calls_total"] - self.before
        self.seconds = time.monotonic() - self.begin  # what is known is asked for anew after each


@pytest.mark.quick
def test_names(files):  # noqa: F811
    """Of a directory that is not known, two names cost a call each; a third and all others cost none, there or not."""
    assert files.run("mkdir d; cd d; for i in $(seq 200); do echo $i > $i; done; cd ..; mkdir e")[1] == 0
    os.stat(files.files / "d")
    with Count(files) as count:
        for i in range(1, 201):
            assert os.stat(files.files / f"d/{i}").st_size in (2, 3, 4)
    assert count.calls < 12 * (1 + count.seconds), count.calls
    with Count(files) as count:
        for i in range(100):
            assert not os.path.exists(files.files / f"d/absent{i}")
    assert count.calls < 12 * (1 + count.seconds), count.calls


@pytest.mark.quick
def test_listing(files):  # noqa: F811
    assert files.run("mkdir d; cd d; seq 10000 | xargs touch")[1] == 0
    with Count(files) as count:
        assert files.mount.sh(f"ls -l '{files.files}/d' | wc -l").stdout == "10001\n"
    assert count.calls < 120 * (1 + count.seconds), count.calls


@pytest.mark.quick
def test_walk(files):  # noqa: F811
    """One call for each directory, and those are made together."""
    assert files.run("for i in $(seq 10); do for j in $(seq 10); do mkdir -p w/$i/$j; echo > w/$i/$j/f; echo > w/$i/g; done; done")[1] == 0
    os.stat(files.files / "w")
    with Count(files) as count:
        assert files.mount.sh(f"find '{files.files}/w' -type f | wc -l").stdout == "110\n"
    assert 100 <= count.calls < 125 * (1 + count.seconds), count.calls


@pytest.mark.quick
def test_files_that_come_and_go(files):  # noqa: F811
    files.run("mkdir d; echo small > d/small")
    path = files.files / "d/small"
    os.stat(path)
    with Count(files) as count:
        assert path.read_text() == "small\n"
    assert count.calls <= 6 * (1 + count.seconds), count.calls  # open, with the contents; close; maybe the name
    os.mkdir(files.files / "new")
    with Count(files) as count:
        for i in range(10):
            with open(files.files / f"new/{i}", "w") as file:
                file.write("x" * 1000)
    assert count.calls <= 40 + 12 * count.seconds, count.calls  # create, write, close; one for what else the kernel asks
    with Count(files) as count:
        (files.files / ".save").write_text("x")
        os.replace(files.files / ".save", files.files / "saved")
    assert count.calls <= 8 + 12 * count.seconds, count.calls


@pytest.mark.quick
def test_contents_ahead(files):  # noqa: F811
    """Who reads one small file after another has them opened ahead, each once; and nothing of that is old."""
    n = 60
    assert files.run(f"mkdir -p d/sub; cd d; for i in $(seq {n}); do echo old $i > $i; done; echo old > sub/x")[1] == 0
    path = files.files / "d"
    names = [name for name in os.listdir(path) if name != "sub"]
    assert len(names) == n
    with Count(files) as count:
        for name in names[:4]:
            assert (path / name).read_text() == f"old {name}\n"
    if count.seconds < 0.8:
        assert count.calls >= n, count.calls  # that many were opened, four of them closed
    with Count(files) as count:
        for name in names[4:20]:
            assert (path / name).read_text() == f"old {name}\n"
    assert count.calls <= 16 + 2 * n * count.seconds + 12, count.calls  # closed; opened anew only when they are old

    (path / names[20]).write_text("new\n")
    assert (path / names[20]).read_text() == "new\n"
    os.unlink(path / names[21])
    assert not os.path.exists(path / names[21])
    os.replace(path / names[22], path / names[23])
    assert (path / names[23]).read_text() == f"old {names[22]}\n"
    assert files.run(f"cd d; echo NEW {names[24]} > {names[24]}; rm {names[25]}; mv {names[26]} {names[27]}")[1] == 0
    assert (path / names[24]).read_text() == f"NEW {names[24]}\n"
    assert not os.path.exists(path / names[25])
    assert (path / names[27]).read_text() == f"old {names[26]}\n"
    os.chmod(path / names[28], 0o600)
    assert (path / names[28]).read_text() == f"old {names[28]}\n"


@pytest.mark.quick
def test_appending(files):  # noqa: F811
    """A line more costs an open, a write and a close: the answer to the write has the new attributes."""
    path = files.files / "log"
    path.write_text("")
    os.stat(path)
    with Count(files) as count:
        for i in range(20):
            with open(path, "a") as file:
                file.write(f"{i}\n")
    assert count.calls <= 60 + 12 * (1 + count.seconds), count.calls
    assert path.stat().st_size == len("".join(f"{i}\n" for i in range(20)))
    assert files.run("tail -n 1 log") == ("19\n", 0)


def test_replaced_while_open(files):  # noqa: F811
    """What is known of an open file says nothing of its name, which a job that still runs has given to another file."""
    path = files.files / "log"
    path.write_text("old\n")
    files.submit("echo new file > next; sleep 0.3; mv next log; echo moved; sleep 60")
    with open(path) as file:
        old = os.fstat(file.fileno()).st_ino
        with open(files / "output") as output:
            assert output.read(6) == "moved\n"
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            os.fstat(file.fileno())
            os.stat(path)
            time.sleep(0.05)
        assert os.stat(path).st_ino != old
    assert path.read_text() == "new file\n"
    files.write("ctl", "kill")
