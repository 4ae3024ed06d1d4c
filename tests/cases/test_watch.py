# SPDX-License-Identifier: MIT
"""watch: what changes inside, as lines."""

import json
import os
import select
import subprocess
import time

import pytest

pytestmark = pytest.mark.exact


class Watch:
    def __init__(self, lease, text):
        self.fd = os.open(lease / "watch", os.O_RDWR)
        self.rest = b""
        self.lines = []
        try:
            os.write(self.fd, text.encode())
        except OSError:
            os.close(self.fd)
            raise

    def until(self, condition):
        """Read lines until one is as wanted; the end of the file ends it, too."""
        while not any(condition(line) for line in self.lines):
            piece = os.read(self.fd, 65536)
            if not piece:
                return False
            *lines, self.rest = (self.rest + piece).split(b"\n")
            self.lines += [json.loads(line) for line in lines]
        return True

    def until_path(self, path, event="close"):
        assert self.until(lambda line: line["event"] == event and line.get("path") == path), self.lines

    def seen(self):
        return [(line["event"], line.get("path")) for line in self.lines]

    def close(self):
        os.close(self.fd)


@pytest.fixture
def lease(mount, settings):
    if settings.provider != "local" and not settings.helper:
        pytest.skip("watches need the helper")
    return mount(max=2).lease()


def test_what_changes(lease):
    watch = Watch(lease, ".\n")
    lease.run("echo 1 > a; mv a b; rm b; mkdir d; : > end")
    watch.until_path("end")
    assert watch.seen() == [("create", "a"), ("modify", "a"), ("close", "a"), ("rename", "b"), ("delete", "b"),
                            ("create", "d"), ("create", "end"), ("close", "end")]
    assert watch.lines[3] == {"event": "rename", "from": "a", "path": "b"}
    watch.close()


def test_from_a_shell(lease):
    """Both words in one write or in two, and a write by the mount itself."""
    lease.run("mkdir -p src/a")
    script = """exec 3<>watch; echo recursive >&3; echo src >&3
                mkdir files/src/b; echo hi > files/src/b/c
                while read -r line <&3; do echo "$line"; case $line in *close*) break;; esac; done"""
    run = subprocess.run(["bash", "-c", script], cwd=lease.path, capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert {"event": "create", "path": "src/b", "directory": True} in lines, run
    assert lines[-1] == {"event": "close", "path": "src/b/c"}


def test_renames_across_directories(lease):
    lease.run("mkdir -p w/a/x w/b; : > w/a/x/f")
    watch = Watch(lease, "recursive\nw")
    lease.run("mv w/a/x w/b/y; echo 1 > w/b/y/f; mv w/b/y .; echo 2 > y/f; : > w/end")
    watch.until_path("w/end")
    assert {"event": "rename", "from": "w/a/x", "path": "w/b/y", "directory": True} in watch.lines
    assert ("modify", "w/b/y/f") in watch.seen() and ("delete", "w/b/y") in watch.seen()
    watch.close()


def test_the_watched_directory_goes(lease):
    lease.run("mkdir w")
    watch = Watch(lease, "w")
    lease.run("rmdir w")
    assert not watch.until(lambda line: False)
    assert watch.seen() == [("gone", "w")]
    watch.close()


def test_10000_changes(lease):
    """None is missing, or that is said."""
    lease.run("mkdir w")
    watch = Watch(lease, "recursive\nw")
    began = time.monotonic()
    lease.submit("cd w; python3 -c 'for i in range(10000): open(str(i), \"w\").close()'; : > end")
    watch.until(lambda line: line["event"] == "overflow" or line == {"event": "close", "path": "w/end"})
    created = {path for event, path in watch.seen() if event == "create"}
    took = time.monotonic() - began
    print(f"10,000 files made, {len(created) - 1} told in {took:.2f} s, {[e for e, _ in watch.seen()].count('overflow')} overflows")
    assert len(created) == 10001 or ("overflow", None) in watch.seen()
    assert lease.read("exit_code") == "0\n"
    watch.close()


MAKEFILE = """
objects = $(addsuffix .o,$(basename $(wildcard src/*/*.c)))
program: $(objects) ; cc -o new $^ && mv new $@
%.o: %.c ; cc -O0 -c -o $@ $<
"""


@pytest.mark.limit(90)
def test_a_build(lease, need):
    """In the workdir, with directories made while it is watched: each object and the program are told, in their order."""
    need("make", "cc")
    lease.read("environment")
    watch = Watch(lease, "recursive\n.")
    for directory in range(4):
        (lease / f"files/src/{directory}").mkdir(parents=True)
        for number in range(5):
            (lease / f"files/src/{directory}/f{number}.c").write_text(f"int f_{directory}_{number}(void) {{ return {number}; }}\n")
    (lease / "files/src/0/main.c").write_text("int main(void) { return 0; }\n")
    (lease / "files/Makefile").write_text(MAKEFILE)
    assert lease.run("make -s -j4 && ./program") == ("", 0)
    watch.until_path("program", "rename")
    seen = watch.seen()
    assert ("overflow", None) not in seen
    for directory in range(4):
        assert ("create", f"src/{directory}") in seen
        for number in range(5):
            file = f"src/{directory}/f{number}"
            assert seen.index(("create", f"{file}.c")) < seen.index(("close", f"{file}.o")) < seen.index(("close", "new"))
    assert {"event": "rename", "from": "new", "path": "program"} in watch.lines
    watch.close()


def test_what_cannot_be_watched(lease):
    for text, code in (("absent", FileNotFoundError), ("recursive\n/etc/passwd", NotADirectoryError), ("\n", OSError),
                       ("a\nb\n", OSError), ("a\0b", OSError)):
        with pytest.raises(code):
            Watch(lease, text)
    watch = Watch(lease, "/tmp")
    with pytest.raises(OSError):
        os.write(watch.fd, b"/")
    watch.close()


def test_a_file_that_was_not_written_to_is_at_its_end(lease):
    """So tools that read everything do not wait."""
    assert (lease / "watch").read_bytes() == b""


def test_poll(lease):
    watch = Watch(lease, ".")
    poller = select.poll()
    poller.register(watch.fd, select.POLLIN)
    assert not poller.poll(0)
    lease.run(": > a")
    assert poller.poll(30_000) == [(watch.fd, select.POLLIN)]
    watch.close()


def test_many(lease):
    """More than there may be are refused; closed ones make room."""
    watches = [Watch(lease, "/tmp") for _ in range(64)]
    with pytest.raises(OSError):
        Watch(lease, "/tmp")
    lease.run(": > /tmp/x")
    for watch in watches:
        watch.until_path("/tmp/x")
        watch.close()
    deadline = time.monotonic() + 30
    while not opens(lease):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def opens(lease):
    try:
        Watch(lease, "/tmp").close()
    except OSError:
        return False
    return True


def test_the_lease_is_released(lease):
    watch = Watch(lease, "/tmp")
    lease.release()
    with pytest.raises(OSError):
        watch.until(lambda line: False)
    watch.close()


def test_watches_that_are_open_at_a_release(mount, settings):
    """The helper keeps nothing of them: more than it has room for, one lease after the other in one environment."""
    if settings.provider != "local" and not settings.helper:
        pytest.skip("watches need the helper")
    mp = mount(max=1)
    environments = set()
    for _ in range(6):
        lease = mp.lease()
        watches = [Watch(lease, "/tmp") for _ in range(64)]
        environments.add(lease.read("environment"))
        lease.release()
        for watch in watches:
            watch.close()
    assert len(environments) == 1
    assert "carrier ended" not in mp.log()
