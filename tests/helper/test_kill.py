# SPDX-License-Identifier: MIT
"""
A kill finds every process of its job, and none of another.

A job's processes carry a mark in their command lines, the time that they sleep. Once a killed job has ended, there
must be none left: nobody waits for it.
"""

import os
import signal
import time

import pytest

import wire

# Seconds to sleep, which nothing else does.
THIS, OTHER, ONE, TWO = "86401.125", "86402.125", "86403.125", "86404.125"
PYTHON = "exec python3 -c '{}' MARK"
WAYS = {
    "plain": "exec sleep MARK",
    "background": "sleep MARK & sleep MARK & wait",
    "double fork": "(env -i setsid sh -c 'sleep MARK & exit' &); sleep MARK",
    "double fork, shell gone": "(env -i setsid sh -c 'sleep MARK & sleep MARK & exit' &)",
    "stopped": "sh -c 'kill -STOP $$; sleep 1000' MARK & wait",
    "stopped, own session": "setsid sh -c 'kill -STOP $$' MARK & sleep MARK",
    "name": "(exec -a '(x) S 1 1' sleep MARK) & (exec -a '' sleep MARK) & wait",
    "name of a thread": PYTHON.format(
        'import ctypes, time; ctypes.CDLL(None).prctl(15, b")) R 1 ("); time.sleep(1000)'),
    "ignores": "trap '' TERM HUP INT; sh -c 'trap \"\" TERM HUP INT; sleep MARK' MARK & wait",
    "first thread ended": PYTHON.format(
        'import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); '
        'ctypes.CDLL(None).syscall(60, 0)'),
    "other user": "setpriv --reuid 65534 --clear-groups setsid sleep MARK & "
                  "setpriv --reuid 4242 --clear-groups sleep MARK & wait",
    "own subreaper": PYTHON.format(
        'import ctypes, os, time; ctypes.CDLL(None).prctl(36, 1); '
        '[os.fork() or (os.setsid(), os.fork() and os._exit(0), time.sleep(1000)) for i in range(3)]; time.sleep(1000)'),
    "own terminal": PYTHON.format('import pty; pty.spawn(["sh", "-c", "sleep MARK & sleep MARK"])'),
    "own PID namespace": "unshare -pf --mount-proc sh -c 'sleep MARK & sleep MARK' MARK",
    "many": "for i in $(seq 200); do setsid sleep MARK & done; wait",
    "forks all the time": PYTHON.format(
        'import os, time\nfor i in range(4):\n if os.fork() == 0: break\n'
        'while True:\n if os.fork(): os._exit(0)\n os.setsid()'),
    "kills its reaper": "kill -9 $PPID; (env -i setsid sleep MARK &); sleep MARK",
    "stops its reaper": "kill -STOP $PPID; (env -i setsid sleep MARK &); sleep MARK",
    "mounts over /proc": "(env -i setsid sleep MARK &); mount -t tmpfs none /proc; sleep MARK",
}


def prepare(way, mark):
    return WAYS[way].replace("MARK", mark)


def until_there(box, mark):
    deadline = time.monotonic() + 60
    while not left(box, mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sleepers(box, mark):
    return sum(line == b"sleep\0%s\0" % mark.encode() for _, _, line in box.processes().values())


def left(box, mark):
    return [line for _, _, line in box.processes().values() if mark.encode() in line]


@pytest.mark.parametrize("way", WAYS)
def test_kill(box, daemon, way):
    other = daemon.start(prepare("double fork", OTHER))
    job = daemon.start("echo up; " + prepare(way, THIS))
    daemon.run(lambda: job.out)
    until_there(box, THIS)
    while sleepers(box, OTHER) < 2:
        time.sleep(0.01)
    daemon.kill(job)
    daemon.run(lambda: job.end and not job.orders)
    shell_ends = way in ("double fork, shell gone", "forks all the time")
    if shell_ends:  # the job's end came before the kill, then, and does not say that the kill has found all
        box.until_gone(THIS)
    assert left(box, THIS) == []
    assert job.text == b""
    if not shell_ends:
        assert job.code == (wire.SIGNAL, 9)
    assert sleepers(box, OTHER) == 2 and not other.end
    daemon.kill(other)
    daemon.wait(other)
    assert left(box, OTHER) == []


@pytest.mark.parametrize("way", ["plain", "double fork", "ignores", "stopped", "other user", "own terminal",
                                 "kills its reaper", "stops its reaper"])
def test_timeout(box, daemon, way):
    job = daemon.start("echo up; " + prepare(way, THIS), timeout=1, grace=0.2)
    daemon.wait(job)
    assert job.code[0] == wire.TIMEOUT and job.out == b"up\n"
    assert left(box, THIS) == []


def test_on_a_terminal(box, daemon):
    job = daemon.start("set -m; sleep 86401.125 & setsid sleep 86401.125 & echo up; sleep 86401.125",
                       terminal=(24, 80))
    daemon.run(lambda: b"up" in job.out)
    daemon.kill(job)
    daemon.wait(job)
    assert left(box, THIS) == [] and job.code == (wire.SIGNAL, 9)


def test_grace(daemon):
    """TERM is enough for what listens to it; what does not is killed after the grace, and not before."""
    job = daemon.start("trap 'echo term; exit 6' TERM; echo up; while :; do sleep 0.01; done")
    daemon.run(lambda: job.out)
    daemon.kill(job, grace=1000)
    daemon.wait(job)
    assert job.out == b"up\nterm\n" and job.code == (wire.EXIT, 6)

    job = daemon.start("trap 'echo term' TERM; echo up; while :; do sleep 0.01; done")
    daemon.run(lambda: job.out)
    began = time.monotonic()
    daemon.kill(job, grace=0.3)
    daemon.wait(job)
    assert time.monotonic() - began >= 0.3
    assert job.out == b"up\nterm\n" and job.code == (wire.SIGNAL, 9)


def test_kill_cuts_the_grace_short(daemon):
    job = daemon.start("trap '' TERM; echo up; while :; do sleep 0.01; done")
    daemon.run(lambda: job.out)
    daemon.kill(job, grace=1000)
    daemon.kill(job)
    daemon.wait(job)
    assert job.code == (wire.SIGNAL, 9)


def test_time_is_kept_inside(box, daemon):
    """Whatever the helper does meanwhile, a job that ended in time has not timed out, and one that did not has."""
    daemon.do("mkfifo /tmp/go")
    fast = daemon.start("echo up; read x < /tmp/go; exit 3", timeout=6)
    slow = daemon.start("echo up; sleep 1000", timeout=0.5)
    daemon.run(lambda: fast.out and slow.out)
    helper = box.helper()
    go = f"/proc/{helper}/root/tmp/go"
    os.kill(helper, signal.SIGSTOP)
    with open(go, "w") as f:
        f.write("\n")
    time.sleep(6.5)  # longer than either may run
    os.kill(helper, signal.SIGCONT)
    daemon.wait(fast, slow)
    assert fast.code == (wire.EXIT, 3) and slow.code[0] == wire.TIMEOUT
    assert fast.end["ran_us"] < 6_000_000


def test_timeout_is_no_limit_when_zero(daemon):
    job = daemon.do("sleep 0.6; echo on", timeout=0)
    assert job.out == b"on\n"
    assert daemon.do("echo quick", timeout=1000).code == (wire.EXIT, 0)


def test_a_job_that_kills_its_reaper_goes_on(daemon):
    job = daemon.do("kill -9 $PPID; sleep 0.1; echo on; exit 3")
    assert (job.out, job.code) == (b"on\n", (wire.EXIT, 3))
    job = daemon.do("(kill -9 $PPID); exit 4")
    assert job.code in [(wire.EXIT, 4), (wire.UNKNOWN, 0), (wire.SIGNAL, 9)]


def test_killed_before_it_starts(daemon):
    """The strings never came."""
    job = daemon.start("echo '" + "x" * 100_000 + "'")
    daemon.carrier.unsent = daemon.carrier.unsent[:daemon.carrier.unsent.index(b"xxxx") - 4]
    job = daemon.jobs.pop(job.id)
    daemon.carrier.unsent = b""
    daemon.send("START", job.spec[:100], job=job.id, **job.start)
    daemon.jobs[job.id] = job
    daemon.kill(job)
    daemon.wait(job)
    assert job.code == (wire.SIGNAL, 9) and not job.out


def test_background_is_killed_with_its_job(box, daemon):
    """Also after the shell has ended, as long as the job is not forgotten; and not with another's."""
    one = daemon.wait(daemon.start("(setsid sleep 86403.125 &); exit 2"))
    two = daemon.wait(daemon.start("(setsid sleep 86404.125 &); exit 3"))
    assert left(box, ONE) and left(box, TWO)
    daemon.kill(one)
    daemon.run(lambda: not one.orders)
    assert box.until_gone(ONE) == []
    assert left(box, TWO) and (one.code, two.code) == ((wire.EXIT, 2), (wire.EXIT, 3))
    daemon.forget(two)
    assert daemon.do("echo on").out == b"on\n"
    assert left(box, TWO)


def test_all_is_gone_when_the_helper_dies(make_box, make_daemon):
    box = make_box(daemonise=True)
    daemon = make_daemon(box)
    job = daemon.start("(env -i setsid sleep 86401.125 &); echo up; sleep 86401.125")
    daemon.run(lambda: job.out)
    until_there(box, THIS)
    os.kill(box.helper(), signal.SIGKILL)
    assert box.until_gone(THIS) == []


def test_a_job_that_stops_its_reaper_goes_on(daemon):
    for n in range(20):
        job = daemon.do(f"kill -STOP $PPID; exit {n}")
        assert job.code == (wire.EXIT, n)


def test_signals_to_everything(make_box, make_daemon):
    """A job that is root may send to all; only KILL would end the helper."""
    daemon = make_daemon(make_box(daemonise=True))
    other = daemon.start("trap '' 1 2 3 10 13 14 15; echo up; while :; do sleep 0.01; done 2>/dev/null")
    daemon.run(lambda: other.out)
    for signo in [1, 2, 3, 10, 13, 14, 15]:
        job = daemon.do(f"trap '' {signo}; kill -{signo} -1; exit 3")
        assert job.code == (wire.EXIT, 3)
    assert not other.end
    daemon.kill(other)
    daemon.wait(other)


def test_replies_come_beside_output(daemon):
    printer = daemon.start("yes")
    daemon.run(lambda: len(printer.out) > 1_000_000)
    for n in range(20):
        daemon.send("REQUEST", request=n)
        daemon.run(lambda: (n, 0) in daemon.replies)
    daemon.kill(printer)
    daemon.wait(printer)


@pytest.mark.parametrize("way", ["plain", "double fork", "stopped, own session", "other user", "many", "kills its reaper"])
def test_what_is_killed_is_gone_for_the_next_job(box, daemon, way):
    """Also for one that was asked for in the same breath."""
    for _ in range(5):
        job = daemon.start("echo up; " + prepare(way, THIS))
        daemon.run(lambda: job.out)
        until_there(box, THIS)
        daemon.kill(job)
        after = daemon.start(f"cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' ' | grep -c '{THIS[:-1]}[{THIS[-1]}]'")
        daemon.wait(job, after)
        assert after.out == b"0\n"
        assert job.code == (wire.SIGNAL, 9)
        daemon.forget(job)
        daemon.forget(after)


def test_a_grace_holds_up_nobody(daemon):
    job = daemon.start("trap '' TERM; echo up; while :; do sleep 0.01; done")
    daemon.run(lambda: job.out)
    daemon.kill(job, grace=1000)
    assert daemon.do("echo on").out == b"on\n" and not job.end
    waits = daemon.start("echo never; sleep 1000")
    daemon.run(lambda: waits.out)
    daemon.kill(job)
    daemon.kill(waits)
    daemon.wait(job, waits)


def test_output_that_is_not_taken_holds_up_nobody(daemon):
    """What was killed is gone, though its end waits until the daemon takes what it has printed."""
    job = daemon.start("yes")
    job.hold = True
    daemon.run(lambda: len(job.out) > wire.WINDOW - wire.DATA_MAX)
    daemon.kill(job)
    daemon.run(lambda: not job.orders)
    assert daemon.do("pgrep -x yes; echo on").out == b"on\n" and not job.end
    job.hold = False
    daemon.attach()
    daemon.wait(job)
