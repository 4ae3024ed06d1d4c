# SPDX-License-Identifier: MIT
"""Jobs on a pseudo-terminal."""

import errno
import os

import pytest

from test_live_job_input import Reader, accepted, again, eof, live, outlive, refused  # live is a fixture


def begin(lease, name, command, size="24 80"):
    os.mkdir(lease / f"jobs/{name}")
    lease.write(f"jobs/{name}/terminal", size)
    lease.write(f"jobs/{name}/cmd", command)


def type_in(lease, name, text):
    lease.write(f"jobs/{name}/stdin", text)


def test_on_a_terminal(live):
    """All three are the terminal; what the job prints is one stream, with the terminal's line ends."""
    lease = live
    begin(lease, "a", "test -t 0 && test -t 1 && test -t 2 && echo $TERM; stty size; echo oh >&2; tty; exit 4", "30 100\n")
    assert lease.read("jobs/a/exit_code") == "4\n"
    lines = (lease / "jobs/a/output").read_bytes().split(b"\r\n")
    assert lines[:3] == [b"xterm", b"30 100", b"oh"] and lines[3].startswith(b"/dev/")
    assert lease.read("jobs/a/stdout") == lease.read("jobs/a/output") and lease.read("jobs/a/stderr") == ""
    assert lease.read("jobs/a/terminal") == "30 100\n"


def test_none(live):
    """It is a setting of a draft, and empty again as it was."""
    lease = live
    os.mkdir(lease / "jobs/a")
    assert lease.read("jobs/a/terminal") == ""
    for size in "24", "24 80 1", "0 80", "24 0", "-1 80", "65536 80", "24x80", "24 80\n25 80":
        with refused(errno.EINVAL):
            lease.write("jobs/a/terminal", size)
        assert lease.read("error").endswith("expected rows and columns, such as 24 80, or nothing\n")
    lease.write("jobs/a/terminal", "65535  1")
    assert lease.read("jobs/a/terminal") == "65535 1\n"
    lease.write("jobs/a/terminal", "")
    lease.write("jobs/a/cmd", "test -t 1 || echo none")
    assert lease.read("jobs/a/output") == "none\n"
    for words in "resize 1 1", "resize", "resize 0 1":
        with refused(errno.EINVAL):
            lease.write("jobs/a/ctl", words + "\n")
    with refused(errno.EBUSY):
        lease.write("jobs/a/terminal", "24 80")
    with refused(errno.EINVAL):
        lease.write("ctl", "resize 24 80\n")


def test_keyboard(live):
    """What is typed is echoed; ^C ends what runs; the shell's exit code is the job's."""
    lease = live
    begin(lease, "sh", "PS1='$ ' exec bash --norc --noediting -i")
    out = Reader(lease, "sh")
    out.until(b"$ ")
    type_in(lease, "sh", "echo $((6*7))\n")
    assert out.until(b"$ ") == b"echo $((6*7))\r\n42\r\n"
    # Said by what ^C is for: the shell has given it the terminal by then.
    type_in(lease, "sh", "sh -c 'echo be''gan; exec sleep 1000'\n")
    out.until(b"began\r\n")
    type_in(lease, "sh", "\x03")
    out.until(b"$ ")
    type_in(lease, "sh", "echo after $?\n")
    assert b"after 130\r\n" in out.until(b"$ ")
    type_in(lease, "sh", "exit 9\n")
    assert lease.read("jobs/sh/exit_code") == "9\n"
    with refused(errno.EPIPE):
        type_in(lease, "sh", "x")


def test_end_of_input(live):
    """eof is what ^D says, also in the middle of a line; what was written before it ran is typed first."""
    lease = live
    os.mkdir(lease / "jobs/a")
    type_in(lease, "a", "first\n")
    lease.write("jobs/a/terminal", "24 80")
    lease.write("jobs/a/cmd", "cat; cat; echo end")
    out = Reader(lease, "a")
    out.until(b"first\r\nfirst\r\n")
    type_in(lease, "a", "\x04")
    type_in(lease, "a", "half")
    eof(lease, "a")
    assert out.until(b"\r\n") == b"halfhalfend"
    assert lease.read("jobs/a/exit_code") == "0\n" and accepted(lease, "a") == len("first\n\x04half")


# Not a trap of bash, which forgets a signal that comes while it runs the trap. Lines that are typed are printed.
SIZES = """exec python3 -u -c '
import os, signal, sys
def say(*_): print(*os.get_terminal_size()[::-1])
signal.signal(signal.SIGWINCH, say)
say()
for line in iter(sys.stdin.readline, ""): print("got", line.strip())
'"""


def test_resize(live):
    """The job gets SIGWINCH and sees the new size; before it runs the size is that with which it begins."""
    lease = live
    begin(lease, "a", SIZES)
    out = Reader(lease, "a")
    assert out.until(b"\r\n") == b"24 80"
    lease.write("jobs/a/ctl", "resize 50 132\n")
    assert out.until(b"\r\n") == b"50 132"
    assert lease.read("jobs/a/terminal") == "50 132\n"
    for i in range(1, 501):  # a window that is dragged
        lease.write("jobs/a/ctl", f"resize {i} {i + 1}\n")
    while out.until(b"\r\n") != b"500 501":
        pass
    lease.write("jobs/a/ctl", "signal TERM\n")
    assert lease.read("jobs/a/exit_code") == "143\n"
    lease.write("jobs/a/ctl", "resize 1 2\n")  # which does nothing
    os.mkdir(lease / "jobs/b")
    lease.write("jobs/b/terminal", "24 80")
    lease.write("jobs/b/ctl", "resize 7 9\n")
    lease.write("jobs/b/cmd", "stty size")
    assert (lease / "jobs/b/output").read_bytes() == b"7 9\r\n"


def test_a_kill_hangs_up(live):
    """Whoever has the terminal is killed with the job, in the background too."""
    lease = live
    begin(lease, "a", "set -m; sleep 86401 & nohup sleep 86401 & echo began; fg %1 > /dev/null")
    Reader(lease, "a").until(b"began\r\n")
    lease.write("jobs/a/ctl", "kill\n")
    assert lease.read("jobs/a/exit_code") == "137\n"
    assert lease.run("ps -ef | grep -c '[s]leep 86401'")[0] == "0\n"


def test_a_restart(mount, settings):
    """The terminal goes on: what was typed arrives, and the size is what was asked for last."""
    if not settings.helper:
        pytest.skip("these environments have no helper")
    mp = mount(max=1, **outlive(settings))
    lease = mp.lease()
    begin(lease, "a", "stty -echo; " + SIZES)
    out = Reader(lease, "a")
    assert out.until(b"\r\n") == b"24 80"
    lease.write("jobs/a/ctl", "resize 30 40\n")
    assert out.until(b"\r\n") == b"30 40"
    type_in(lease, "a", "one\n")
    out.file.close()
    again(mp)
    lease.write("jobs/a/ctl", "resize 50 60\n")
    type_in(lease, "a", "two\n")
    out = Reader(lease, "a")
    text = out.until(b"got two\r\n")
    while b"50 60\r\n" not in text:
        text += out.until(b"\r\n") + b"\r\n"
    assert text.count(b"got one\r\n") == 1 and lease.read("jobs/a/terminal") == "50 60\n"
    lease.write("jobs/a/ctl", "kill\n")
    assert lease.read("jobs/a/exit_code") == "137\n"
