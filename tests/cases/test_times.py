# SPDX-License-Identifier: MIT
"""Times of files: that of the last change, as rsync -t, cp -u, make and find -newer need it."""

import errno
import os
import time

import pytest

from test_lease import JOB_FILES, fails
from test_recovery import again


def mtime(path):
    found = os.stat(path)
    assert found.st_ctime_ns == found.st_mtime_ns
    return found.st_mtime_ns


def times(directory, names):
    return {name: mtime(directory / name) for name in names}


class Span:
    """with Span() as span: …; span.holds(a time): it lies in between."""

    def __enter__(self):
        self.begin = time.time_ns() // 1000 * 1000
        return self

    def __exit__(self, *_):
        self.end = time.time_ns()

    def holds(self, *moments):
        return all(self.begin <= moment <= self.end for moment in moments)


@pytest.mark.small
def test_times_of_a_job(mp):
    with Span() as making:
        lease = mp.lease()
    lease.read("environment")
    with Span() as submission:
        lease.submit("mkfifo f; exec 3<>f; trap 'echo two >&2' TERM; echo one; read x <&3")
        submitted = mtime(lease / "cmd")
    assert submission.holds(submitted)
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(100) == b"one\n"
        out = mtime(lease / "stdout")
        assert submitted < out == mtime(lease / "output") and mtime(lease / "stderr") == submitted
        lease.write("ctl", "signal TERM\n")
        assert output.read(100) == b"two\n"
        err = both = mtime(lease / "stderr")
        assert out < err == mtime(lease / "output") and mtime(lease / "stdout") == out
        assert mtime(lease / "exit_code") == submitted
        with Span() as end:
            lease.write("ctl", "kill\n")
            assert lease.read("exit_code") == "137\n"
        ended = mtime(lease / "exit_code")
        assert end.holds(ended)
        assert times(lease.path, ("stdout", "stderr", "output", "cmd")) == \
            {"stdout": out, "stderr": err, "output": both, "cmd": submitted}
        inside = times(lease / "jobs/1", JOB_FILES - {"ctl"})
        assert inside == {**dict.fromkeys(JOB_FILES - {"ctl"}, ended), "cmd": submitted, "stdout": out, "stderr": err, "output": both}
        assert mtime(lease / "error") >= ended and mtime(lease / "status") >= ended
        with Span() as submission:
            lease.submit("sleep 1000")
            second = mtime(lease / "cmd")
        assert submission.holds(second)
        # What has nothing yet, has that since the submission.
        assert {mtime(lease / name) for name in ("output", "stdout", "stderr", "exit_code", "jobs", "jobs/2")} == {second}
        assert os.lstat(lease / "jobs/latest").st_mtime_ns == second
        assert times(lease / "jobs/1", JOB_FILES - {"ctl"}) == inside and mtime(lease / "jobs/1") == submitted
    assert making.holds(mtime(lease.path), mtime(lease / "ctl"))


@pytest.mark.small
def test_times_of_settings(lease):
    """Each has the time of its own last write that counted."""
    names = ("env", "cwd", "timeout", "stdin", "cmd", "ctl")
    before = times(lease.path, names)
    for name, value in ("env", "A=1\n"), ("cwd", "sub\n"), ("timeout", "77\n"), ("stdin", "some\n"):
        with Span() as write:
            lease.write(name, value)
            lease.read(name)  # closed is not yet released
        now = times(lease.path, names)
        assert write.holds(now.pop(name)) and now == {key: before[key] for key in now}
        before = times(lease.path, names)
    fails(errno.EINVAL, lease.write, "timeout", "soon")
    os.utime(lease / "env", (1, 1)), os.chmod(lease / "env", 0o644)
    lease.read("env"), lease.write("ctl", "cancel")
    assert times(lease.path, names) == before
    with Span() as span:
        lease.write("cwd", "")
        lease.run("cat")
    assert span.holds(mtime(lease / "stdin"), mtime(lease / "cmd"))  # it was taken
    taken = mtime(lease / "stdin")
    lease.run("cat")
    assert mtime(lease / "stdin") == taken


def test_times_of_error(lease):
    """It changes with the contents, and so does that of status."""
    with Span() as refusal:
        fails(errno.EINVAL, lease.write, "timeout", "soon")
    assert refusal.holds(mtime(lease / "error"), mtime(lease / "status"))
    with Span() as good:
        lease.write("timeout", "5")
        assert lease.read("error") == "ok\n"
    assert good.holds(mtime(lease / "error"))


@pytest.mark.small
def test_times_of_directories(mp):
    """The root has that of the last mkdir or rmdir, whatever goes on in a lease."""
    pool = mtime(mp / ".pool")
    with Span() as making:
        lease = mp.lease()
        assert making.begin <= mtime(mp.path)
        made = mtime(lease.path)
        lease.run("true")
    root = mtime(mp.path)
    assert making.holds(root, made)
    with Span() as removal:
        mp.lease("other").release()
    assert removal.holds(mtime(mp.path)) and mtime(lease.path) == made
    root = mtime(mp.path)
    lease.run("true"), lease.write("env", "A=1")
    assert (mtime(mp.path), mtime(mp / ".pool"), mtime(lease.path)) == (root, pool, made)


@pytest.mark.small
def test_times_of_the_pool(mp):
    """Files with ages in them always have the current time; options and events have that of their last change."""
    with Span() as span:
        assert all(mtime(mp / ".pool" / name) >= span.begin for name in ("status", "stats", "metrics"))
    before = mtime(mp / ".pool/config"), mtime(mp / ".pool/ctl")
    lease = mp.lease()
    lease.read("environment")
    with Span() as span:
        lease.release()
    assert mtime(mp / ".pool/events") >= span.begin
    assert (mtime(mp / ".pool/config"), mtime(mp / ".pool/ctl")) == before
    with Span() as span:
        mp.ctl("max 7")
    assert span.holds(mtime(mp / ".pool/config"))


# Each copies when there is something new, and only then.
COPIERS = {
    "rsync -t": "rsync -t --modify-window=-1 t1/output ../copy",
    "cp -u": "cp -u t1/output ../copy",
    "cp -pu": "cp -pu t1/output ../copy",
    "make": "printf '../copy: t1/output\\n\\t@cp $< $@\\n' | make -sf -",
    "find -newer": "test -e ../copy && test -z \"$(find t1/output -newer ../copy)\" || cp t1/output ../copy",
    "test -nt": "test ! t1/output -nt ../copy || cp t1/output ../copy",
}


@pytest.mark.parametrize("tool", sorted(COPIERS))
def test_tools_see_what_is_new(lease, need, tool):
    """Outputs of the same length, one after the other."""
    need(tool.split()[0])
    copy = lease.mount.directory / "copy"
    for word in ("one", "two", "six"):
        lease.run(f"echo {word}")
        lease.mount.sh(COPIERS[tool])
        assert copy.read_text() == word + "\n"
        if copy.stat().st_mtime_ns != mtime(lease / "output"):
            # The kernel's time for a new file is that of its last tick, which may be before the output's.
            os.utime(copy, ns=(time.time_ns(), time.time_ns()))
        made = copy.stat().st_ino, copy.stat().st_mtime_ns
        lease.mount.sh(COPIERS[tool])
        assert (copy.stat().st_ino, copy.stat().st_mtime_ns) == made
    copy.unlink()


def test_times_survive(mount):
    """After a crash a job has its old times, as exactly as clocks and file systems allow; everything else is new."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("echo out; echo err >&2")
    lease.run("true")
    jobs = [(number, name) for number in (1, 2) for name in ("cmd", "stdout", "stderr", "output", "exit_code", "")]
    before = {one: mtime(lease / "jobs" / str(one[0]) / one[1]) for one in jobs}
    made = mtime(lease.path)
    again(mp)
    assert mtime(lease.path) == made
    start = mtime(mp / ".pool")
    assert start > max(before.values())
    after = {one: mtime(lease / "jobs" / str(one[0]) / one[1]) for one in jobs}
    for one, then in before.items():
        assert abs(after[one] - then) < (start - then) / 2, one
    assert all(mtime(lease / name) >= start for name in ("env", "stdin", "status"))


def test_clock_is_set(with_clock):
    """Recorded times stay; later changes have the new time."""
    mp, jump = with_clock()
    lease = mp.lease()
    known = {}
    for number, seconds in enumerate((0, 86400, -86400, 0), 1):
        jump(seconds)
        with Span() as span:
            lease.run("echo hi")
        now = times(lease / f"jobs/{number}", ("cmd", "output", "exit_code", "status"))
        assert span.holds(*(moment - seconds * 10**9 for moment in now.values()))
        known[number] = now
        for earlier, then in known.items():
            assert times(lease / f"jobs/{earlier}", then) == then
