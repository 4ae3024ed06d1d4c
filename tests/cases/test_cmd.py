# SPDX-License-Identifier: MIT
"""cmd: one open is one command; what may be in it; and the read-write form."""

import concurrent.futures
import errno
import os
import shutil
import subprocess

import pytest

from test_lease import fails

MIB = 1 << 20


def jobs(lease):
    return sorted(int(n) for n in os.listdir(lease / "jobs") if n != "latest")


@pytest.mark.parametrize("script", [
    "{ printf 'echo a'; /bin/true; printf 'b\\n'; } > t1/cmd",
    "exec 3>t1/cmd; printf 'echo ' >&3; /bin/true; exec 4>&3; exec 3>&-; printf ab >&4; exec 4>&-",
    "(printf 'echo '; sh -c 'printf a'; /bin/echo b) > t1/cmd",
    "printf '%s\\n' 'echo \\' 'a\\' 'b' > t1/cmd",
    "printf 'echo ab' >> t1/cmd",
    "printf 'echo ab' | tee t1/cmd > /dev/null",
    "printf 'echo ab' | dd of=t1/cmd bs=1 status=none",
    "printf 'echo ab' | dd of=t1/cmd bs=3 oflag=append conv=notrunc status=none",
    "cat > t1/cmd << END\necho a\\\nb\nEND",
    "cat > t1/cmd <<< 'echo ab'",
])
def test_one_open_one_command(mp, script):
    lease = mp.lease()
    mp.sh(script)
    assert lease.read() == "ab\n"
    assert jobs(lease) == [1]


def test_closed_is_submitted(mount, compiled):
    """The kernel sends RELEASE in the background, a few at a time. The next open must not overtake it."""
    mp = mount(max=1)
    for i in range(200):
        mp.lease(f"t{i}")
    assert mp.sh([compiled("crowd"), "200"]).stdout == "0\n"


@pytest.mark.small
def test_children_that_hold_the_file(mp):
    """The command is complete when the last of them closes it, and not before."""
    lease = mp.lease()
    done = mp.sh("mkfifo ../go; { { read x < ../go; echo 'echo b'; } & echo 'echo a'; } > t1/cmd;"
                 " ls t1/jobs | wc -l; echo > ../go; wait; cat t1/output")
    assert done.stdout.split() == ["0", "a", "b"]
    assert jobs(lease) == [1]


def test_many_writes(lease):
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        for i in range(2000):
            cmd.write(b"echo %d\n" % i)
    assert lease.read() == "".join(f"{i}\n" for i in range(2000))


def test_empty_open_submits_nothing(lease):
    lease.mount.sh(": > t1/cmd; : >> t1/cmd; true < t1/cmd; printf '' > t1/cmd; : <> t1/cmd; touch t1/cmd")
    fd = os.open(lease / "cmd", os.O_WRONLY)
    os.fsync(fd)
    os.close(fd)
    assert jobs(lease) == []
    assert lease.read() == "" and lease.read("exit_code") == "" and lease.read("cmd") == ""


def test_offsets_mean_nothing(lease):
    fd = os.open(lease / "cmd", os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    os.pwrite(fd, b"echo ", 1000)
    os.lseek(fd, 5, os.SEEK_SET)
    os.write(fd, b"ab")
    os.close(fd)
    assert lease.read() == "ab\n"


@pytest.mark.small
def test_fsync_submits(lease):
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        cmd.write(b"echo first")
        assert jobs(lease) == []
        os.fsync(cmd.fileno())
        assert lease.read() == "first\n"
        os.fsync(cmd.fileno())
        assert jobs(lease) == [1]
        cmd.write(b"echo second")
        os.fdatasync(cmd.fileno())
        assert lease.read() == "second\n"
        cmd.write(b"echo third")
    assert lease.read() == "third\n"
    assert jobs(lease) == [1, 2, 3]


def test_nul_is_refused(mp):
    lease = mp.lease()
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        cmd.write(b"echo a\n")
        fails(errno.EINVAL, cmd.write, b"echo b\0c")
        fails(errno.EINVAL, cmd.write, b"echo d\n")
    assert jobs(lease) == []
    assert "NUL" in lease.read("error")
    done = mp.sh("printf 'echo a\\0b' > t1/cmd", check=False)
    assert done.returncode == 1 and "Invalid argument" in done.stderr
    assert jobs(lease) == []
    assert lease.run("echo fine") == ("fine\n", 0)


def test_too_large(lease):
    with open(lease / "cmd", "wb", buffering=0) as cmd:
        line = b": " + b"x" * (MIB - 3) + b"\n"
        for _ in range(16):
            cmd.write(line)
        fails(errno.EFBIG, cmd.write, b"\n")
    assert jobs(lease) == []
    assert "16 MiB" in lease.read("error")
    done = lease.mount.sh("dd if=/dev/zero bs=1M count=17 status=none | tr '\\0' x | dd of=t1/cmd bs=1M", check=False)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert jobs(lease) == []


@pytest.mark.parametrize("size", [120000, 120001, 131071, 131072, 131073, 1 * MIB, 5 * MIB, 16 * MIB])
def test_large_commands(lease, size):
    end = b"\necho the end of ${#x} $0 $#\n"
    head = b"x='"
    command = head + b"y" * (size - len(head) - len(end) - 1) + b"'" + end
    assert len(command) == size
    lease.submit(command)
    output = lease.read()
    assert output.startswith(f"the end of {size - len(head) - len(end) - 1} "), output[:200]
    assert lease.read("exit_code") == "0\n"
    assert (lease / "jobs/1/cmd").read_bytes() == command
    assert (lease / "jobs/1/cmd").stat().st_size == size


@pytest.mark.small
def test_any_bytes(lease):
    every = bytes(set(range(1, 256)) - set(b"'\\\n\r"))
    lease.submit(b"printf %s '" + every + b"' | od -An -v -tx1 | tr -d ' \\n'")
    assert bytes.fromhex(lease.read()) == every
    lease.submit(b"printf '%s' $'\\x80'\"\xff\xfe\"")
    assert (lease / "output").read_bytes() == b"\x80\xff\xfe"


def test_five_megabytes_of_bytes_that_are_no_text(lease):
    lease.submit(b"cat << 'END' | cksum\n" + b"\xff\xc0\x80\xe9 line\n" * 500000 + b"END\n")
    expected = subprocess.run(["cksum"], input=b"\xff\xc0\x80\xe9 line\n" * 500000, stdout=subprocess.PIPE).stdout
    assert (lease / "output").read_bytes() == expected


def test_cmd_shows_the_newest_command(lease):
    assert lease.read("cmd") == ""
    lease.run("echo one")
    lease.run("echo two\n")
    assert lease.read("cmd") == "echo two\n"
    assert (lease / "cmd").stat().st_size == len("echo two\n")
    assert lease.read("jobs/1/cmd") == "echo one"


def test_jobs_run_in_order(lease):
    for i in range(30):
        lease.submit(f"echo {i} >> all; test $(wc -l < all) = {i + 1}")
    assert lease.read("exit_code") == "0\n"
    assert lease.run("cat all")[0] == "".join(f"{i}\n" for i in range(30))
    assert jobs(lease) == list(range(1, 32))


@pytest.mark.small
def test_queue_limit(mount):
    mp = mount(max=1)
    lease = mp.lease()
    lease.submit("read x < fifo || sleep 1000")
    lease.until_running()
    for i in range(64):
        lease.submit(f"echo {i}")
    assert lease.status()["queued"] == "64"
    fails(errno.EAGAIN, os.open, lease / "cmd", os.O_WRONLY)
    fails(errno.EAGAIN, os.open, lease / "cmd", os.O_RDWR)
    done = mp.sh("echo true > t1/cmd", check=False)
    assert done.returncode == 1 and "temporarily unavailable" in done.stderr
    assert lease.read("cmd") == "echo 63"
    lease.write("ctl", "kill\n")
    assert lease.read() == "63\n"
    assert lease.run("echo again") == ("again\n", 0)


def test_queue_limit_while_waiting(mount):
    mp = mount(max=1)
    mp.lease("first")
    lease = mp.lease()
    for i in range(64):
        lease.submit(f"echo {i}")
    fails(errno.EAGAIN, os.open, lease / "cmd", os.O_WRONLY)
    (mp / "first").rmdir()
    assert lease.read() == "63\n"


@pytest.mark.small
@pytest.mark.parametrize("form", ["close", "fsync", "read"])
def test_accepted_and_then_not_stored(lease, form):
    """close cannot fail, so the job fails: the next reader gets the reason, not the result of the job before."""
    lease.run("echo before")
    cmd = os.open(lease / "cmd", os.O_RDWR)
    os.write(cmd, b"echo after\n" + b":\n" * 4096)  # too much for memory
    shutil.rmtree(next(lease.mount.state.rglob("spool")))
    if form == "fsync":
        fails(errno.EIO, os.fsync, cmd)
    elif form == "read":
        fails(errno.EIO, os.read, cmd, 100)
    os.close(cmd)
    assert jobs(lease) == [1, 2]
    for name in ("output", "stdout", "stderr", "exit_code", "jobs/2/exit_code"):
        fails(errno.EIO, lease.read, name)
    for name in ("error", "jobs/2/error"):
        assert "not run" in lease.read(name) and "No such file" in lease.read(name)
    lease.submit("true")
    assert lease.read("exit_code") == "0\n"


# the read-write form

@pytest.mark.small
def test_read_write(lease):
    fd = os.open(lease / "cmd", os.O_RDWR)
    assert os.read(fd, 100) == b""
    for i in range(3):
        os.write(fd, b"echo ")
        os.write(fd, b"%d\nprintf end" % i)
        got = b""
        while chunk := os.read(fd, 100):
            got += chunk
        assert got == b"%d\nend" % i
        assert os.read(fd, 100) == b""
    os.close(fd)
    assert jobs(lease) == [1, 2, 3]


def test_read_write_in_bash(mp):
    lease = mp.lease()
    done = mp.sh("exec 3<>t1/cmd; echo 'echo one; echo err >&2' >&3; cat <&3; echo 'echo two' >&3; cat <&3; exec 3>&-")
    assert sorted(done.stdout[:8].split()) == ["err", "one"] and done.stdout[8:] == "two\n"  # two streams have no order
    assert jobs(lease) == [1, 2]


def test_read_write_without_a_read(lease):
    """Closed without a read, it is submitted as usual."""
    fd = os.open(lease / "cmd", os.O_RDWR)
    os.write(fd, b"echo unread")
    os.close(fd)
    assert lease.read() == "unread\n"


def test_read_write_waits_for_its_own_job(lease):
    lease.submit("sleep 0.3; echo before")
    fd = os.open(lease / "cmd", os.O_RDWR)
    os.write(fd, b"echo mine")
    lease_output = os.open(lease / "output", os.O_RDONLY)
    assert os.read(fd, 100) == b"mine\n"
    assert os.read(lease_output, 100) == b"before\n"
    os.close(lease_output)
    os.close(fd)


def test_programs_that_share_a_lease(lease):
    """Each program reads its own output, whatever others submit."""
    def client(i):
        for j in range(10):
            fd = os.open(lease / "cmd", os.O_RDWR)
            os.write(fd, b"echo %d.%d" % (i, j))
            assert os.read(fd, 100) == b"%d.%d\n" % (i, j)
            assert os.read(fd, 100) == b""
            os.close(fd)

    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        list(threads.map(client, range(20)))
    assert lease.status()["newest"] == "200"


def test_first_read_submits_once(lease):
    """Two readers of one open file share its bytes."""
    fd = os.open(lease / "cmd", os.O_RDWR)
    os.write(fd, b"echo one")
    other = os.dup(fd)
    assert os.read(fd, 2) == b"on"
    assert os.read(other, 10) == b"e\n"
    os.close(other)
    os.close(fd)
    assert jobs(lease) == [1]
