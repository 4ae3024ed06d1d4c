# SPDX-License-Identifier: MIT
"""Below root/ calls may wait: who waits can be killed, and nobody waits for ever or for others."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

import processes
from test_lease import fails
from test_root import files  # noqa: F401

OPS = {
    "lookup": "os.stat('absent')",
    "getattr": "os.fstat(f)",
    "readdir": "os.listdir('dir')",
    "open": "os.open('f', os.O_RDONLY)",
    "read": "os.pread(big, 100000, 3000000)",
    "fsync": "os.fsync(f)",
    "write and close": "os.pwrite(f, b'x', 0); os.close(f)",
    "create": "os.open('new', os.O_CREAT | os.O_WRONLY)",
    "mkdir": "os.mkdir('made')",
    "symlink": "os.symlink('x', 'l')",
    "link": "os.link('f', 'f2')",
    "unlink": "os.unlink('u')",
    "rmdir": "os.rmdir('dir')",
    "rename": "os.rename('f', 'g')",
    "chmod": "os.chmod('f', 0o600)",
    "truncate": "os.truncate('f', 5)",
    "readlink": "os.readlink('link')",
    "statfs": "os.statvfs('.')",
    "getxattr": "os.getxattr('f', 'user.x')",
}
CHILD = """
import os, sys
os.chdir(sys.argv[1])
f, big = os.open('f', os.O_RDWR), os.open('big', os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
try:
    {}
    print('done', flush=True)
except OSError as e:
    print(e.errno, flush=True)
"""


class Frozen:
    """The sandboxes of a mount do nothing, and the links to them carry nothing."""

    def __init__(self, mp):
        self.pids = list(processes.descendants(mp.pid))

    def __enter__(self):
        processes.kill(self.pids, signal.SIGSTOP)

    def __exit__(self, *_):
        processes.kill(self.pids, signal.SIGCONT)


def prepare(lease):
    d = lease.files
    for name in ("f", "u"):
        (d / name).write_text("1234567")
    (d / "dir").mkdir()
    os.symlink("f", d / "link")
    assert lease.run("head -c 4000000 /dev/zero > big")[1] == 0


def start(lease, op):
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(OPS[op]), str(lease.files)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(1.1)  # until the kernel believes nothing of what it was told
    return child


def go(child, mp):
    child.stdin.write("\n")
    child.stdin.flush()
    while not mp.stats()["reads_waiting"]:
        assert child.poll() is None
        time.sleep(0.005)


@pytest.mark.local
@pytest.mark.parametrize("op", OPS)
def test_kill(files, op):  # noqa: F811
    """kill -9 ends the caller at once; the lease and all others answer meanwhile."""
    mp = files.mount
    prepare(files)
    other = mp.lease("other")
    child = start(files, op)
    with Frozen(mp):
        go(child, mp)
        begin = time.monotonic()
        assert os.listdir(files.path) and os.stat(files / "root") and os.listdir(other.path) and os.statvfs(mp.path)
        child.kill()
        assert child.wait(10) == -9
        took = time.monotonic() - begin
        child.stdout.close(), child.stdin.close()
    assert took < 0.5 * mp.settings.slow, took
    assert files.run("echo on") == ("on\n", 0) and (files.files / "big").stat().st_size == 4_000_000


@pytest.mark.local
@pytest.mark.parametrize("op", sorted(OPS))
def test_silent(mount, op):
    """A sandbox that says nothing: ETIMEDOUT."""
    mp = mount(max=1, file_timeout=1)
    lease = mp.lease()
    lease.files = lease / "files"
    prepare(lease)
    child = start(lease, op)
    with Frozen(mp):
        go(child, mp)
        begin = time.monotonic()
        out, _ = child.communicate(timeout=30)
        assert int(out) == errno.ETIMEDOUT and time.monotonic() - begin < 3 * mp.settings.slow
    assert lease.run("echo on") == ("on\n", 0)


def test_dead(files):  # noqa: F811
    mp = files.mount
    prepare(files)
    fd = os.open(files.files / "f", os.O_RDWR)
    mp.murder(mp.sandboxes()[:1] if mp.settings.simulator else mp.sandboxes())
    mp.until(lambda: files.status()["state"] == "lost")
    fails(errno.ENODEV, os.listdir, files / "root")
    fails(errno.ENODEV, os.stat, files / "root/etc")
    with pytest.raises(OSError) as e:
        os.pread(fd, 10, 0)
    assert e.value.errno in (errno.ENODEV, errno.ESTALE)
    fails(e.value.errno, os.pwrite, fd, b"x", 0)
    os.close(fd)
    assert os.listdir(files.path) and os.stat(files / "root")
    files.write("ctl", "renew\n")
    files.read("environment")
    assert os.listdir(files.files) == []
    (files.files / "x").write_text("anew")
    assert files.run("cat x") == ("anew", 0)


@pytest.mark.local
def test_a_stop_ends_what_waits(files):  # noqa: F811
    mp = files.mount
    prepare(files)
    children = [start(files, op) for op in ("mkdir", "read", "fsync", "readdir")]
    frozen = Frozen(mp)
    with frozen:
        for child in children:
            go(child, mp)
    for child in children:
        child.communicate(timeout=30)
    files.release()
    assert not os.path.exists(files.path)


def test_a_restart(mount, settings):
    """What was flushed is there; files that were open are stale."""
    mp = mount(max=1)
    if not settings.helper or settings.provider == "local":
        pytest.skip("its sandboxes end with the daemon, or have no helper")
    lease = mp.lease()
    (lease / "files/f").write_text("kept")
    fd = os.open(lease / "files/f", os.O_RDONLY)
    mp.crash()
    fails(errno.ENOTCONN, os.pread, fd, 1, 0)
    fails(errno.ENOTCONN, os.close, fd)
    mp.start()
    assert (lease / "files/f").read_text() == "kept" and lease.run("cat f") == ("kept", 0)
