# SPDX-License-Identifier: MIT
"""
What a lease leaves in the sandbox is undone, or noticed: NOTE, and CLEAN with COMPARE.

The root of the sandbox is a tmpfs, in which these tests make a small system. It is seen from outside as well.
"""

import errno
import os
import pathlib
import subprocess

import pytest

import wire
from test_bounds import STATIC
from test_clean import CLEAN, WORKDIR, do, root
from test_kill import THIS, left

EMPTIED = ["/tmp", "/var/tmp", "/dev/shm"]
COMPARE = wire.CLEAN_SANDBOX | wire.CLEAN_COMPARE
SYSTEM = r"""
mkdir -p /app/src /testbed /usr2/bin /root2 /site/pkg /etc/cron.d /etc/profile.d /var/tmp /opt/deep/er
chmod 1777 /var/tmp
for i in 1 2 3; do echo $i > /app/src/$i; done
echo code > /app/main.py; echo test > /testbed/test.py; echo conf > /etc/conf; echo tool > /usr2/bin/tool
chmod 755 /usr2/bin/tool; echo rc > /root2/.bashrc; echo init > /site/pkg/__init__.py; echo x > /opt/deep/er/file
ln -s main.py /app/link; ln /app/main.py /app/hard; mkfifo /app/fifo; mkdir /app/empty /app/other
echo a > /app/empty/a; echo b > /app/other/b; dd if=/dev/zero of=/app/big bs=4096 count=4 2>/dev/null
cp /bin/sleep /usr2/bin/sleep; chmod 4755 /usr2/bin/sleep; touch -d 2001-01-01 /app/old /testbed
"""

# What is added goes.
UNDONE = {
    "nothing": "true",
    "a file in /app": "echo x > /app/new",
    "files in many places": "for d in /app /testbed /usr2/bin /etc /root2 /site / /opt/deep/er; do echo x > $d/new; done",
    "a tree": "mkdir -p /app/a/b/c; echo x > /app/a/b/c/f; ln -s / /app/a/root; mkfifo /app/a/p",
    "a tree of many": "mkdir /opt/many; cd /opt/many; seq 3000 | xargs touch; seq 10001 13000 | xargs mkdir",
    "modules as bytes": "mkdir /site/pkg/__pycache__; echo x > /site/pkg/__pycache__/init.pyc",
    "a package": "mkdir -p /site/newpkg/sub /site/newpkg.dist-info; echo x > /site/newpkg/sub/f",
    "a .pth": "echo 'import os' > /site/evil.pth",
    "cron": "echo '* * * * * root true' > /etc/cron.d/job",
    "a profile": "echo 'echo hi' > /etc/profile.d/x.sh; echo x > /root2/.profile; echo x > /root2/.bash_history",
    "ld.so.preload": "echo /tmp/x.so > /etc/ld.so.preload",
    "a program in PATH": "printf '#!/bin/sh\\n' > /usr2/bin/ls; chmod 4755 /usr2/bin/ls",
    "a link": "ln -s /etc /app/to; ln -s nowhere /usr2/bin/lost",
    "a file that came from elsewhere": "echo x > /tmp/f; mv /tmp/f /app/f; touch -d 2001-01-01 /app/f",
    "a directory that came from elsewhere": "mkdir -p /tmp/d/e; echo x > /tmp/d/e/f; mv /tmp/d /app/d",
    "a file of an old time": "echo x > /app/new; touch -d 1999-01-01 /app/new; chmod 0 /app/new",
    "made and removed": "echo x > /app/new; rm /app/new; mkdir /app/d; rmdir /app/d",
    "times of directories": "touch -d 2001-02-03 /app /etc; touch /testbed",
    "a socket": "cd /app; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
    "a device": "mknod /app/null c 1 3",
    "a file in /dev": "echo x > /dev/new; mkdir /dev/d",
    "a hidden name": "echo x > '/app/...'; echo x > \"$(printf '/app/\\n')\"; echo x > '/app/ '",
    "what is emptied": "echo x > /var/tmp/f; echo x > /dev/shm/f; mkdir /var/tmp/.d",
    "the mode of what is emptied": "chmod 700 /var/tmp; chown 1:1 /tmp",
    "what is emptied, removed": "rmdir /var/tmp; rm -rf /tmp/* 2>/dev/null",
    "what is emptied, replaced": "rmdir /var/tmp; ln -s /app /var/tmp",
    "a mount": "mkdir /app/m; mount -t tmpfs none /app/m; echo x > /app/m/f",
    "a mount over /app": "mount -t tmpfs none /app; echo x > /app/f",
    "a bind mount over a file": "echo evil > /tmp/f; mount --bind /tmp/f /etc/conf",
    "a file, read": "cat /app/* /etc/conf > /dev/null 2>&1 < /dev/null & sleep 0.05; kill %1 2>/dev/null; ls -lR /app /etc /site > /dev/null; true",
    "a filled disk": "head -c 1000000 /dev/zero > /opt/fill",
    "an open file of a deleted name": f"exec 9> /app/gone; rm /app/gone; setsid sleep {THIS} > /dev/null 2>&1 & exit 0",
    "shared memory": "ipcmk -M 4096 -S 1 -Q",
    "a process": f"cd /app; setsid sleep {THIS} > /dev/null 2>&1 & exit 0",
}

# Anything else is noticed, and the path is named.
NOTICED = {
    "changed": ("echo evil > /app/main.py", "/app/main.py"),
    "changed, with its times and size": ("stat=$(stat -c %y /etc/conf); echo evil > /etc/conf; touch -d \"$stat\" /etc/conf; "
                                         "test \"$(stat -c %y /etc/conf)\" = \"$stat\"", "/etc/conf"),
    "appended": ("echo x >> /root2/.bashrc", "/root2/.bashrc"),
    "truncated": (": > /opt/deep/er/file", "/opt/deep/er/file"),
    "grown without content": ("truncate -s 1M /app/big", "/app/big"),
    "a hole": ("fallocate -p -o 0 -l 4096 /app/big", "/app/big"),
    "written through memory": ("python3 -c 'import mmap; f = open(\"/app/big\", \"r+b\"); m = mmap.mmap(f.fileno(), 0); "
                               "m[5000] = 1; m.flush()'", "/app/big"),
    "deleted": ("rm /testbed/test.py", "/testbed/"),
    "a directory deleted": ("rm -r /opt/deep", "/opt/"),
    "renamed": ("mv /testbed/test.py /testbed/x.py", "/testbed/x.py"),
    "moved away": ("mv /testbed/test.py /tmp/", "/testbed/"),
    "a directory renamed": ("mv /opt/deep /opt/deeper", "/opt/deeper"),
    "replaced": ("cp -p /app/main.py /app/x; mv /app/x /app/main.py", "/app/main.py"),
    "deleted and made again": ("rm /app/old; touch -d 2001-01-01 /app/old", "/app/old"),
    "a directory made again": ("rm -r /app/other; mkdir /app/other", "/app/other/"),
    "files swapped": ("cd /app/src; mv 1 t; mv 2 1; mv t 2", "/app/src/1"),
    "directories swapped": ("cd /app; mv empty t; mv other empty; mv t other", "/app/empty/"),
    "a mode": ("chmod 4755 /usr2/bin/tool", "/usr2/bin/tool"),
    "a setuid bit gone": ("chown 0:0 /usr2/bin/sleep", "/usr2/bin/sleep"),
    "an owner": ("chown 1 /root2/.bashrc", "/root2/.bashrc"),
    "the mode of a directory": ("chmod 777 /usr2/bin", "/usr2/bin"),
    "the owner of a directory": ("chown 1 /site", "/site"),
    "the mode of the root": ("chmod 700 /", "/"),
    "a time": ("touch -d 2001-02-03 /app/main.py", "/app/main.py"),
    "a link that points elsewhere": ("ln -sfn /etc/conf /app/link", "/app/link"),
    "a hard link to what was there": ("ln /etc/conf /app/conf", "/etc/conf"),
    "a hard link, gone again": ("ln /etc/conf /app/conf; rm /app/conf", "/etc/conf"),
    "a file in place of a directory": ("rm -r /app/empty; echo x > /app/empty", "/app/empty"),
    "a link in place of a directory": ("rm -r /app/empty; ln -s /etc /app/empty", "/app/empty"),
    "a directory in place of a file": ("rm /app/old; mkdir /app/old", "/app/old"),
    "added beside changed": ("echo x > /app/new; echo x >> /app/main.py", "/app/main.py"),
    "an attribute": ("python3 -c 'import os; os.setxattr(\"/app/main.py\", \"trusted.x\", b\"y\")'", "/app/main.py"),
    "an attribute of a directory": ("python3 -c 'import os; os.setxattr(\"/app\", \"trusted.x\", b\"y\")'", "/app"),
    "the name of the host": ("python3 -c 'import socket; socket.sethostname(\"evil\")'", "/proc/sys/kernel/hostname"),
}


def note(daemon, *unwatched, emptied=EMPTIED):
    key = daemon.request(wire.NOTE, "", *emptied, "", *unwatched)
    daemon.run(lambda: key in daemon.answers)
    return daemon.answers[key]


def reset(daemon, *unwatched, emptied=EMPTIED):
    """None, or what is not as it was."""
    key = daemon.request(wire.CLEAN, WORKDIR, *emptied, "", *unwatched, flags=COMPARE)
    daemon.run(lambda: key in daemon.answers)
    error, data = daemon.answers[key]
    if error == errno.ESTALE:
        assert data.endswith(b"\0")
        return [os.fsdecode(path) for path in data[:-1].split(b"\0")]
    assert (error, data) == CLEAN
    return None


def inventory(there):
    """All that is in the root, as ls shows it, but for what is mounted and the times of files that are read."""
    out = subprocess.run(["find", there, "-xdev", "-printf", r"%P %y %m %U %G %l %s %T@\n", "-name", "modalpool", "-prune"],
                         capture_output=True, check=True).stdout
    return sorted(line for line in out.splitlines() if not line.startswith((b"tmp ", b"var/tmp ", b"dev/")))


@pytest.fixture
def ready(make_box, make_daemon):
    """A daemon, and the sandbox as it became ready."""
    daemon = make_daemon(make_box(more=["--unshare-uts", "--dir", "/var", "--dir", "/dev/shm"]))
    do(daemon, SYSTEM, workdir="/tmp")
    assert daemon.clean(WORKDIR) == CLEAN
    error, text = note(daemon)
    assert error == 0, text
    return daemon


@pytest.mark.parametrize("way", UNDONE)
def test_undone(ready, way):
    before = inventory(root(ready.box))
    do(ready, UNDONE[way])
    assert reset(ready) is None
    assert inventory(root(ready.box)) == before
    assert left(ready.box, THIS) == []
    assert reset(ready) is None  # again, as it is


@pytest.mark.parametrize("way", NOTICED)
def test_noticed(ready, way):
    command, path = NOTICED[way]
    do(ready, command)
    found = reset(ready)
    assert found and path in found
    assert reset(ready) == found  # it does not become clean by being asked again


def test_all_at_once(ready):
    """Of many differences the first are named."""
    do(ready, "cd /app/src; for i in 1 2 3; do echo x >> $i; done; seq 1000 | xargs touch")
    found = reset(ready)
    assert 1 <= len(found) <= 16 and all(path.startswith("/app/src/") for path in found)


def test_many_leases(ready):
    before = inventory(root(ready.box))
    for n in range(20):
        do(ready, f"mkdir -p /app/{n} /site/x; echo {n} > /app/{n}/f; echo x > /site/x/y; echo x > /tmp/f; echo x > f")
        assert reset(ready) is None
    assert inventory(root(ready.box)) == before


def test_boundaries(make_box, make_daemon, tmp_path):
    """Volumes, what is mounted read-only, and what is not watched pass to the next lease."""
    (tmp_path / "volume").mkdir()
    daemon = make_daemon(make_box(more=["--bind", str(tmp_path / "volume"), "/volume", "--dir", "/cache", "--dir", "/var/tmp",
                                        "--dir", "/dev/shm", "--tmpfs", "/more"]))
    do(daemon, "echo x > /cache/old; echo x > /more/old; mkdir /data")
    assert daemon.clean(WORKDIR) == CLEAN
    lists = ["/cache", "/data/unwatched", "/none"]
    error, text = note(daemon, *lists)
    assert error == 0
    do(daemon, "echo x > /volume/f; echo y > /cache/old; echo x > /cache/new; echo x > /data/unwatched; echo x > /data/f")
    assert reset(daemon, *lists) is None
    there = root(daemon.box)
    assert (there / "volume/f").exists() and (there / "cache/new").exists() and (there / "data/unwatched").exists()
    assert not (there / "data/f").exists()
    do(daemon, "rm -r /cache; echo x > /more/new")
    assert reset(daemon, *lists) is None and not (there / "more/new").exists()
    do(daemon, "echo y >> /more/old")
    assert reset(daemon, *lists) == ["/more/old"]
    error, text = daemon.clean(WORKDIR, *EMPTIED, flags=COMPARE)
    assert error == errno.EINVAL and text.startswith(b"the note was made with other directories: ")


def test_links_to_what_is_emptied(make_box, make_daemon):
    """Older than the helper, as some systems have them."""
    daemon = make_daemon(make_box(more=["--dir", "/real/tmp", "--symlink", "/real/tmp", "/lock", "--symlink", "/real", "/also"]))
    emptied = ["/lock", "/also/tmp"]
    do(daemon, "echo x > /lock/f", workdir="/tmp")
    assert note(daemon, emptied=emptied)[0] == 0
    do(daemon, "echo x > /lock/g; rm /lock/f; chmod 700 /real/tmp")
    assert reset(daemon, emptied=emptied) is None
    assert list((root(daemon.box) / "real/tmp").iterdir()) == []
    do(daemon, "rm /lock; ln -s /etc /lock")
    error, text = daemon.clean(WORKDIR, *emptied, flags=COMPARE)
    assert error == errno.EINVAL and (root(daemon.box) / "etc/passwd").exists()


@pytest.fixture
def layers(tmp_path):
    """A root of layers, as containers have it; below is what the image brings."""
    for name in ["image", "changes", "work", "root"]:
        (tmp_path / name).mkdir()
    for name in ["app", "etc", "opt/deep"]:
        (tmp_path / "image" / name).mkdir(parents=True)
        (tmp_path / "image" / name / "file").write_text(name)
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={tmp_path}/image,upperdir={tmp_path}/changes,"
                    f"workdir={tmp_path}/work", "none", tmp_path / "root"], check=True)
    try:
        yield tmp_path / "root"
    finally:
        subprocess.run(["umount", "-l", tmp_path / "root"], check=True)


@pytest.mark.parametrize("command, found", [
    ("true", None),
    ("cat /app/file; echo x > /app/new; mkdir -p /opt/deep/a/b; touch -d 2001-01-01 /etc", None),
    ("echo x >> /app/file", ["/app/file"]),
    ("exec 9>> /app/file", ["/app/file"]),  # copied up, though nothing was written
    ("mv /opt/deep/file /app/new", ["/opt/deep/"]),  # /app is as it was, without the new one
    ("rm -r /opt/deep", ["/opt/"]),
    ("rm -r /opt/deep; mkdir /opt/deep", ["/opt/deep/"]),
    ("ln /app/file /app/new; rm /app/new", ["/app/file"]),
    ("chmod 777 /opt/deep", ["/opt/deep"]),
])
def test_layers(layers, make_box, make_daemon, command, found):
    box = make_box(below=["--bind", str(layers), "/"])
    daemon = make_daemon(box)
    assert note(daemon)[0] == 0
    assert reset(daemon) is None
    do(daemon, command)
    seen = reset(daemon)
    assert (seen and sorted(seen)) == found


def test_no_note(daemon):
    error, text = daemon.clean(WORKDIR, flags=COMPARE)
    assert error == errno.ENODATA and text.startswith(b"there is no note of the sandbox: ")


LARGE = r"""python3 -c '
import os
for d in range(2000):
    os.makedirs(f"/large/{d % 50}/{d}")
    for i in range(99): open(f"/large/{d % 50}/{d}/{i}", "w").close()
'"""


def processor_time(daemon):
    """Of the helper's children that have ended, in seconds: of its cleaners, and of reapers."""
    stat = pathlib.Path(f"/proc/{daemon.box.helper()}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")


def test_large(daemon):
    """200,000 entries: in less than a second of a processor, and a note of little memory, while jobs go on."""
    do(daemon, LARGE)
    assert daemon.clean(WORKDIR) == CLEAN
    before, n_jobs = processor_time(daemon), 0
    key = daemon.request(wire.NOTE, "", "/tmp")
    while key not in daemon.answers:
        assert do(daemon, "echo on", workdir="/tmp").out == b"on\n"
        n_jobs += 1
    error, text = daemon.answers[key]
    assert error == 0 and int(text.split()[0]) > 200_000
    assert n_jobs > 1, "it held up a job"
    noted = processor_time(daemon)
    do(daemon, "echo x > /large/7/57/new; mkdir /large/8/d", workdir="/tmp")
    assert reset(daemon, emptied=["/tmp"]) is None
    compared = processor_time(daemon)
    began = os.times()
    subprocess.run(["find", root(daemon.box) / "large", "-printf", r"%p %m %U %G %s %T@ %C@ %l\n"], stdout=subprocess.DEVNULL,
                   check=True)
    find = sum(os.times()[2:4]) - sum(began[2:4])
    print(f"{text.decode()}: noted in {noted - before:.2f} s, compared in {compared - noted:.2f} s, find takes {find:.2f} s")
    if STATIC:
        assert noted - before < 1 and compared - noted < 1
    files = pathlib.Path(f"/proc/{daemon.box.helper()}/fd")
    sizes = [fd.stat().st_size for fd in files.iterdir() if "memfd:manifest" in os.readlink(fd)]
    assert len(sizes) == 1 and sizes[0] < 128 << 10
    do(daemon, "echo x >> /large/7/57/3", workdir="/tmp")
    assert reset(daemon, emptied=["/tmp"]) == ["/large/7/57/3"]


def test_a_cleanup_ends_a_note(ready):
    """Nobody waits for it, and there is no note."""
    key = ready.request(wire.NOTE, "", *EMPTIED)
    assert ready.clean(WORKDIR) == CLEAN
    ready.run(lambda: key in ready.answers)
    assert ready.answers[key][0] == errno.ECANCELED
    assert ready.clean(WORKDIR, *EMPTIED, flags=COMPARE)[0] == errno.ENODATA
    assert note(ready)[0] == 0
    assert reset(ready) is None


def test_too_deep(daemon):
    """What cannot be noted is said."""
    do(daemon, "mkdir /deep; cd /deep; python3 -c '\nimport os\nfor d in range(500): os.mkdir(\"d\"), os.chdir(\"d\")\n'")
    error, text = note(daemon)
    assert error == errno.ELOOP and text.startswith(b"noting /deep/d/d/d")
    assert daemon.clean(WORKDIR, flags=COMPARE)[0] == errno.ENODATA
