# SPDX-License-Identifier: MIT
"""Pools beside the mount's own: mkdir @NAME."""

import errno
import json
import os
import shutil
import subprocess

import pytest

import harness
from test_lease import fails

POOL_FILES = ["config", "ctl", "events", "metrics", "stats", "status"]


def make(mp, name, *lines):
    """The pool @NAME, with these lines written to its ctl."""
    path = mp / f"@{name}"
    path.mkdir()
    for line in lines:
        (path / ".pool/ctl").write_text(line + "\n")
    return path


def lease_in(mp, pool, name="t1"):
    (mp / f"@{pool}" / name).mkdir()
    return harness.Lease(mp, f"@{pool}/{name}")


def events(path):
    """All that there are, without waiting for more."""
    fd = os.open(path / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    try:
        text = b""
        while True:
            try:
                text += os.read(fd, 1 << 16)
            except BlockingIOError:
                return [json.loads(line) for line in text.splitlines()]
    finally:
        os.close(fd)


@pytest.mark.small
def test_a_pool_is_a_directory_of_leases(mp):
    pool = make(mp, "py")
    assert sorted(os.listdir(mp.path)) == [".pool", "@py"] and os.listdir(pool) == [".pool"]
    assert sorted(os.listdir(pool / ".pool")) == POOL_FILES
    here = pool.stat()
    assert (here.st_uid, here.st_gid, here.st_mode & 0o7777) == (os.geteuid(), os.getegid(), 0o700)
    lease = lease_in(mp, "py")
    assert lease.run("echo hi; exit 3") == ("hi\n", 3)
    assert sorted(os.listdir(pool)) == [".pool", "t1"] and sorted(os.listdir(mp.path)) == [".pool", "@py"]
    own = mp.lease("t1")  # the same name in another directory
    assert own.run("echo own") == ("own\n", 0) and lease.read("jobs/1/output") == "hi\n"
    assert own.read("environment") != lease.read("environment")
    stats = json.loads((pool / ".pool/stats").read_text())
    assert stats["leases"] == 1 and stats["environments"]["leased"] == 1
    assert mp.stats()["leases"] == 1 and mp.stats()["environments"]["leased"] == 1
    assert {"pool": "py", "state": "made"}.items() <= events(mp.path)[0].items()
    assert {"lease": "t1", "state": "leased"}.items() <= [e for e in events(pool) if "lease" in e][-1].items()


def test_names(mp):
    make(mp, "a")
    for name, error in (("@a", errno.EEXIST), ("@", errno.EINVAL), ("@.a", errno.EINVAL), ("@@a", errno.EINVAL),
                        ("@a\nb", errno.EINVAL), ("@a/@b", errno.EINVAL), ("@a/.b", errno.EINVAL),
                        ("@" + "n" * 200, errno.ENAMETOOLONG), ("@b/t", errno.ENOENT)):
        fails(error, os.mkdir, mp / name)
    make(mp, "n" * 199)
    make(mp, "späße 1")
    assert sorted(os.listdir(mp.path)) == sorted([".pool", "@a", "@" + "n" * 199, "@späße 1"])


def test_rmdir(mp):
    """Only without leases; then the name is free at once, and the environments end."""
    pool = make(mp, "a")
    lease = lease_in(mp, "a")
    assert lease.run("true") == ("", 0)
    fails(errno.ENOTEMPTY, os.rmdir, pool)
    assert lease.run("echo still") == ("still\n", 0)
    lease.release()
    with open(pool / ".pool/events") as open_events, open(pool / ".pool/status") as open_status:
        assert open_events.readline() and open_status.readline()
        pool.rmdir()
        fails(errno.ENOENT, os.listdir, pool)
        while True:  # what happened until the end, and then no more waiting
            try:
                assert open_events.readline()
            except OSError as error:
                assert error.errno == errno.ESTALE
                break
        open_status.seek(0)
        fails(errno.ESTALE, open_status.read)
    make(mp, "a")
    mp.until(lambda: not mp.sandboxes())


def test_rm_r(mp):
    pool = make(mp, "a")
    for name in "t1", "t2":
        lease_in(mp, "a", name).submit("sleep 100")
    subprocess.run(["rm", "-r", pool], check=True, stdin=subprocess.DEVNULL)
    assert os.listdir(mp.path) == [".pool"]
    make(mp, "a")
    shutil.rmtree(pool)
    assert os.listdir(mp.path) == [".pool"]
    assert subprocess.run(["rm", "-r", mp / ".pool"], stderr=subprocess.DEVNULL).returncode == 1
    assert sorted(os.listdir(mp / ".pool")) == POOL_FILES


def test_unlink_takes_a_name_away_until_the_next_create(mp):
    pool = make(mp, "a")
    os.unlink(pool / ".pool/status")
    assert "status" not in os.listdir(pool / ".pool") and "status" in os.listdir(mp / ".pool")
    fails(errno.ENOENT, open, pool / ".pool/status")
    fails(errno.EPERM, os.unlink, mp / ".pool/status")
    fails(errno.EPERM, os.mkdir, pool / ".pool/x")
    (pool / ".pool").rmdir()
    assert ".pool" in os.listdir(pool)
    os.unlink(pool / ".pool/ctl")
    (pool / ".pool/ctl").write_text("max 2\n")
    assert sorted(os.listdir(pool / ".pool")) == POOL_FILES
