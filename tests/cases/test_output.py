# SPDX-License-Identifier: MIT
"""output, stdout, stderr: waiting, offsets, order, sizes, and large amounts."""

import errno
import hashlib
import os
import shutil
import subprocess
import time
import threading

import pytest

import processes
from test_lease import fails

GIB = 1 << 30


@pytest.mark.small
def test_streams(lease):
    lease.submit("echo out; echo err >&2; echo more; exit 7")
    assert lease.read("exit_code") == "7\n"
    assert lease.read("stdout") == "out\nmore\n"
    assert lease.read("stderr") == "err\n"
    assert sorted(lease.read("output").split()) == ["err", "more", "out"]
    for name, size in (("output", 13), ("stdout", 9), ("stderr", 4)):
        assert (lease / name).stat().st_size == size
        assert (lease / "jobs/1" / name).stat().st_size == size


def test_no_job_no_wait(lease):
    for name in ("output", "stdout", "stderr", "exit_code"):
        assert lease.read(name) == ""
        assert (lease / name).stat().st_size == 0


def test_silent_job(lease):
    assert lease.run("true") == ("", 0)
    assert lease.read("stdout") == lease.read("stderr") == ""


def test_output_comes_as_it_is_made(lease):
    """A line can be read while the job waits for more input that depends on it."""
    lease.submit("mkfifo f; echo one; read x < f; echo two; read x < f; echo three")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(100) == b"one\n"
        assert (lease / "output").stat().st_size == 4
        second = os.open(lease / "output", os.O_RDONLY)
        assert os.read(second, 100) == b"one\n"
        lease.submit("true")  # waits its turn
        assert lease.status()["queued"] == "1"
        lease.write("ctl", "kill\n")
        assert output.read(100) == b""
        assert os.read(second, 100) == b""
        os.close(second)


def test_order_of_streams(lease):
    """Bytes of both streams stand in output in the order in which they came. Each line is written once the one before is read."""
    lease.submit("n=0; trap 'n=$((n+1))' USR1; for i in 1 2 3 4 5 6 7 8; do echo $i >&$((i % 2 + 1));"
                 "until [ $n = $i ]; do :; done; done")
    with open(lease / "output", "rb", buffering=0) as output:
        for i in range(1, 9):
            assert output.read(100) == b"%d\n" % i
            lease.write("ctl", "signal USR1\n")
        assert output.read(100) == b""
    assert lease.read() == "1\n2\n3\n4\n5\n6\n7\n8\n"
    assert lease.read("stdout") == "2\n4\n6\n8\n"
    assert lease.read("stderr") == "1\n3\n5\n7\n"


@pytest.mark.local
def test_order_of_fast_streams(lease):
    """The same without waiting, where a helper reads both."""
    lease.submit("for i in $(seq 1000); do echo a$i; echo b$i >&2; echo c$i; done")
    right = "".join(f"a{i}\nb{i}\nc{i}\n" for i in range(1, 1001)).splitlines()
    lines = lease.read().splitlines()
    assert sorted(lines) == sorted(right)
    assert sum(lines[i:i + 3] == right[i:i + 3] for i in range(0, 3000, 3)) >= 999


def test_offsets_in_mixed_output(lease):
    """Any offset of output reads the same bytes, across many turns of the streams."""
    lease.submit("for i in $(seq 300); do printf 'o%04d' $i; printf 'eeeee%04d' $i >&2; done")
    lease.read("exit_code")
    whole = (lease / "output").read_bytes()
    assert len(whole) == 300 * 14
    with open(lease / "output", "rb", buffering=0) as output:
        for at in range(0, len(whole) + 20, 7):
            assert os.pread(output.fileno(), 11, at) == whole[at:at + 11]
    assert (lease / "stdout").read_bytes() == b"".join(b"o%04d" % i for i in range(1, 301))
    assert (lease / "stderr").read_bytes() == b"".join(b"eeeee%04d" % i for i in range(1, 301))


@pytest.mark.small
def test_offsets(lease):
    lease.run("printf 0123456789")
    fd = os.open(lease / "output", os.O_RDONLY)
    assert os.pread(fd, 3, 4) == b"456"
    assert os.read(fd, 2) == b"01"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 2
    assert os.lseek(fd, -2, os.SEEK_END) == 8
    assert os.read(fd, 10) == b"89"
    assert os.read(fd, 10) == b""
    assert os.pread(fd, 10, 10) == b"" and os.pread(fd, 10, 1 << 40) == b""
    assert os.lseek(fd, 0, os.SEEK_SET) == 0
    assert os.read(fd, 100) == b"0123456789"
    os.close(fd)
    done = lease.mount.sh("tail -c 3 t1/output; echo; head -c 2 t1/output; echo; dd if=t1/output bs=1 skip=5 count=2 status=none")
    assert done.stdout == "789\n01\n56"


def test_open_binds_to_the_newest_job(lease):
    lease.run("echo one")
    old = open(lease / "output", "rb", buffering=0)
    code = open(lease / "exit_code", "rb", buffering=0)
    lease.run("echo two; exit 2")
    assert old.read() == b"one\n" and code.read() == b"0\n"
    old.close(), code.close()
    assert lease.read() == "two\n" and lease.read("exit_code") == "2\n"
    assert lease.read("jobs/1/output") == "one\n" and lease.read("jobs/latest/output") == "two\n"


def test_bound_before_any_job(lease):
    """Opened before the first job, it belongs to none."""
    with open(lease / "output", "rb", buffering=0) as output:
        lease.run("echo late")
        assert output.read() == b""


def test_two_waiting_readers(mp):
    lease = mp.lease()
    lease.submit("sleep 0.3; seq 1000")
    done = mp.sh("for i in 1 2 3 4 5 6; do cat t1/output | cksum & done; wait")
    expected = subprocess.run("seq 1000 | cksum", shell=True, stdout=subprocess.PIPE, text=True).stdout
    assert done.stdout == expected * 6


def test_read_into_small_buffers(lease):
    lease.submit("seq 2000")
    got = b""
    with open(lease / "output", "rb", buffering=0) as output:
        while chunk := output.read(7):
            got += chunk
    assert got == "".join(f"{i}\n" for i in range(1, 2001)).encode()


def test_copies_are_true(lease, tmp_path):
    """Copies that trust st_size, and copies that do not."""
    lease.run("seq 50000; seq 100 >&2")
    whole = (lease / "stdout").read_bytes()
    assert whole == "".join(f"{i}\n" for i in range(1, 50001)).encode()
    shutil.copy(lease / "stdout", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == whole
    shutil.copytree(lease.path, tmp_path / "tree", symlinks=True)
    assert (tmp_path / "tree/jobs/1/stdout").read_bytes() == whole
    with open(lease / "stdout", "rb") as source, open(tmp_path / "sent", "wb") as target:
        at = 0
        while sent := os.sendfile(target.fileno(), source.fileno(), at, 1 << 20):
            at += sent
    assert (tmp_path / "sent").read_bytes() == whole
    with open(lease / "stdout", "rb") as source, open(tmp_path / "ranged", "wb") as target:
        try:
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 20):
                pass
            assert (tmp_path / "ranged").read_bytes() == whole
        except OSError as error:
            assert error.errno in (errno.EXDEV, errno.EOPNOTSUPP)  # refused, and not an empty copy


def test_sendfile_does_not_wait(lease, tmp_path):
    """The kernel itself ends sendfile and splice at st_size: from a running job they copy what is there by then."""
    lease.submit("echo one; sleep 1000")
    with open(lease / "output", "rb", buffering=0) as output, open(tmp_path / "copy", "w+b") as copy:
        assert os.sendfile(copy.fileno(), output.fileno(), 0, 100) == 0 or (lease / "output").stat().st_size == 4
        assert output.read(100) == b"one\n"
        assert (lease / "output").stat().st_size == 4
        copy.truncate(0), copy.seek(0)
        assert os.sendfile(copy.fileno(), output.fileno(), 0, 100) == 4
        assert os.sendfile(copy.fileno(), output.fileno(), 4, 100) == 0
        lease.write("ctl", "kill\n")
    assert (tmp_path / "copy").read_bytes() == b"one\n"


def test_sendfile_of_what_grows(lease, tmp_path):
    """Nothing is cached: neither old sizes nor bytes that never existed."""
    lease.submit("for i in $(seq 150); do echo line $i of what grows; sleep 0.002; done")
    shown = 0
    while lease.status()["running"] != "-":
        with open(lease / "output", "rb", buffering=0) as output, open(tmp_path / "copy", "wb") as copy:
            size = os.stat(lease / "output").st_size
            while os.sendfile(copy.fileno(), output.fileno(), None, 1 << 20):
                pass
        data = (tmp_path / "copy").read_bytes()
        whole = "".join(f"line {i} of what grows\n" for i in range(1, 151)).encode()
        assert whole.startswith(data) and len(data) >= min(size, shown)
        shown = len(data)


@pytest.mark.limit(120)
def test_a_gibibyte(mp, settings):
    """Read back byte for byte by two readers at once, within little memory. Over Modal test_modal.py has one."""
    size = GIB if settings.slow == 1 and settings.provider == "local" and not settings.faults else GIB // 16
    lease = mp.lease()
    lease.submit(f"seq 200000000 | head -c {size}")
    sums = [None, None]

    def reader(i):
        digest = hashlib.blake2b()
        with open(lease / "output", "rb", buffering=0) as output:
            while chunk := output.read(1 << 20):
                digest.update(chunk)
        sums[i] = digest.hexdigest()

    threads = [threading.Thread(target=reader, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    expected = hashlib.blake2b()
    with subprocess.Popen(f"seq 200000000 | head -c {size}", shell=True, stdout=subprocess.PIPE) as local:
        while chunk := local.stdout.read(1 << 20):
            expected.update(chunk)
    for thread in threads:
        thread.join()
    assert sums == [expected.hexdigest()] * 2
    assert (lease / "output").stat().st_size == size
    assert lease.read("exit_code") == "0\n" and lease.read("error") == "ok\n"
    memory = {line.split(":")[0]: int(line.split()[1]) for line in
              processes.read(f"/proc/{mp.pid}/status").splitlines() if line.startswith(("VmHWM", "VmRSS"))}
    print(f"daemon: VmRSS {memory['VmRSS'] >> 10} MiB, at most {memory['VmHWM'] >> 10} MiB")
    assert memory["VmHWM"] < 64 << 10 or settings.slow > 1  # a sanitizer keeps what is freed


def test_output_max(mount):
    mp = mount(output_max="1M")
    lease = mp.lease()
    lease.submit("head -c 1048576 /dev/zero | tr '\\0' x")
    assert len(lease.read()) == 1 << 20 and lease.read("exit_code") == "0\n" and lease.read("error") == "ok\n"
    lease.submit("yes & yes >&2")
    output = lease.read()
    assert len(output) <= 1 << 20 and set(output) == {"y", "\n"}
    assert lease.read("exit_code") == "137\n"
    assert "output_max" in lease.read("error") and "1048576" in lease.read("error")
    assert lease.run("for p in /proc/[0-9]*; do cat $p/comm; done | grep -c yes")[0] == "0\n"


def test_output_max_of_a_job_that_ends_by_itself(mount):
    """It may end before it is killed, but its output was cut anyway."""
    lease = mount(output_max="1M").lease()
    for command in ("head -c 1048577 /dev/zero | tr '\\0' x", "head -c 1048576 /dev/zero; echo >&2"):
        lease.submit(command)
        assert len(lease.read()) == 1 << 20 and lease.read("exit_code") == "137\n"
        assert "output_max" in lease.read("error")


def test_quota(mount):
    """A job over a quota ends as one over output_max, others go on, and room that comes back can be used."""
    mp = mount(spool_max="1M", max=2)
    quiet, loud = mp.lease("quiet"), mp.lease("loud")
    quiet.submit("echo begun; exec sleep 60")
    with open(quiet / "output", "rb", buffering=0) as output:
        assert output.read(100) == b"begun\n"
    loud.submit("yes & yes >&2")
    output = loud.read()
    assert len(output) < 1 << 20 and set(output) == {"y", "\n"}
    assert loud.read("exit_code") == "137\n"
    assert "spool_max, 1048576 bytes" in loud.read("error") and "rmdir" in loud.read("error")
    assert mp.stats()["spool_bytes"] <= mp.stats()["spool_max_bytes"] == 1 << 20
    assert "spool         1.0 MiB of 1.0 MiB\n" in (mp / ".pool/status").read_text()
    assert loud.run("true") == ("", 0)  # what keeps nothing runs
    assert loud.run("echo") == ("", 137)
    assert quiet.status()["running"] == "1"
    loud.release()
    again = mp.lease("again")
    assert again.run("head -c 100000 /dev/zero | tr '\\0' x") == ("x" * 100000, 0)
    assert again.read("error") == "ok\n"
    quiet.write("ctl", "kill")
    assert quiet.read("exit_code") == "137\n" and quiet.read("error") == "killed through ctl\n"


def test_quota_of_what_is_written(mount):
    """Input and long commands are refused where there is no room; short commands need none."""
    lease = mount(spool_max_per_user="100K", max=1).lease()
    with open(lease / "stdin", "wb", buffering=0) as stdin:
        assert stdin.write(b"x" * 90000) == 90000
        with pytest.raises(OSError) as error:
            stdin.write(b"x" * 20000)
    assert error.value.errno == errno.EDQUOT
    assert lease.read("error").startswith("stdin: refused: it would pass spool_max_per_user, 102400 bytes")
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        with pytest.raises(OSError) as error:
            cmd.write(b"true #" + b"x" * 20000)
    assert error.value.errno == errno.EDQUOT
    assert lease.read("error").startswith("cmd: refused: it would pass spool_max_per_user") and os.listdir(lease / "jobs") == []
    assert lease.run("wc -c") == ("90000\n", 0)  # what was taken is there
    lease.write("stdin", b"y" * 90000)  # and what was used is not
    assert lease.run("wc -c") == ("90000\n", 0)
    assert lease.run("true #" + "x" * 20000) == ("", 0)


def test_many_bytes_from_many_jobs(mp):
    """Spools do not mix."""
    leases = [mp.lease(f"t{i}") for i in range(4)]
    for i, lease in enumerate(leases):
        lease.submit(f"for n in $(seq 20000); do echo {i} $n; done")
    for i, lease in enumerate(leases):
        assert lease.read() == "".join(f"{i} {n}\n" for n in range(1, 20001))


def test_output_of_background_processes(lease):
    """What a background process writes after the end of the job belongs to no job and blocks nothing."""
    output, code = lease.run("(sleep 0.4; echo late; echo late > mark) & echo now")
    assert (output, code) == ("now\n", 0)
    assert lease.run("until test -e mark; do sleep 0.05; done; cat mark") == ("late\n", 0)
    assert lease.read("jobs/1/output") == "now\n"


def test_directories_are_no_streams(lease):
    fails(errno.EISDIR, open, lease / "jobs", "rb")
    fails(errno.EINVAL, os.readlink, lease / "cmd")


def test_large_output_is_removed_in_pieces(mount, tmp_path):
    """Freeing a gigabyte at once would delay all others. A second name of the file shows that it gets shorter."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.submit("head -c 50000000 /dev/zero")
    assert lease.read("exit_code") == "0\n"
    watched = tmp_path / "watched"
    os.link(next(mp.state.rglob("*.stdout")), watched)
    assert watched.stat().st_size == 50_000_000
    lease.release()
    while watched.stat().st_size > 0:
        time.sleep(0.01)
    watched.unlink()
    assert list(mp.state.rglob("*.stdout")) == []
