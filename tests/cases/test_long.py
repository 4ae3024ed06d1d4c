# SPDX-License-Identifier: MIT
"""
Thousands of leases of every kind, many at once, over a pool that fails now and then; and then nothing is left of them.

What a user does is drawn from a seed. The same work is done twice: what is still held after the second time and was not
after the first would grow for ever.
"""

import errno
import multiprocessing
import os
import random
import re
import subprocess

import pytest

import harness
import processes
import prometheus

AT_ONCE = 12  # users
SIZE = 8  # of the pool
# What a user may be told, because another one took it, or an environment failed.
STATS = ("leases", "environments", "leases_by_state", "jobs", "leases_waiting", "reads_waiting", "environments_max")
PASSED = (errno.EAGAIN, errno.EINVAL, errno.EIO, errno.ENODEV, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT)
BAD_NAMES = (".hidden", "tab\there", "x" * 201, b"\xff\xfe", "line\nbreak")


class User:
    """Leases, one after the other, each of another kind."""

    def __init__(self, mp, seed, names):
        self.mp = mp
        self.dice = random.Random(seed)
        self.names = names
        self.readers = []

    def work(self):
        for name in self.names:
            lease = self.mp.lease(name)
            kind = self.dice.choices(KINDS, SHARES)[0]
            try:
                kind(self, lease)
            except OSError as e:
                if e.errno not in PASSED:
                    raise
            self.leave(lease)
        for reader in self.readers:
            reader.kill()
            reader.wait()

    def leave(self, lease):
        if self.dice.random() < 0.9:
            lease.release()
        else:
            self.remove_all(lease)

    def remove_all(self, lease):
        """What `rm -rf` does: unlink every file, then rmdir."""
        for path, directories, files in os.walk(lease.path, topdown=False):
            for name in files:
                os.unlink(os.path.join(path, name))
        lease.release()

    # kinds

    def nothing(self, lease):
        pass

    def job(self, lease):
        number = self.dice.randrange(1000)
        lease.submit(f"echo {number}; echo {number} >&2; exit {number % 7}")
        code = int(lease.read("exit_code"))
        assert code == number % 7
        assert sorted(lease.read().split()) == [str(number)] * 2
        assert lease.read("stdout") == lease.read("stderr") == f"{number}\n"

    def output(self, lease):
        size = self.dice.randrange(1, 300_000)
        lease.submit(f"head -c {size} /dev/zero | tr '\\0' x")
        got = lease.read("stdout")
        if lease.read("exit_code") == "0\n":
            assert got == "x" * size

    def kill(self, lease):
        lease.submit("echo begun; sleep 1000")
        with open(lease / "output", "rb", buffering=0) as output:
            assert output.read(6) in (b"begun\n", b"")
        lease.write("ctl", "kill\n")
        assert lease.read("exit_code") == "137\n"

    def release_while_it_runs(self, lease):
        lease.submit("setsid sleep 1000 & sleep 1000")
        lease.submit("echo never")
        if self.dice.random() < 0.5:
            lease.read("environment")

    def read_while_it_is_released(self, lease):
        lease.submit("echo begun; sleep 1000")
        with open(lease / "output", "rb", buffering=0) as output:
            output.read(6)
            lease.path.rmdir()
            lease.path.mkdir()
            try:
                output.read(6)
            except OSError as e:
                assert e.errno in (errno.ESTALE, errno.EIO), e

    def settings(self, lease):
        lease.write("env", "A=1\nB=two\n")
        lease.write("timeout", "77")
        lease.write("cwd", "/tmp")
        lease.write("stdin", "some input\n")
        try:
            lease.write("timeout", "soon")
            raise AssertionError("a bad timeout was taken")
        except OSError as e:
            assert e.errno == errno.EINVAL
        lease.submit("cat; echo $A $B; pwd")
        if lease.read("exit_code") == "0\n":
            assert lease.read() == "some input\n1 two\n/tmp\n"

    def make_twice(self, lease):
        for name in (lease.name, lease.name, self.dice.choice(BAD_NAMES)):
            path = os.path.join(os.fsencode(self.mp.path), name if isinstance(name, bytes) else name.encode())
            try:
                os.mkdir(path)
                raise AssertionError(f"{name!r} was made")
            except OSError as e:
                assert e.errno in (errno.EEXIST, errno.EINVAL, errno.ENAMETOOLONG), e

    def lose(self, lease):
        """An environment dies by accident, this one's or another's. Who has lost it asks for another."""
        lease.submit("echo begun; sleep 1000")
        lease.read("environment")
        if live := whole(self.mp):
            self.mp.murder([self.dice.choice(live)])
        lease.write("ctl", "kill\n")
        try:
            lease.read("exit_code")
        finally:
            if lease.status()["state"] == "lost":
                lease.write("ctl", "renew\n")
                lease.submit("echo on")

    def killed_reader(self, lease):
        lease.submit("echo begun; sleep 1000")
        reader = subprocess.Popen(["cat", lease / "output"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  preexec_fn=processes.die_with_parent)
        self.readers.append(reader)
        reader.stdout.read(6)
        if self.dice.random() < 0.5:
            reader.kill()
            reader.wait()


def whole(mp):
    """Sandboxes that may be killed. When bwrap is, before it has set up its child, that would stay for ever."""
    if mp.settings.simulator:
        return mp.sandboxes()
    return [pid for pid in mp.sandboxes()
            if any(processes.read(f"/proc/{child}/comm") != "bwrap\n" for child in processes.children(pid))]


KINDS = [User.nothing, User.job, User.settings, User.kill, User.make_twice, User.release_while_it_runs,
         User.read_while_it_is_released, User.output, User.lose, User.killed_reader]
SHARES = [6, 5, 3, 2, 4, 2, 2, 1, 1, 1]


def work(mp, n, seed):
    """n leases, by some users at once. Each is a process: a fork in one thread keeps open what another one closes."""
    fork = multiprocessing.get_context("fork")
    users = [User(mp, f"{seed}/{i}", [f"u{i}.{k}" for k in range(n // AT_ONCE)]) for i in range(AT_ONCE)]
    workers = [fork.Process(target=user.work, daemon=True) for user in users]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * AT_ONCE


def gauges(mp):
    """{name: value} of all that may go down again, but for times."""
    families = prometheus.parse((mp / ".pool/metrics").read_text())
    found = {key: value for name, (kind, samples) in families.items()
             if kind == "gauge" and not name.endswith("_seconds") for key, value in samples.items()}
    found |= {key: value for key, value in mp.stats().items() if key in STATS or key.endswith("_list")}
    return found


def until_empty(mp):
    """Every lease is released: let every environment end too, and then check."""
    def none():
        mp.ctl("recycle")
        return sum(mp.environments().values()) == 0

    mp.until(none)


def size_kib(mp):
    return int(re.search(r"VmRSS:\s+(\d+) kB", processes.read(f"/proc/{mp.pid}/status"))[1])


def held(mp):
    """What a daemon without leases and environments has outside of itself, but for connections to its provider."""
    directory = f"/proc/{mp.pid}/fd"
    descriptors = [os.readlink(os.path.join(directory, name)) for name in os.listdir(directory)]
    return {"descriptors": sorted(re.sub(r"\d+", "", one) for one in descriptors if not one.startswith("socket:")),
            "processes": len(processes.descendants(mp.pid)),
            "files": sorted(str(path.relative_to(mp.state)) for path in mp.state.rglob("*")),
            "environments": mp.sandboxes()}


def check_totals(mp):
    stats = mp.stats()
    assert stats["environments_created_total"] + stats["environments_create_failures_total"] \
        == stats["environments_destroyed_total"], stats
    assert stats["jobs_submitted_total"] == sum(stats["jobs_ended"].values()), stats


@pytest.mark.limit(200)
def test_thousands_of_leases(mount, settings):
    if settings.faults:
        pytest.skip("it has faults of its own")
    n = 10_000 if settings.provider == "local" else 500
    if settings.wrapper or settings.slow > 1:
        n //= 20
    options = {"fault": harness.FAULTS, "fault_seed": 7} if settings.provider == "local" else {}
    mp = mount(max=SIZE, creates=SIZE, log="info", **options)
    if settings.simulator:
        settings.simulator.faults(*harness.MODAL_FAULTS, seed=7)
    mp.expected.append("not ended:")  # of an environment that was killed
    start = gauges(mp)
    work(mp, n // 2, 1)
    until_empty(mp)
    before, size = held(mp), size_kib(mp)
    took, _ = harness.seconds(lambda: work(mp, n // 2, 2))
    until_empty(mp)
    print(f"{n // 2} leases in {took:.1f} s, {size} KiB before, {size_kib(mp)} after; {mp.stats()['jobs_ended']}")
    assert gauges(mp) == start
    check_totals(mp)
    assert held(mp) == before
    if settings.slow == 1:
        assert size_kib(mp) < 1.1 * size
