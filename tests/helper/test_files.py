# SPDX-License-Identifier: MIT
"""Files of a sandbox: each call, what is refused, and that each is done once."""

import errno
import os
import random
import signal
import stat

import pytest

import daemon as daemon_module
import wire


def put(d, directory, name, data, mode=0o644):
    handle = wire.head(d.get("create", directory, name, mode=mode, flags=os.O_RDWR | os.O_TRUNC))[0]
    for at in range(0, len(data), 12288):
        d.get("write", handle=handle, offset=at, data=data[at:at + 12288])
    d.get("close", handle=handle)


def get(d, directory, name):
    handle, whole, attributes, data = wire.head(d.get("open", directory, name, flags=os.O_RDONLY))
    if not whole:
        data = b""
        while len(data) < attributes.size:
            piece = d.get("read", handle=handle, offset=len(data), size=16384)
            assert piece
            data += piece
    d.get("close", handle=handle)
    return data


def error(d, *call, **more):
    return errno.errorcode.get(d.ask(*call, **more)[0], "ok")


@pytest.fixture
def d(anywhere):
    return anywhere


def test_files(d):
    contents = random.Random(1).randbytes(100_000)
    put(d, "tmp", "a", b"few")
    put(d, "tmp", "b", contents)
    assert get(d, "tmp", "a") == b"few" and get(d, "tmp", "b") == contents
    assert d.do("cat /tmp/a").out == b"few"
    assert d.do("cat /tmp/b").out == contents
    found = wire.attributes(d.get("lookup", "tmp", "b"))
    assert (stat.S_IFMT(found.mode), found.mode & 0o7777, found.size, found.nlink, found.uid) == (stat.S_IFREG, 0o644, 100_000, 1, 0)
    assert error(d, "lookup", "tmp", "c") == "ENOENT"
    assert error(d, "create", "tmp", "a", mode=0o600, flags=os.O_WRONLY | os.O_EXCL) == "EEXIST"
    d.get("unlink", "tmp", "a")
    assert error(d, "open", "tmp", "a") == "ENOENT"


def test_names(d):
    d.get("mkdir", "tmp", "dir", mode=0o1750)
    assert wire.attributes(d.get("lookup", "tmp/dir", ".")).mode == stat.S_IFDIR | 0o1750
    put(d, "tmp/dir", "f", b"1")
    d.get("link", "tmp/dir", "f", "tmp", "g")
    assert wire.attributes(d.get("lookup", "tmp", "g")).nlink == 2
    assert error(d, "rmdir", "tmp", "dir") == "ENOTEMPTY"
    d.get("rename", "tmp/dir", "f", "tmp", "h")
    put(d, "tmp", "other", b"2")
    assert error(d, "rename", "tmp", "h", "tmp", "other", flags=1) == "EEXIST"
    d.get("rename", "tmp", "h", "tmp", "other", flags=2)
    assert get(d, "tmp", "h") == b"2" and get(d, "tmp", "other") == b"1"
    d.get("rmdir", "tmp", "dir")
    made = wire.attributes(d.get("mknod", "tmp", "fifo", mode=stat.S_IFIFO | 0o600))
    assert made.mode == stat.S_IFIFO | 0o600
    assert error(d, "mknod", "tmp", "device", mode=stat.S_IFCHR | 0o600) == "EPERM"
    assert error(d, "open", "tmp", "fifo", flags=os.O_WRONLY) == "ENXIO"
    odd = bytes(range(1, 47)) + bytes(range(48, 256))
    put(d, "tmp", odd, b"odd")
    assert odd in d.list("tmp") and get(d, "tmp", odd) == b"odd"
    for name in [b"", b"..", b"a/b", b"x" * 256]:
        assert error(d, "lookup", "tmp", name) == "EINVAL"
    for directory in ["..", "tmp/..", "/tmp", "tmp/", "tmp//x", "./tmp"]:
        assert error(d, "lookup", directory, "a") == "EINVAL"


def test_attributes(d):
    put(d, "tmp", "f", b"12345")
    d.get("set", "tmp", "f", which=1 | 8, size=3, mode=0o4711)
    d.get("set", "tmp", "f", which=16 | 32, atime=(-5, 7), mtime=(1 << 33, 999_999_999))
    found = wire.attributes(d.get("lookup", "tmp", "f"))
    assert (found.mode & 0o7777, found.size) == (0o4711, 3)
    assert (found.mtime, found.mtime_ns) == (1 << 33, 999_999_999)
    d.get("set", "tmp", "f", which=2 | 4, uid=12, gid=34)
    found = wire.attributes(d.get("set", "tmp", "f", which=128))
    assert (found.uid, found.gid) == (12, 34) and abs(found.mtime - found.ctime) <= 1
    handle = wire.head(d.get("open", "tmp", "f", flags=os.O_RDWR))[0]
    d.get("unlink", "tmp", "f")
    assert wire.attributes(d.get("set", handle=handle, which=8, size=1 << 20)).size == 1 << 20
    assert wire.attributes(d.get("stat", handle=handle)).nlink == 0
    assert error(d, "set", "tmp", "f", which=1, mode=0o600) == "ENOENT"


def test_links(d):
    d.do("mkdir -p /tmp/a/b /tmp/real/deep; ln -s /tmp/real/deep /tmp/a/away")
    for target, answer in [("b", "b"), ("/etc/passwd", "/etc/passwd"), ("../a/b", "../a/b"), ("../../../../etc", "/etc"),
                           ("/../../etc", "/etc"), ("./../x", "./../x"), ("away/../y", "/tmp/real/y"),
                           ("/tmp/a/away/../../z", "/tmp/z"), ("gone/../y", "/tmp/a/y"), ("/", "/"), ("b/..", "/tmp/a/"),
                           ("../../../proc/self/environ", "/proc/self/environ")]:
        d.get("symlink", "tmp/a", "link", data=target.encode())
        assert d.get("readlink", "tmp/a", "link").decode() == answer, target
        assert error(d, "lookup", "tmp/a/link", "x") in ("ENOTDIR", "ELOOP")
        assert error(d, "open", "tmp/a", "link") == "ELOOP"
        d.get("unlink", "tmp/a", "link")
    assert error(d, "readlink", "tmp", "a") == "EINVAL"


def test_what_is_of_the_kernel_is_empty(d):
    top = d.list("")
    assert {b"proc", b"dev", b"tmp"} <= set(top)
    for directory in ["proc", "dev", "proc/1"]:
        assert d.list(directory) == {}
        assert error(d, "lookup", directory, "self") == "ENOENT"
        assert error(d, "lookup", directory, "null") == "ENOENT"
        assert error(d, "mkdir", directory, "x", mode=0o700) == "EPERM"
    assert stat.S_ISDIR(wire.attributes(d.get("lookup", "proc", ".")).mode)


def test_listing(d):
    d.do("mkdir /tmp/many; cd /tmp/many; i=0; while [ $i -lt 1000 ]; do : > name$i; i=$((i+1)); done")
    found = d.list("tmp/many")
    assert set(found) == {f"name{i}".encode() for i in range(1000)}
    assert all(one.mode == stat.S_IFREG | 0o644 and one.ino for one in found.values())
    first = wire.head(d.get("list", "tmp/many"))[0]
    d.get("close", handle=first)
    assert error(d, "list", handle=first) == "EBADF"
    assert error(d, "list", "tmp/many/name1") == "ENOTDIR"


def test_holes_and_space(d):
    handle = wire.head(d.get("create", "tmp", "f", flags=os.O_RDWR, mode=0o600))[0]
    d.get("write", handle=handle, offset=1 << 30, data=b"end")
    assert int.from_bytes(d.get("seek", handle=handle, offset=0, flags=os.SEEK_DATA), "little") in (0, 1 << 30)
    d.get("sync", handle=handle)
    d.get("sync", "tmp")
    other = wire.head(d.get("create", "tmp", "g", flags=os.O_RDWR, mode=0o600))[0]
    error, data = d.ask("copy", handle=handle, offset=1 << 30, handle2=other, offset2=2, size=100)
    if error == 0:
        assert int.from_bytes(data, "little") == 3 and get(d, "tmp", "g") == b"\0\0end"
    space = d.get("statfs", "tmp")
    assert len(space) == 64 and int.from_bytes(space[:8], "little") > 0


def test_workdir(d):
    d.do("mkdir -p /tmp/w/x; touch /tmp/w/x/y")
    d.get("prepare", data=b"/tmp/w")
    assert set(d.list("tmp/w")) == {b"x"}
    d.get("prepare", data=b"/tmp/w", flags=1)
    assert d.list("tmp/w") == {}
    d.get("prepare", data=b"/tmp/new/deep", flags=1)
    assert d.list("tmp/new/deep") == {}
    assert error(d, "prepare", data=b"relative") == "EINVAL"


def test_each_is_done_once(box, make_daemon):
    """Carriers are cut at any byte. A second create, rename or append would show."""
    d = make_daemon(box)
    chance = random.Random(2)
    d.get("mkdir", "tmp", "d", mode=0o700)
    for i in range(150):
        calls = [d.call("create", "tmp/d", f"n{i}", mode=0o600, flags=os.O_WRONLY | os.O_EXCL),
                 d.call("rename", "tmp/d", f"n{i}", "tmp/d", f"m{i}", flags=1),
                 d.call("link", "tmp/d", f"m{i}", "tmp/d", f"l{i}"), d.call("unlink", "tmp/d", f"m{i}")]
        d.carrier.to_send, d.carrier.to_receive = chance.choice([(chance.randrange(1, 600), None), (None, chance.randrange(1, 400))])
        while not all(number in d.done for number in calls):
            try:
                d.run(lambda: all(number in d.done for number in calls))
            except daemon_module.Gone:
                d.attach()
        assert [d.done.pop(number)[0] for number in calls] == [0, 0, 0, 0]
    assert set(d.list("tmp/d")) == {f"l{i}".encode() for i in range(150)}


def test_many_at_once(daemon):
    put(daemon, "tmp", "f", os.urandom(1 << 20))
    job = daemon.start("yes | head -c 3000000")
    handle = wire.head(daemon.get("open", "tmp", "f"))[0]
    numbers = [daemon.call("read", handle=handle, offset=i << 14, size=1 << 14) for i in range(64)]
    data = b"".join(daemon.answer(number)[1] for number in numbers)
    daemon.wait(job)
    assert len(data) == 1 << 20 and len(job.out) == 3_000_000
    assert data == daemon.do("cat /tmp/f").out


def test_bounds(daemon):
    with pytest.raises(daemon_module.Gone, match="too high"):
        helper = daemon.box.helper()
        daemon.get("none")
        server = next(pid for pid, (parent, name, _) in daemon.box.processes().items() if name == "modalpool-files")
        os.kill(server, signal.SIGSTOP)
        os.kill(helper, 0)
        for _ in range(wire.CALLS_MAX + 1):
            daemon.call("none")
        daemon.run(lambda: False, 20)


def test_a_server_that_dies(daemon):
    """What it was doing gives EIO, what was open EBADF; the next call has a new one."""
    handle = wire.head(daemon.get("create", "tmp", "f", flags=os.O_RDWR, mode=0o600))[0]
    server = next(pid for pid, (_, name, _) in daemon.box.processes().items() if name == "modalpool-files")
    os.kill(server, signal.SIGKILL)
    while error(daemon, "none") == "EIO":
        pass
    assert error(daemon, "stat", handle=handle) == "EBADF"
    assert wire.attributes(daemon.get("lookup", "tmp", "f")).size == 0


def test_garbage(daemon):
    chance = random.Random(3)
    for _ in range(200):
        data = bytearray(wire.call(chance.choice(wire.OPS), "tmp", "f", "tmp", "g", data=b"x" * 5, handle=chance.choice([0, 5])))
        for _ in range(chance.randrange(3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = bytes(data[:chance.randrange(1, len(data) + 1)])
        daemon.n_calls += 1
        daemon.calls[daemon.n_calls] = data
        daemon.send("CALL", data, request=daemon.n_calls)
        daemon.answer(daemon.n_calls)
    assert daemon.do("echo on").out == b"on\n"


def test_a_clean_up_and_a_new_daemon_close_all(box, make_daemon):
    old = make_daemon(box, epoch=1)
    handle = wire.head(old.get("create", "tmp", "f", flags=os.O_RDWR, mode=0o600))[0]
    old.get("mkdir", "tmp", "kept", mode=0o700)
    assert old.clean("", "/var/none", flags=0)[0] == 0
    assert error(old, "stat", handle=handle) == "EBADF"
    handle = wire.head(old.get("create", "tmp", "g", flags=os.O_RDWR, mode=0o600))[0]
    new = make_daemon(box, epoch=2)
    assert error(new, "stat", handle=handle) == "EBADF"


def test_an_old_daemon(box, make_daemon):
    assert make_daemon(box, version=1).do("echo on").out == b"on\n"


def test_xattrs(box, daemon):
    put(daemon, "tmp", "f", b"")
    code, _ = daemon.ask("setxattr", "tmp", "f", name2="user.a", data=b"value")
    if code == errno.EOPNOTSUPP:
        pytest.skip("this file system has none")
    assert daemon.get("getxattr", "tmp", "f", name2="user.a") == b"value"
    assert daemon.get("listxattr", "tmp", "f") == b"user.a\0"
    assert wire.attributes(daemon.get("lookup", "tmp", "f")).flags == 1
    daemon.get("removexattr", "tmp", "f", name2="user.a")
    assert error(daemon, "getxattr", "tmp", "f", name2="user.a") == "ENODATA"
    assert wire.attributes(daemon.get("lookup", "tmp", "f")).flags == 0
