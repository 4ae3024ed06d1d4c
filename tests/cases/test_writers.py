# SPDX-License-Identifier: MIT
"""What programs do to a file besides writing it: truncate it to its size, set mode and times, replace another file by it."""

import errno
import os
import shutil
import subprocess

import pytest

from test_cmd import jobs
from test_lease import FILES, fails


def python(body):
    return ["python3", "-c", f"import os, shutil\n{body}"]


def scp_sink(path, data):
    """The far end of `scp -O`: the header of a file, its bytes, the end."""
    return subprocess.run(["scp", "-t", path], input=b"C0644 %d cmd\n%s\0" % (len(data), data), capture_output=True)


# ftruncate: to what was written

CUTTERS = {
    "python": python("f = open('t1/cmd', 'w'); f.write('echo hi\\n'); f.truncate(); f.close()"),
    "python r+": python("f = os.open('t1/cmd', os.O_RDWR); os.write(f, b'echo hi\\n'); os.ftruncate(f, 8); os.close(f)"),
    "python before": python("f = open('t1/cmd', 'w'); f.truncate(0); f.write('echo hi\\n'); f.close()"),
    "node": ["node", "-e", "const f = require('fs'), d = f.openSync('t1/cmd', 'w'); f.writeSync(d, 'echo '); f.writeSync(d, 'hi\\n');"
             "f.ftruncateSync(d, 8); f.closeSync(d)"],
    "node promises": ["node", "-e", "(async () => { const h = await require('fs').promises.open('t1/cmd', 'w');"
                      "await h.write('echo hi\\n'); await h.truncate(8); await h.close() })()"],
    "rsync --inplace": ["rsync", "--inplace", "../script", "t1/cmd"],
    "rsync --inplace -t": ["rsync", "--inplace", "-tp", "../script", "t1/cmd"],
    "dd": ["bash", "-c", "echo 'echo hi' | dd of=t1/cmd bs=3 conv=fsync status=none"],
    "perl": ["perl", "-e", "open F, '+<', 't1/cmd' or die; print F \"echo hi\\n\"; F->flush; truncate F, tell F or die $!; close F or die"],
}


@pytest.mark.parametrize("tool", sorted(CUTTERS))
def test_cut_to_what_was_written(lease, need, tool):
    need(CUTTERS[tool][0])
    (lease.mount.directory / "script").write_text("echo hi\n")
    lease.mount.sh(CUTTERS[tool])
    assert lease.read() == "hi\n" and jobs(lease) == [1]
    (lease.mount.directory / "script").unlink()


@pytest.mark.small
def test_scp(lease, need):
    need("scp")
    done = scp_sink(lease / "cmd", b"echo hi\n")
    assert (done.returncode, done.stdout) == (0, b"\0\0\0"), done
    assert lease.read() == "hi\n" and jobs(lease) == [1]


@pytest.mark.small
@pytest.mark.parametrize("size", [0, 3, 8, 1 << 20])
def test_cut_to_something_else(lease, size):
    """It fails and discards the command; a second try runs it once."""
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        cmd.write(b"echo wrong")
        fails(errno.EINVAL, os.ftruncate, cmd.fileno(), size)
        fails(errno.EINVAL, cmd.write, b"echo more")
        fails(errno.EINVAL, os.ftruncate, cmd.fileno(), 10)
        os.fsync(cmd.fileno())
    assert jobs(lease) == []
    assert lease.read("error") == f"cmd: refused: cut to {size} bytes, where 10 were written\n"
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        cmd.write(b"echo right")
        os.ftruncate(cmd.fileno(), 10)
        os.ftruncate(cmd.fileno(), 10)
    assert lease.read() == "right\n" and jobs(lease) == [1]
    assert lease.read("error") == "ok\n"


def test_dd_with_a_hole(lease):
    done = lease.mount.sh("echo 'echo hi' | dd of=t1/cmd bs=512 seek=1", check=False)
    assert done.returncode == 1 and "Invalid argument" in done.stderr
    assert jobs(lease) == []


def test_cut_behind_the_submission(lease):
    """Bytes that fsync or a read submitted count as written, too."""
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        cmd.write(b"echo one")
        os.fsync(cmd.fileno())
        os.ftruncate(cmd.fileno(), 8)
        cmd.write(b"echo second")
        os.ftruncate(cmd.fileno(), 19)
    assert lease.read() == "second\n" and jobs(lease) == [1, 2]
    fd = os.open(lease / "cmd", os.O_RDWR)
    os.write(fd, b"echo third")
    assert os.read(fd, 10) == b"third\n"
    os.ftruncate(fd, 10)
    fails(errno.EINVAL, os.ftruncate, fd, 6)
    os.close(fd)
    assert jobs(lease) == [1, 2, 3]


@pytest.mark.small
def test_cut_settings(lease):
    for name, value in ("env", "A=1\n"), ("cwd", "sub\n"), ("timeout", "77\n"):
        before = lease.read(name)
        with open(lease / name, "r+") as file:
            assert file.read() == before
            file.seek(0), file.write(value), file.truncate()
        assert lease.read(name) == value
        with open(lease / name, "r+") as file:
            file.truncate(0), file.write(value)
        assert lease.read(name) == value
        with open(lease / name, "wb", buffering=0) as file:
            file.write(b"9")
            fails(errno.EINVAL, file.truncate, 0)
            fails(errno.EINVAL, file.write, b"9")
        assert lease.read(name) == value
        assert lease.read("error") == f"{name}: refused: cut to 0 bytes, where 1 were written\n"
        with open(lease / name, "r+") as file:
            file.truncate(0)
        assert lease.read(name) == before
        lease.write(name, value)
        os.truncate(lease / name, 0)
        assert lease.read(name) == before
        fails(errno.EINVAL, os.truncate, lease / name, 1)


def test_settings_by_fsync(lease):
    """fsync sets what was written by then, and close does not set it again."""
    with open(lease / "env", "wb", buffering=0) as file:
        file.write(b"A=1\n")
        os.fsync(file.fileno())
        assert lease.read("env") == "A=1\n"
        file.write(b"B=2\n")
        os.fsync(file.fileno())
        assert lease.read("env") == "A=1\nB=2\n"
        lease.write("env", "C=3\n")
    assert lease.read("env") == "C=3\n"


@pytest.mark.small
def test_cut_stdin(lease):
    """stdin grows over several opens, and its size is that of all bytes. After a refused ftruncate it is empty."""
    def add(data, size, *flags):
        fd = os.open(lease / "stdin", os.O_WRONLY | sum(flags))
        try:
            os.write(fd, data)
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    add(b"one\n", 4, os.O_TRUNC)
    add(b"two\n", 8, os.O_APPEND)
    assert lease.read("stdin") == "one\ntwo\n"
    fails(errno.EINVAL, add, b"three\n", 6)
    assert lease.read("stdin") == "" and "cut to 6 bytes, where 14 were" in lease.read("error")
    add(b"three\n", 6)
    with open(lease / "stdin", "r+b", buffering=0) as file:
        file.truncate(0), file.write(b"four\n")
    os.truncate(lease / "stdin", 0)
    lease.write("stdin", "five\n")
    assert lease.run("cat") == ("five\n", 0)


def test_cut_ctl(mp):
    """Lines are obeyed as they are written; nothing is left of an incomplete one."""
    lease = mp.lease()
    lease.submit("sleep 1000")
    lease.until_running()
    with open(lease / "ctl", "wb", buffering=0) as ctl:
        ctl.write(b"signal TERM\nki")
        fails(errno.EINVAL, ctl.truncate, 3)
        fails(errno.EINVAL, ctl.write, b"ll\n")
    assert lease.read("exit_code") == "143\n" and "ctl: refused" in lease.read("error")
    with open(mp / ".pool/ctl", "wb", buffering=0) as ctl:
        ctl.write(b"max 7\n")
        ctl.truncate(6)
    assert mp.stats()["environments_max"] == 7


def test_cut_of_the_dead(mp):
    """An open file outlives its lease, and ftruncate applies to that file."""
    lease = mp.lease()
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        cmd.write(b"echo hi")
        lease.release()
        mp.lease()
        cmd.truncate(7)
        fails(errno.EINVAL, cmd.truncate, 0)


# modes and times, set behind a copy

COPIERS = {
    "shutil.copy": python("shutil.copy('../script', 't1/cmd')"),
    "shutil.copy2": python("shutil.copy2('../script', 't1/cmd')"),
    "cp -p": ["cp", "-p", "../script", "t1/cmd"],
    "cp -a": ["cp", "-a", "../script", "t1/cmd"],
    "tar --overwrite": ["bash", "-c", "tar -C .. -cf ../a.tar --transform=s/script/cmd/ script && tar --overwrite -C t1 -xpf ../a.tar; s=$?; rm ../a.tar; exit $s"],
    "rsync -a": ["rsync", "-a", "--inplace", "../script", "t1/cmd"],
    "perl": ["perl", "-MFile::Copy=cp", "-e", "cp('../script', 't1/cmd') or die $!; chmod 0755, 't1/cmd' or die $!; utime 1, 1, 't1/cmd' or die $!"],
    "busybox": ["busybox", "cp", "-p", "../script", "t1/cmd"],
}


@pytest.mark.parametrize("tool", sorted(COPIERS))
def test_copies_with_modes_and_times(lease, need, tool):
    """The tools report success, and the command ran once."""
    need(COPIERS[tool][0])
    script = lease.mount.directory / "script"
    script.write_text("echo hi\n")
    script.chmod(0o755)
    os.utime(script, (1, 1))
    done = lease.mount.sh(COPIERS[tool])
    assert done.stderr == ""
    assert lease.read() == "hi\n" and jobs(lease) == [1]
    assert (lease / "cmd").stat().st_mode & 0o7777 == 0o600
    script.unlink()


@pytest.mark.small
def test_modes_stay(mp):
    lease = mp.lease()
    lease.run("true")
    for path in (lease.path, lease / "cmd", lease / "output", lease / "jobs", lease / "jobs/1", lease / "jobs/1/output",
                 mp / ".pool", mp / ".pool/stats", mp.path):
        before = path.stat()
        os.chmod(path, 0o7777)
        os.chown(path, before.st_uid, before.st_gid)
        os.utime(path, (1, 1))
        after = path.stat()
        assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid) and after.st_mtime != 1
        fails(errno.EPERM, os.chown, path, 12345, -1)
        fails(errno.EPERM, os.chown, path, -1, 12345)


# a file put in place of another: unlink, and create

REPLACERS = {
    "mv": ["mv", "../script", "t1/cmd"],
    "mv into": ["mv", "-f", "../cmd", "t1"],
    "install": ["install", "-m", "755", "../script", "t1/cmd"],
    "cp --remove-destination": ["cp", "--remove-destination", "-p", "../script", "t1/cmd"],
    "rm": ["bash", "-c", "rm t1/cmd && cat ../script > t1/cmd"],
    "find -delete": ["bash", "-c", "find t1 -maxdepth 1 -type f -delete && cat ../script > t1/cmd"],
    "tar": ["bash", "-c", "tar -C .. -cf - cmd | tar -C t1 -xf -"],
    "tar --unlink-first": ["bash", "-c", "tar -C .. -cf - cmd | tar -C t1 --unlink-first -xf -"],
    "tar --recursive-unlink": ["bash", "-c", "tar -C .. -cf - cmd | tar -C t1 --recursive-unlink -xf -"],
    "cpio": ["bash", "-c", "cd ..; echo cmd | cpio -o 2> /dev/null | (cd mnt/t1; cpio -iu --quiet)"],
    "shutil.move": python("shutil.move('../script', 't1/cmd')"),
    "python": python("os.unlink('t1/cmd'); open('t1/cmd', 'x').write(open('../script').read())"),
    "node": ["node", "-e", "const f = require('fs'); f.rmSync('t1/cmd'); f.writeFileSync('t1/cmd', 'echo hi\\n', {flag: 'wx'})"],
    "java": ["java", "../Replace.java"],
    "busybox": ["busybox", "mv", "../script", "t1/cmd"],
}
REPLACE_JAVA = """
import java.nio.file.*;
class Replace {
    public static void main(String[] args) throws Exception {
        Files.copy(Path.of("../script"), Path.of("t1/cmd"), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.COPY_ATTRIBUTES);
    }
}
"""


@pytest.mark.parametrize("tool", sorted(REPLACERS))
def test_replace(lease, need, tool):
    need(REPLACERS[tool][0], *([tool] if tool == "cpio" else []))
    directory = lease.mount.directory
    files = {"script": "echo hi\n", "cmd": "echo hi\n", "Replace.java": REPLACE_JAVA}
    for name, text in files.items():
        (directory / name).write_text(text)
    assert lease.mount.sh(REPLACERS[tool]).stderr == ""
    assert lease.read() == "hi\n" and jobs(lease) == [1]
    assert set(os.listdir(lease.path)) == FILES
    for name in files:
        (directory / name).unlink(missing_ok=True)


@pytest.mark.small
@pytest.mark.parametrize("flags", ["", "--unlink-first", "--recursive-unlink", "--overwrite", "--keep-old-files", "--skip-old-files"])
def test_archive_with_our_names(lease, flags, tmp_path):
    """An archive that has a directory where the lease has a file, such as a Go project's cmd/: tar ends, and says what is wrong."""
    (tmp_path / "p/cmd/server").mkdir(parents=True), (tmp_path / "p/cmd/server/main.go").write_text("package main\n")
    (tmp_path / "p/go.mod").write_text("module p\n"), (tmp_path / "p/env").write_text("A=1\n")
    done = lease.mount.sh(f"tar -C {tmp_path}/p -cf - . | tar -C t1 {flags} -xf -", check=False)
    assert done.returncode == 2 and "cmd" in done.stderr and "go.mod: Cannot open: Operation not permitted" in done.stderr
    assert jobs(lease) == []
    assert lease.run("echo fine") == ("fine\n", 0)
    assert set(os.listdir(lease.path)) == FILES
