# SPDX-License-Identifier: MIT
"""Processes as /proc shows them: our descendants, and what they wait for."""

import ctypes
import os
import select
import signal
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None)


def adopt_orphans():
    """Become a subreaper, so that processes which a test leaves behind are found."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent():
    """In a new process: make it stop as usual when we are killed, so that it leaves nothing behind."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def stat(pid):
    """(state, parent, start time), or None when it is gone."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def descendants(root=None):
    """{pid: start time} of all that descend from a process, from us unless said."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = stat(int(name))
            if found:
                table[int(name)] = found
    wanted = {root or os.getpid()}
    more = True
    while more:
        children = {pid for pid, (_, parent, _) in table.items() if parent in wanted} - wanted
        more = bool(children)
        wanted |= children
    wanted.discard(root or os.getpid())
    return {pid: table[pid][2] for pid in wanted}


def children(pid):
    return [int(p) for p in read(f"/proc/{pid}/task/{pid}/children").split()]


def name(pid):
    return read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:160] or read(f"/proc/{pid}/comm").strip()


def alive(root, word, seconds=1):
    """Programs of a name below a process that still run: what was killed has gone in a moment."""
    found = [pid for pid in descendants(root) if word == read(f"/proc/{pid}/comm").strip() and (stat(pid) or "Z")[0] != "Z"
             and name(pid) != "sleep 86400"]  # that is the first process of a simulated sandbox
    return [pid for pid in gone(found, seconds) if stat(pid)]


def stop(pid):
    """Stop a process, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    while (stat(pid) or "T")[0] != "T":
        time.sleep(0.001)


def reap(pid):
    """Take the exit of a process that came back to us; of no other."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError:
        pass


def gone(pids, seconds):
    """Wait until all have ended, by event. What is left comes back."""
    deadline = time.monotonic() + seconds
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                left.append(pid)
            else:
                reap(pid)
        finally:
            os.close(fd)
    return left


def kill(pids, signo=signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, signo)
        except OSError:
            pass


def in_sandboxes(state, seconds=2):
    """
    Processes in local sandboxes of a state directory, of which a part is mounted there: those that there are after so long.
    mountinfo has the path from the root of the file system on, wherever that is mounted.
    """
    deadline, end = time.monotonic() + seconds, "/".join(state.parts[-3:])
    while True:
        found = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and f"/{end}/" in read(f"/proc/{pid}/mountinfo")]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


READS = {"0", "17", "19", "40", "275", "326"}  # x86-64: read, pread64, readv, sendfile, splice, copy_file_range


def waits(pid):
    return read(f"/proc/{pid}/syscall").split(" ", 1)[0] in READS and "request_wait_answer" in read(f"/proc/{pid}/wchan")


def until_waits(pid):
    """Until a process sleeps in a read of a file of a FUSE daemon: it has opened that. Only root can see it."""
    while not waits(pid):
        if not stat(pid):
            raise AssertionError("it has ended")
        if os.geteuid() != 0:
            time.sleep(0.3)
            return
        time.sleep(0.005)


def stacks(pids):
    """What each waits for, and where in the kernel."""
    lines = []
    for pid in sorted(pids):
        found = stat(pid)
        if not found:
            continue
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for task in tasks:
            base = f"/proc/{pid}/task/{task}"
            lines.append(f"{pid}/{task} {found[0]} {name(pid)} · wchan {read(base + '/wchan') or '-'} "
                         f"· syscall {read(base + '/syscall').strip()[:60]}")
            lines += ["    " + line for line in read(base + "/stack").splitlines()]
    return "\n".join(lines)
