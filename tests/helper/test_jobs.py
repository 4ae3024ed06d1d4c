# SPDX-License-Identifier: MIT
"""What a job is: its command, surroundings, input, output and end."""

import hashlib
import random

import pytest

import wire


def test_command(anywhere):
    job = anywhere.do("echo out; echo err >&2; exit 3")
    assert (job.out, job.err, job.code) == (b"out\n", b"err\n", (wire.EXIT, 3))
    assert anywhere.do("kill -9 $$").code == (wire.SIGNAL, 9)
    assert anywhere.do("kill -11 $$").code == (wire.SIGNAL, 11)
    assert anywhere.do("").code == (wire.EXIT, 0)
    assert anywhere.do("exit 255").code == (wire.EXIT, 255)


def test_the_one_shell(anywhere):
    """Where nothing else is there, as where there is."""
    job = anywhere.do("read a; echo \"$a,$X,$HOME,$(pwd)\"; cd /; set -- *; echo $#", input=b"line\n",
                      env=["X=1", "X=2"], workdir="/tmp/a b/c", fresh=True)
    first, second = job.out.split(b"\n")[:2]
    assert first == b"line,2,/root,/tmp/a b/c" and int(second) > 3


def test_binary(daemon):
    data = random.Random(1).randbytes(1 << 20)
    job = daemon.do("tee /dev/stderr", input=data)
    assert job.out == data and job.err == data


def test_order(anywhere):
    """Which of two pipes was written to first is known, however fast."""
    job = anywhere.do("i=0; while [ $i -lt 1000 ]; do echo a; echo b >&2; echo c; i=$((i+1)); done")
    assert b"".join(data for _, data in job.order) == b"a\nb\nc\n" * 1000


def test_order_after_much(daemon):
    """A stream that had much to say is in order again when the other has spoken."""
    job = daemon.do("seq 100000; for i in 1 2 3 4 5; do echo x >&2; echo y; done; "
                    "for i in 1 2 3; do echo a; echo b >&2; done")
    assert job.out.startswith(b"1\n2\n") and len(job.out) == 588895 + 10 + 6
    assert b"".join(data for _, data in job.order).endswith(b"a\nb\na\nb\na\nb\n")


def test_order_of_large_writes(daemon):
    job = daemon.do("""python3 -c '
import os
for i in range(200):
    os.write(1 + i % 2, bytes([65 + i % 2]) * 3000)
'""")
    assert b"".join(data for _, data in job.order) == (b"A" * 3000 + b"B" * 3000) * 100


def test_side_by_side(daemon):
    """Each job its own output, exactly."""
    jobs = [daemon.start(f"for i in $(seq 2000); do echo {n} $i; echo {n} >&2; done; exit {n}")
            for n in range(wire.JOBS_MAX)]
    daemon.wait(*jobs)
    for n, job in enumerate(jobs):
        assert job.out == b"".join(b"%d %d\n" % (n, i) for i in range(1, 2001))
        assert job.err == b"%d\n" % n * 2000 and job.code == (wire.EXIT, n)


def test_too_many_jobs(daemon):
    for _ in range(wire.JOBS_MAX + 1):
        daemon.start("sleep 1000")
    with pytest.raises(Exception):
        daemon.run(lambda: False)
    assert daemon.carrier.error == "START with too many jobs"


def test_asked_twice_runs_once(daemon):
    job = daemon.start("echo x >> /tmp/count; cat /tmp/count; sleep 0.1")
    for _ in range(5):
        daemon.send("START", job.spec, job=job.id, **job.start)
    daemon.wait(job)
    daemon.send("START", job.spec, job=job.id, **job.start)
    assert daemon.do("cat /tmp/count").out == b"x\n"
    assert job.out == b"x\n"


def test_surroundings(make_box, make_daemon):
    daemon = make_daemon(make_box(environment=[("OWN", "1"), ("BOTH", "own")]))
    job = daemon.do("echo $OWN,$BOTH,$NEW,$HOME; umask; ulimit -c; pwd", env=["BOTH=job", "NEW=a", "NEW=b"])
    assert job.out.startswith(b"1,job,b,/root\n0022\n") and job.out.endswith(b"\n/tmp\n")
    # Nothing of the helper's is left open, blocked, ignored, or in its own session.
    job = daemon.do("""python3 -c '
import os, signal
print(sorted(int(f) for f in os.listdir("/proc/self/fd"))[:-1])
print([s for s in signal.valid_signals() if signal.getsignal(s) is signal.SIG_IGN and s != signal.SIGPIPE and s != 25])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(os.getsid(0) == os.getppid() == os.getpgid(0) or os.getsid(0) == os.getpid())
'; cat /proc/self/oom_score_adj""")
    before = open("/proc/self/oom_score_adj").read().encode()
    assert job.out == b"[0, 1, 2]\n[]\nset()\nTrue\n" + before, job.out


def test_input_is_no_pipe_without(daemon):
    job = daemon.do("ls -l /proc/self/fd/0; cat")
    assert job.out.strip().endswith(b"-> /dev/null")


def test_bytes(daemon):
    odd = bytes(range(1, 256)).replace(b"'", b"").replace(b"=", b"")
    job = daemon.do(b"printf %s '" + odd + b"' \"$V\"", env=[b"V=" + odd])
    assert job.out == odd * 2


@pytest.mark.parametrize("size", [119_990, 120_010, 3_000_000])
def test_long_command(daemon, size):
    """Too long for an argument, and for a frame."""
    job = daemon.do("echo '" + "x" * size + "' | wc -c; echo $0 | wc -w; exit 7")
    assert (job.out, job.code) == (b"%d\n1\n" % (size + 1), (wire.EXIT, 7))
    assert daemon.do("ls /run/modalpool").out == b"socket\n"


def test_many_variables(daemon):
    job = daemon.do("env | grep -c ^V; echo $V4999", env=[f"V{i}={'x' * 100}{i}" for i in range(5000)])
    assert job.out == b"5000\n" + b"x" * 100 + b"4999\n"


def test_workdir_and_cwd(daemon):
    assert daemon.do("pwd; touch old", workdir="/tmp/w", cwd="").out == b"/tmp/w\n"
    assert daemon.do("ls", workdir="/tmp/w").out == b"old\n"
    assert daemon.do("ls -A; mkdir sub", workdir="/tmp/w", fresh=True).out == b""
    assert daemon.do("pwd", workdir="/tmp/w", cwd="sub").out == b"/tmp/w/sub\n"
    assert daemon.do("pwd", workdir="/tmp/w", cwd="/usr").out == b"/usr\n"
    for cwd, text in [("none", b"cwd: /tmp/w/none is not a directory there"),
                      ("/etc/passwd", b"cwd: /etc/passwd is not")]:
        job = daemon.do("echo ran", workdir="/tmp/w", cwd=cwd)
        assert job.code[0] == wire.CWD and job.text.startswith(text) and not job.out
    job = daemon.do("echo ran", workdir="/proc/none", fresh=True)
    assert job.code[0] == wire.FAILED and job.text.startswith(b"making the workdir: ") and not job.out


def test_no_such_shell(anywhere):
    job = anywhere.do("echo", shell="/no/shell")
    assert job.code == (wire.FAILED, 2) and job.text == b"starting the shell /no/shell: No such file or directory"
    assert anywhere.do("echo on", shell="/bin/sh").out == b"on\n"


def test_strings_that_are_none(daemon):
    """Too few, or a workdir that is relative."""
    for spec, n_env in [(b"a\0b\0", 0), (b"sh\0/tmp\0\0\0echo\0", 1), (b"sh\0tmp\0\0\0echo\0", 0), (b"no end", 0)]:
        job = daemon.start("x")
        daemon.wait(job)
        broken = daemon.start("x")
        broken.spec = spec
        del daemon.jobs[broken.id]
        broken.id = random.Random(str(spec)).randbytes(16)
        daemon.jobs[broken.id] = broken
        broken.start.update(spec_len=len(spec), n_env=n_env)
        daemon.send("START", spec, job=broken.id, **broken.start)
        daemon.wait(broken)
        assert broken.code[0] == wire.FAILED and broken.text.startswith(b"reading the request")


def test_input(daemon):
    data = random.Random(2).randbytes(3 << 20)
    job = daemon.do("sha256sum", input=data)
    assert job.out.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert daemon.do("cat | wc -c", input=b"").out == b"0\n"


def test_input_that_nobody_reads(daemon):
    """It is taken all the same, and holds nothing up."""
    job = daemon.start("exec <&-; echo closed; sleep 0.3", input=b"x" * (1 << 20))
    daemon.wait(job)
    assert job.code == (wire.EXIT, 0)
    job = daemon.start("sleep 0.3", input=b"x" * (1 << 20))
    daemon.wait(job)
    assert job.code == (wire.EXIT, 0)


def test_live_input(anywhere):
    job = anywhere.start("while read line; do echo got $line; done; echo end", live=True)
    for i in range(20):
        anywhere.feed(job, b"%d\n" % i)
        anywhere.run(lambda: job.out.endswith(b"got %d\n" % i))
    anywhere.feed(job, b"", end=True)
    anywhere.wait(job)
    assert job.out.endswith(b"got 19\nend\n")


def test_live_input_stops_where_nobody_reads(daemon):
    """Not more than the helper has room for and the pipe holds is taken; then all of it."""
    daemon.do("mkfifo /tmp/fifo")
    job = daemon.start("read go < /tmp/fifo; wc -c", input=b"x" * (2 << 20))
    daemon.do("sleep 0.2")
    assert job.wanted <= (64 << 10) + (256 << 10) + 4096
    daemon.do("echo go > /tmp/fifo")
    daemon.wait(job)
    assert job.out == b"%d\n" % (2 << 20)


def test_in_the_background(daemon):
    """A job ends although its processes go on. They neither stop nor get SIGPIPE, whoever reads what they print."""
    job = daemon.do("""mkfifo /tmp/go
                       (i=0; while [ $i -lt 3000 ]; do echo line $i of much output; i=$((i+1)); done; read x < /tmp/go
                       echo more; echo more >&2; echo done > /tmp/done) & echo started""")
    assert job.code == (wire.EXIT, 0) and b"started\n" in job.out
    daemon.do("echo > /tmp/go; while ! [ -s /tmp/done ]; do sleep 0.01; done")
    assert daemon.do("cat /tmp/done").out == b"done\n"


def test_orders_and_input_reach_a_job_that_has_ended(daemon):
    """They come too late, and do no harm."""
    job = daemon.wait(daemon.start("true", live=True))
    daemon.feed(job, b"late", end=True)
    daemon.order(job, "SIGNAL", signo=15)
    daemon.order(job, "RESIZE", rows=1, columns=1)
    daemon.kill(job)
    daemon.run(lambda: not job.orders)
    daemon.forget(job)
    daemon.send("KILL", job=job.id, order=9)
    daemon.send("INPUT", b"later", job=job.id, offset=4)
    assert daemon.do("echo on").out == b"on\n"


def test_signals(daemon):
    job = daemon.start("trap 'echo hup' HUP; trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.01; done")
    daemon.run(lambda: job.out == b"ready\n")
    daemon.order(job, "SIGNAL", signo=1)
    daemon.run(lambda: b"hup" in job.out)
    daemon.order(job, "SIGNAL", signo=10)
    daemon.wait(job)
    assert job.code == (wire.EXIT, 5) and job.out.count(b"usr1") == 1


def test_ping(daemon):
    daemon.start("true")
    for i in range(64):
        daemon.send("REQUEST", request=i + 7, kind=0)
    daemon.run(lambda: len(daemon.replies) == 64)
    assert daemon.replies == [(i + 7, 0) for i in range(64)]


def test_a_job_that_closes_its_input(daemon):
    """The daemon is told, whether or not it has sent anything."""
    job = daemon.start("echo up; read -r line; exec <&-; echo closed; sleep 1000", live=True)
    daemon.run(lambda: job.out)
    assert job.reads_input
    daemon.feed(job, b"line\n")
    daemon.run(lambda: not job.reads_input)
    daemon.kill(job)
    daemon.wait(job)
