# SPDX-License-Identifier: MIT
"""root/ and files: the files of an environment as files of the mount."""

import errno
import fcntl
import mmap
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
import time

import pytest

from test_lease import fails


@pytest.fixture
def files(mount):
    """The workdir of a lease, with room for what the tests put there."""
    mp = mount(max=2, timeout=60)
    if not mp.settings.helper:
        pytest.skip("without a helper")
    lease = mp.lease()
    lease.files = lease / "files"
    return lease


@pytest.fixture
def plain(mount, settings):
    if settings.provider == "local":
        pytest.skip("local environments always have a helper")
    return mount(max=1, helper=False).lease()


TREE = {"a": b"1", "b/c": b"x" * 100_000, "b/d/e": b"", "b/d/odd \n name": b"2" * 20_000}


def make_tree(path):
    for name, data in TREE.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    os.chmod(path / "a", 0o751)
    os.symlink("b/d", path / "link")
    os.utime(path / "a", ns=(10**18 + 1, 10**18 + 123_456_789))


@pytest.mark.small
def test_there_and_back(files):
    (files.files / "a").write_text("hello\n")
    assert files.run("cat a; echo more > b; stat -c %a:%s a") == ("hello\n644:6\n", 0)
    assert (files.files / "b").read_text() == "more\n"
    assert os.readlink(files / "files").startswith("root/")
    assert "root" not in os.listdir(files.path) and (files / "root").is_dir()
    assert sorted(os.listdir(files.files)) == ["a", "b"]


def test_before_there_is_an_environment(mount):
    """What is copied at once lands in the workdir, and the first job finds it."""
    mp = mount(max=1)
    if not mp.settings.helper:
        pytest.skip("without a helper")
    first = mp.lease("first")
    first.read("environment")
    second = mp.lease("second")
    copied = []

    def copy():
        (second / "files/x").write_text("early")
        copied.append(True)

    thread = threading.Thread(target=copy)
    thread.start()
    mp.until(lambda: True)
    assert os.listdir(mp.path) and second.status()["state"] == "waiting" and not copied
    assert stat.S_ISDIR(os.lstat(second / "root").st_mode)
    first.release()
    thread.join()
    assert second.run("cat x") == ("early", 0)


def test_copies(files, tmp_path):
    make_tree(tmp_path / "tree")
    files.mount.sh(["cp", "-a", str(tmp_path / "tree"), str(files.files)])
    assert files.mount.sh(["diff", "-r", str(tmp_path / "tree"), str(files.files / "tree")]).stdout == ""
    found = os.stat(files.files / "tree/a")
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode), os.readlink(files.files / "tree/link")) == (10**18 + 123_456_789, 0o751, "b/d")
    assert files.run("find tree -type f | wc -l; cat tree/b/c | wc -c") == ("5\n100000\n", 0)  # a name has two lines
    shutil.copytree(files.files / "tree", tmp_path / "back", symlinks=True)
    assert files.mount.sh(["diff", "-r", str(tmp_path / "tree"), str(tmp_path / "back")]).stdout == ""
    shutil.rmtree(files.files / "tree")
    assert files.run("ls -A") == ("", 0)


@pytest.mark.parametrize("tool", ["tar", "rsync"])
def test_archives(files, tmp_path, tool):
    make_tree(tmp_path / "tree")
    inside = files.files
    if tool == "tar":
        files.mount.sh(f"tar -C '{tmp_path}' --format=posix -c tree | tar -C '{inside}' -x && tar -C '{inside}' --format=posix -c tree | tar -C '{tmp_path}' -x --transform s/tree/back/")
    elif not shutil.which("rsync"):
        pytest.skip("there is no rsync")
    else:
        files.mount.sh(f"rsync -a '{tmp_path}/tree' '{inside}' && rsync -a '{inside}/tree/' '{tmp_path}/back'")
        assert files.mount.sh(f"rsync -ani '{inside}/tree/' '{tmp_path}/back'").stdout == ""
    assert files.mount.sh(["diff", "-r", str(tmp_path / "tree"), str(tmp_path / "back")]).stdout == ""
    assert os.stat(tmp_path / "back/a").st_mtime == os.stat(tmp_path / "tree/a").st_mtime


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git")
def test_git(files):
    git = f"git -C '{files.files}/repo' -c user.name=n -c user.email=e@x -c safe.directory=* "
    run = files.mount.sh
    run(f"git init -q '{files.files}/repo'; cd '{files.files}/repo'; mkdir d; for i in $(seq 30); do echo $i > d/$i; done")
    run(git + "add . && " + git + "commit -qm one && " + git + "checkout -qb other")
    run(f"cd '{files.files}/repo'; echo changed > d/3; rm d/4")
    assert run(git + "status --short").stdout == " M d/3\n D d/4\n"
    run(git + "commit -qam two && " + git + "checkout -q -")
    assert (files.files / "repo/d/3").read_text() == "3\n" and (files.files / "repo/d/4").exists()
    run(git + "gc -q && " + git + "fsck && " + git + "checkout -q other")
    assert run(git + "status --short").stdout == "" and (files.files / "repo/d/3").read_text() == "changed\n"


@pytest.mark.skipif(not shutil.which("make") or not shutil.which("gcc"), reason="there is no compiler")
def test_make(files):
    (files.files / "p.c").write_text('#include <stdio.h>\nint main(void) { puts("built"); return 0; }\n')
    (files.files / "Makefile").write_text("p: p.o\n\tgcc -o $@ $^\np.o: p.c\n\tgcc -c $<\n")
    run = files.mount.sh
    run(f"make -sC '{files.files}'")
    assert run(f"make -C '{files.files}'").stdout.count("up to date") == 1
    assert run(f"'{files.files}/p'").stdout == "built\n" and files.run("./p") == ("built\n", 0)
    (files.files / "p.c").write_text('#include <stdio.h>\nint main(void) { puts("again"); return 0; }\n')
    run(f"make -sC '{files.files}'")
    assert files.run("./p") == ("again\n", 0)


def test_atomic_save(files):
    """As editors do it: a new file over the old one, or the old one kept beside it."""
    path = files.files / "f"
    for i in range(20):
        (files.files / ".f.swp").write_text(f"version {i}")
        os.replace(files.files / ".f.swp", path)
        assert path.read_text() == f"version {i}"
        if i % 5 == 0:
            assert files.run("cat f; ls -A") == (f"version {i}f\n", 0)
    os.rename(path, files.files / "f~")
    path.write_text("new")
    os.unlink(files.files / "f~")
    assert files.run("cat f; ls -A") == ("newf\n", 0)


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_sqlite(files, journal):
    db = sqlite3.connect(files.files / "db", isolation_level=None)
    assert db.execute(f"PRAGMA journal_mode={journal}").fetchone()[0] == journal.lower()
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT)")
    for i in range(20):
        db.execute("INSERT INTO t VALUES (?, ?)", (i, "x" * i))
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, ?)", ((i, "y" * 50) for i in range(20, 2000)))
    db.execute("COMMIT")
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()
    assert files.run("""python3 -c 'import sqlite3; print(sqlite3.connect("db").execute("SELECT count(*), sum(n) FROM t").fetchone())'""") \
        == ("(2000, 1999000)\n", 0)


def test_calls_of_files(files):
    d = files.files
    fd = os.open(d / "f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
    fails(errno.EEXIST, os.open, d / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert os.pwrite(fd, b"x" * 5000, 100_000) == 5000 and os.fstat(fd).st_size == 105_000
    assert os.pread(fd, 10, 99_995) == b"\0" * 5 + b"x" * 5
    os.ftruncate(fd, 7)
    assert os.fstat(fd).st_size == 7 and os.pread(fd, 100, 0) == b"\0" * 7
    os.fchmod(fd, 0o600)
    os.unlink(d / "f")
    assert os.pwrite(fd, b"still", 0) == 5 and os.pread(fd, 5, 0) == b"still" and os.fstat(fd).st_nlink == 0
    os.fsync(fd)
    os.close(fd)
    fails(errno.ENOENT, os.stat, d / "f")
    with open(d / "log", "ab", buffering=0) as log:
        for i in range(5):
            log.write(b"%d\n" % i)
            assert files.run(f"echo job {i} >> log")[1] == 0
    assert (d / "log").read_text() == "".join(f"{i}\njob {i}\n" for i in range(5))
    os.link(d / "log", d / "log2")
    assert os.stat(d / "log").st_nlink == 2 and os.stat(d / "log").st_ino == os.stat(d / "log2").st_ino
    fails(errno.EISDIR, open, d, "w")
    os.mkdir(d / "dir", 0o1750)
    assert stat.S_IMODE(os.stat(d / "dir").st_mode) == 0o1750
    (d / "dir/x").write_text("x")
    fails(errno.ENOTEMPTY, os.rmdir, d / "dir")
    fails(errno.EXDEV, os.rename, d / "dir", files / "dir")
    fails(errno.EXDEV, os.link, d / "log", files / "log")
    fails(errno.EPERM, os.mknod, d / "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    fails(errno.ENAMETOOLONG, open, d / ("x" * 256), "w")
    os.mkfifo(d / "fifo")
    assert stat.S_ISFIFO(os.stat(d / "fifo").st_mode)
    os.statvfs(d)
    fails(errno.EBUSY, os.rmdir, files / "root")


def test_other_names_of_a_file(files):
    """They show a change at once, also while a listing that was asked for before brings one of them."""
    d = files.files / "d"
    files.run("mkdir -p d/sub; cd d/sub; for i in $(seq 300); do echo > f$i; done; echo hi > ../x; ln ../x y")
    for i in range(20):
        assert files.run("true")[1] == 0  # nothing that is known is believed any more
        lister = threading.Thread(target=os.listdir, args=(d / "sub",))
        lister.start()
        os.chmod(d / "x", 0o600 + i % 8)
        assert stat.S_IMODE(os.lstat(d / "sub/y").st_mode) == 0o600 + i % 8
        lister.join()
        assert stat.S_IMODE(os.lstat(d / "sub/y").st_mode) == 0o600 + i % 8


def test_other_names_of_a_fifo(files):
    os.mkfifo(files.files / "f")
    os.link(files.files / "f", files.files / "g")
    assert stat.S_ISFIFO(os.lstat(files.files / "f").st_mode) and stat.S_ISFIFO(os.lstat(files.files / "g").st_mode)
    assert files.run("stat -c %F:%h f g") == ("fifo:2\nfifo:2\n", 0)


def test_names_that_are_too_long(files):
    """In a directory of which everything is known, too."""
    os.mkdir(files.files / "d")
    for call in (os.stat, os.unlink, os.rmdir, os.mkdir, lambda path: os.truncate(path, 0), lambda path: os.rename(path, files.files / "d/a")):
        fails(errno.ENAMETOOLONG, call, files.files / "d" / ("a" * 256))
    fails(errno.ENOENT, os.stat, files.files / "d" / ("a" * 255))


def test_rename_onto_another_name_of_the_file(files):
    """That does nothing, so the old name stays; and nobody is told that it is gone."""
    d = files.files / "d"
    d.mkdir()
    (d / "a").write_text("x")
    os.link(d / "a", d / "b")
    assert sorted(os.listdir(d)) == ["a", "b"]
    os.rename(d / "a", d / "b")
    assert os.stat(d / "a").st_ino == os.stat(d / "b").st_ino and sorted(os.listdir(d)) == ["a", "b"]
    os.rename(d / "b", d / "c")
    fails(errno.ENOENT, os.stat, d / "b")
    assert sorted(os.listdir(d)) == ["a", "c"]


def test_mmap_and_locks(files):
    path = files.files / "m"
    path.write_bytes(b"a" * 10_000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as map:
        map[5000:5005] = b"mmap!"
        map.flush()
    assert files.run("dd if=m bs=1 skip=5000 count=5 2>/dev/null") == ("mmap!", 0)
    with open(path) as one, open(path) as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        fails(errno.EAGAIN, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_large_directories(files):
    assert files.run("mkdir many; cd many; seq 5000 | xargs touch")[1] == 0
    assert sorted(os.listdir(files.files / "many"), key=int) == [str(i) for i in range(1, 5001)]
    with os.scandir(files.files / "many") as found:
        assert sum(one.stat().st_size == 0 for one in found) == 5000
    assert files.mount.sh(f"find '{files.files}/many' -name '*99' | wc -l").stdout == "50\n"
    assert files.mount.sh(f"rm -r '{files.files}/many' && ls -A '{files.files}'").stdout == ""


def test_large_files(files, tmp_path):
    data = os.urandom(3_000_000) * 4
    (tmp_path / "big").write_bytes(data)
    files.mount.sh(["cp", str(tmp_path / "big"), str(files.files / "big")])
    inside = files.run("sha256sum < big; stat -c %s big")[0].split()
    here = subprocess.run(["sha256sum"], input=data, capture_output=True).stdout.decode().split()
    assert inside[0] == here[0] and inside[2] == str(len(data))
    assert (files.files / "big").read_bytes() == data
    with open(files.files / "big", "rb") as file:
        for offset in (11_999_999, 5, 6_000_001, 100_000, 12_000_000):
            file.seek(offset)
            assert file.read(50_000) == data[offset:offset + 50_000]


def test_what_a_job_writes_is_seen(files):
    """By the first open and the first stat after its exit code; the same size and the same second, too."""
    path = files.files / "f"
    path.write_text("0000")
    for i in range(1, 100):
        text = f"{i:04}"
        assert os.stat(path).st_size == 4
        if i % 3 == 0:
            assert files.run(f"printf {text} > f; printf xx > g{i}")[1] == 0
        elif i % 3 == 1:
            assert files.run(f"printf {text} > f2; mv f2 f; rm -f g{i - 1}; printf xx > g{i}")[1] == 0
        else:
            assert files.run(f"printf '{text}' | dd of=f conv=notrunc 2>/dev/null; printf xx > g{i}")[1] == 0
        assert path.read_text() == text
        assert os.stat(files.files / f"g{i}").st_size == 2
        if i % 3 == 1 and i > 1:
            fails(errno.ENOENT, os.stat, files.files / f"g{i - 1}")


def test_not_listed(files):
    """What walks a lease asks nothing of the environment."""
    files.run("true")
    os.stat(files / "root/etc")
    asked = files.mount.stats()["file_calls_total"]
    assert asked > 0
    for tool in ("find t1", "du -s t1", "grep -r x t1/jobs", "tar -c t1 --ignore-failed-read > /dev/null"):
        assert "root" not in files.mount.sh(tool, check=False).stdout
    assert files.mount.stats()["file_calls_total"] == asked
    files.mount.sh("rm -rf t1")
    assert not files.path.exists()


def test_without_a_helper(plain):
    plain.run("true")
    fails(errno.EOPNOTSUPP, os.listdir, plain / "root")
    assert "no helper" in plain.read("error")
    assert plain.run("echo on") == ("on\n", 0)


def test_a_release_ends_what_waits(mount):
    mp = mount(max=1)
    if not mp.settings.helper:
        pytest.skip("without a helper")
    mp.lease("first").read("environment")
    second, errors = mp.lease("second"), []

    def look():
        try:
            os.listdir(second / "root")
        except OSError as e:
            errors.append(e.errno)

    thread = threading.Thread(target=look)
    thread.start()
    while not mp.stats()["reads_waiting"]:
        time.sleep(0.01)
    second.release()
    thread.join()
    assert errors in ([errno.ESTALE], [errno.ENOENT])


def test_a_kill_ends_what_waits(mount):
    mp = mount(max=1)
    if not mp.settings.helper:
        pytest.skip("without a helper")
    mp.lease("first").read("environment")
    second = mp.lease("second")
    with subprocess.Popen(["ls", str(second / "root/")]) as ls:
        while not mp.stats()["reads_waiting"]:
            time.sleep(0.01)
        ls.kill()
        ls.wait(5)
    assert ls.returncode == -9
    assert os.listdir(second.path)
