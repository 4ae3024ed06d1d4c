# SPDX-License-Identifier: MIT
"""Snapshots of a lease's environment, and the pools that are made of them: snapshot NAME in ctl."""

import concurrent.futures
import errno
import itertools
import os
import re
import shutil
import signal
import subprocess

import pytest

import harness

from test_lease import fails
from test_pools import events, lease_in

INSTALL = """set -e
mkdir -p /var/lib/tool/bin tree; ln -s bin /var/lib/tool/sbin
printf '#!/bin/sh\\necho tool 1.0\\n' > /var/lib/tool/bin/tool; chmod 755 /var/lib/tool/bin/tool; touch -d @1000000000 /var/lib/tool/bin/tool
for i in $(seq 1000); do echo $i > tree/$i; done
ln tree/1 tree/again; mkfifo tree/fifo; truncate -s 1G tree/sparse; echo end >> tree/sparse
mkdir tree/closed; echo inside > tree/closed/file; chmod 0 tree/closed tree/7
printf state > state; echo '{"port": 1}' > ~/.toolrc; echo kept > /tmp/kept
"""
CHECK = """set -e
/var/lib/tool/sbin/tool; stat -c '%Y %a' /var/lib/tool/bin/tool
ls tree | wc -l; cat tree/[1-9]* | cksum; ls -l tree/1 | cut -d' ' -f2; stat -c '%F %s %b' tree/fifo tree/sparse; tail -c 4 tree/sparse
stat -c '%a %Y' tree/closed tree/7 | cut -d' ' -f1; cat tree/closed/file; cat state ~/.toolrc /tmp/kept; pwd
"""


def snapshot(lease, name):
    lease.write("ctl", f"snapshot {name}\n")


def progress(mp, name):
    """How far the pool is, by its .pool/status."""
    lines = (mp / f"@{name}/.pool/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("template "))


def until_taken(mp, name):
    """Its state, once it is ready or has failed."""
    def over():
        return [e["state"] for e in events(mp / f"@{name}") if e.get("snapshot") == name]

    mp.until(over, mp / f"@{name}")
    return over()[-1]


def images(settings):
    """What the provider has of snapshots; None: it has no books."""
    return len(settings.simulator.snapshots()) if settings.simulator else None


@pytest.mark.small
def test_forks(mount):
    """Eight at once, each changes the same file; none sees another, and the lease is as it was."""
    mp = mount(max=10)
    origin = mp.lease()
    assert origin.run(INSTALL) == ("", 0)
    before = origin.run(CHECK)
    assert before[1] == 0 and before[0].startswith("tool 1.0\n1000000000 755\n")
    snapshot(origin, "s")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        forks = list(threads.map(lambda i: lease_in(mp, "s", f"f{i}"), range(8)))  # before it is ready
        assert list(threads.map(lambda fork: fork.run(CHECK), forks)) == [before] * 8
        ends = list(threads.map(lambda fork: fork.run(f"echo {os.path.basename(fork.path)} >> state; rm tree/1; cat state; ls tree | wc -l"), forks))
    count = int(before[0].splitlines()[2])
    assert ends == [(f"statef{i}\n{count - 1}\n", 0) for i in range(8)]
    assert origin.run(CHECK) == before
    assert len({fork.read("environment") for fork in forks} | {origin.read("environment")}) == 9
    shutil.rmtree(mp / "@s")
    assert origin.run(CHECK) == before


def test_what_was_accepted_is_in_it(mp, settings):
    """What close has returned for below root/, whatever jobs do meanwhile; and nothing that came later need be."""
    if not settings.helper:
        pytest.skip("files need the helper")
    lease = mp.lease()
    assert lease.run("(while :; do echo line; sleep 0.01; done > /tmp/busy) & echo $! > busy") == ("", 0)
    lease.write("cmd", "sleep 1000")
    for i in range(30):
        (lease / f"files/written{i}").write_text(f"{i}\n")
    (lease / "root/tmp/large").write_bytes(bytes(5_000_000))
    snapshot(lease, "s")
    fork = lease_in(mp, "s", "f")
    assert fork.run("cat written* | sort -n | tr -d '\\n'; stat -c %s /tmp/large; test -s /tmp/busy; echo $?") == \
        ("".join(map(str, range(30))) + "5000000\n0\n", 0)
    assert lease.status("jobs/2/status")["state"] == "running"
    # Processes are not in it.
    assert fork.run("a=$(stat -c %s /tmp/busy); sleep 0.3; test $a = $(stat -c %s /tmp/busy); echo $?") == ("0\n", 0)
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n"


def test_the_lease_may_go(mp):
    """Its environment is copied to the end, then cleaned for the next."""
    lease = mp.lease()
    assert lease.run("echo mine > /tmp/mine; echo kept > kept") == ("", 0)
    snapshot(lease, "s")
    lease.release()
    assert until_taken(mp, "s") == "ready"
    assert lease_in(mp, "s", "f").run("cat /tmp/mine kept; pwd") == ("mine\nkept\n/root/hermes_tasks/t1\n", 0)
    assert mp.lease("t1").run("ls /tmp/mine; ls")[0].count("kept") == 0


def test_words(mp):
    lease = mp.lease()
    lease.read("environment")
    for name, error in (("", errno.EINVAL), ("@a", errno.EINVAL), (".a", errno.EINVAL), ("a/b", errno.EINVAL),
                        ("a" * 201, errno.ENAMETOOLONG)):
        fails(error, snapshot, lease, name)
        assert f"snapshot {name}".strip() in lease.read("error")
    (mp / "@taken").mkdir()
    fails(errno.EEXIST, snapshot, lease, "taken")
    assert "there is a pool of this name" in lease.read("error")
    mp.ctl("drain")
    fails(errno.EBUSY, snapshot, lease, "s")
    mp.ctl("resume")
    assert sorted(n for n in os.listdir(mp.path) if n.startswith("@")) == ["@taken"]
    snapshot(lease, "s")
    assert lease.read("error") == "ok\n"
    assert until_taken(mp, "s") == "ready"
    assert [e["state"] for e in events(mp) if e.get("snapshot") == "s"] == ["taking"]
    made = (mp / "@s").stat()
    assert (made.st_uid, made.st_mode & 0o7777) == (os.geteuid(), 0o700)
    for line in ("image debian", "reset clean"):
        fails(errno.EPERM, (mp / "@s/.pool/ctl").write_text, line + "\n")
        assert "begins as that is" in events(mp / "@s")[-1]["reason"]
    # Options go along, and a fork can be copied, too.
    (mp / "@s/.pool/ctl").write_text("env A=1\n")
    fork = lease_in(mp, "s", "f")
    assert fork.run("echo $A > second; cat second") == ("1\n", 0)
    snapshot(fork, "s2")
    assert lease_in(mp, "s2", "g").run("cat second; echo $A") == ("1\n1\n", 0)


@pytest.mark.local
def test_nothing_to_copy(mount):
    """Without a file system of its own."""
    lease = mount(isolate="none").lease()
    lease.read("environment")
    fails(errno.EOPNOTSUPP, snapshot, lease, "s")
    assert "cannot be copied" in lease.read("error") and os.listdir(lease.mount.path).count("@s") == 0


@pytest.mark.local
def test_a_failure_is_told(mount):
    mp = mount(fault="snapshot:1")
    lease = mp.lease()
    assert lease.run("echo it goes on") == ("it goes on\n", 0)
    snapshot(lease, "s")
    fork = lease_in(mp, "s", "f")
    assert until_taken(mp, "s") == "failed" and progress(mp, "s") == "failed"
    fails(errno.EINVAL, fork.read, "environment")
    assert fork.read("error") == "the snapshot failed: injected fault: snapshot failed\n"
    assert "the snapshot failed: injected fault" in (mp / "@s/.pool/status").read_text()
    assert lease.run("echo it goes on") == ("it goes on\n", 0)


@pytest.mark.modal
def test_modal_refuses(mp, calm):
    """The reason is Modal's."""
    lease = mp.lease()
    lease.read("environment")
    calm.faults({"kind": "status", "method": "TaskSnapshotFilesystem", "code": "FAILED_PRECONDITION", "message": "no room left"})
    snapshot(lease, "s")
    fork = lease_in(mp, "s", "f")
    assert until_taken(mp, "s") == "failed"
    fails(errno.EINVAL, fork.read, "environment")
    assert "no room left" in fork.read("error")
    calm.faults()


@pytest.mark.modal
def test_answers_are_lost(mp, calm, settings):
    """Modal is asked again by the same id, and has one image; it is deleted with its pool."""
    before = images(settings)
    lease = mp.lease()
    lease.read("environment")
    calm.faults({"kind": "status", "when": "after", "count": 2, "method": "TaskSnapshotFilesystem"},
                {"kind": "status", "when": "after", "count": 1, "method": "ImageDelete"})
    snapshot(lease, "s")
    assert until_taken(mp, "s") == "ready"
    assert images(settings) == before + 1
    assert calm.snapshots()[-1]["ttl"] == 30 * 86400
    (mp / "@s").rmdir()
    calm.until(lambda stats: images(settings) == before)


@pytest.mark.local
def test_no_file_is_left(mp):
    lease = mp.lease()
    lease.read("environment")
    snapshot(lease, "s")
    assert until_taken(mp, "s") == "ready"
    file, = mp.state.glob("*/snapshots/*")
    assert file.stat().st_mode & 0o777 == 0o600
    (mp / "@s").rmdir()
    mp.until(lambda: [e["state"] for e in events(mp) if e.get("pool") == "s"][-1] == "ended")
    mp.sh("true")
    assert not file.exists()


def test_kill_of_the_daemon(mp, settings):
    """A pool of a snapshot is there again, and its forks; one that was being taken is, where its environment lives on."""
    before = images(settings)
    lease = mp.lease()
    assert lease.run("echo state > state") == ("", 0)
    snapshot(lease, "s")
    assert lease_in(mp, "s", "f").run("cat state") == ("state\n", 0)
    snapshot(lease, "s2")
    mp.crash()
    mp.start()
    assert sorted(n for n in os.listdir(mp.path) if n.startswith("@")) == ["@s", "@s2"]
    (mp / "@s/f").rmdir()
    assert lease_in(mp, "s", "g").run("cat state") == ("state\n", 0)
    state = until_taken(mp, "s2")
    assert state == "ready" or settings.provider == "local"  # whose environments end with the daemon here
    fork = lease_in(mp, "s2", "h")
    if state == "ready":
        assert fork.run("cat state") == ("state\n", 0)
    else:
        fails(errno.EINVAL, fork.read, "environment")
        assert "its environment ended before" in fork.read("error")
    mp.crash()
    looked, done = mp.reap("--dry-run"), mp.reap()
    assert looked.stdout.count("would delete snapshot ") == 2 and looked.returncode == 0, looked
    assert "\n2 snapshots deleted; 0 left\n" in done.stdout and done.returncode == 0, done
    mp.end_what_crashed()
    assert images(settings) == before
