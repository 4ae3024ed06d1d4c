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
