# SPDX-License-Identifier: MIT
"""
Crash points, one after the other: a daemon that is killed at any of them loses nothing that was said.

A scripted user works on a mount whose daemon ends itself at the N-th place (pool/util/crash.h), for N = 1, 2, … until
a run comes to its end. Each time the daemon is started again, and what there is must agree with what the user had been
told: see User. Then everything is released, and nothing may be left, at the provider or on disk.

What happens at the same time passes its places in another order each time, so two runs with the same N may die at
different ones; the part of a second that decides is Modal's, or the machine's.
"""

import collections
import dataclasses
import errno
import itertools
import os
import re
import signal
import subprocess
import threading
import traceback

import pytest

import harness
import processes

pytestmark = pytest.mark.exact

AT_ONCE = 3  # mounts; each has its own pool's id, by which its sandboxes are known
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


@pytest.fixture
def points(mount, settings):
    """points(SCRIPT): its crash points, over the provider of this run."""
    said = subprocess.run([settings.program, "-V"], capture_output=True, text=True).stdout
    if "with crash points" not in said:
        pytest.skip("built without -Dcrash_points=true")
    options = {"max": 2} if settings.simulator else {"max": 2, "orphan_timeout": 60}
    return lambda script, user=User: Points(lambda: mount(start=False, **options), settings.simulator, script, user)


class Died(Exception):
    """The daemon killed itself at a crash point."""


@dataclasses.dataclass
class Job:
    name: str  # which it appends to /tmp/ran, so that it is seen how often it ran
    command: str
    stdout: bytes  # None: whatever it is
    stderr: bytes
    code: int
    kill: bool = False  # it ends when it is killed: once it has printed
    killed: bool = False  # that was said
    cut: bool = False  # it may have ended before it did anything
    gone: bool = False  # its sandbox is dead, and /tmp/ran with it
    id: str = ""  # of a job that was made by mkdir
    settings: dict = dataclasses.field(default_factory=dict)  # of such a job: name: text
    made: bool = False  # its mkdir has returned
    forgetting: bool = False  # its rmdir was called
    arrived: bool = False
    seen: dict = dataclasses.field(default_factory=dict)  # file: bytes
    whole: set = dataclasses.field(default_factory=set)  # files that were read to their end

    def note(self, file, data, whole):
        """What was read must begin with what had been read before, or be it."""
        old = self.seen.get(file, b"")
        assert data.startswith(old) or (old.startswith(data) and not whole), (self.name, file, old, data)
        assert file not in self.whole or len(data) <= len(old), (self.name, file, old, data)
        self.seen[file] = max(old, data, key=len)
        if whole:
            self.whole.add(file)

    def check(self):
        seen = self.seen
        assert seen["cmd"] == self.command.encode(), self.name
        assert seen["exit_code"] == b"%d\n" % self.code, (self.name, seen)
        assert seen["stderr"] == self.stderr, (self.name, seen)
        assert self.stdout is None or seen["stdout"] == self.stdout, (self.name, seen)
        assert sorted(seen["output"]) == sorted(seen["stdout"] + seen["stderr"]), (self.name, seen)


@dataclasses.dataclass
class Lease:
    name: str
    made: bool = False  # mkdir has returned
    releasing: bool = False  # rmdir was called …
    released: bool = False  # … and has returned
    murdered: str = ""  # its sandbox, which died by accident
    jobs: list = dataclasses.field(default_factory=list)
    settings: dict = dataclasses.field(default_factory=dict)  # name: what it may be

    def numbered(self):
        return [job for job in self.jobs if not job.id]


class User:
    """
    Somebody who works on a mount, one call after the other, and remembers what came of each.

    What was under way when the daemon died may have been done or not. And so may what was only closed: the kernel sends
    RELEASE, by which a command is submitted and a setting stored, after close has returned. But it does so before the
    next call of the same process, so what was closed has arrived as soon as any further call went well.
    """

    def __init__(self, mount, sim):
        self.mount = mount
        self.sim = sim
        self.leases = {}
        self.closed = None  # to be called when what was closed has arrived
        self.pool = None
        self.history = []  # what the daemons before this one said

    def call(self, function, *arguments):
        try:
            result = function(*arguments)
        except OSError as e:
            if e.errno not in DEAD:
                raise
            self.died()
        if self.closed:
            self.closed()
            self.closed = None
        return result

    def died(self):
        self.closed = None
        assert self.mount.process.wait() == -signal.SIGKILL, self.mount.log()
        raise Died

    def start(self, at=None):
        """With a daemon that ends itself at the N-th place, or with one that does not."""
        mount = self.mount
        mount.environment.pop("MODALPOOL_CRASH_AT", None)
        if at:
            mount.environment["MODALPOOL_CRASH_AT"] = str(at)
        self.history += [*mount.lines, "---"]
        mount.lines.clear()
        try:
            self.call(mount.start)
        except RuntimeError:
            if mount.status != -signal.SIGKILL:
                raise
            raise Died from None
        finally:
            self.pool = self.pool or next(mount.state.glob("*/pool")).read_text()

    def end(self):
        """As an administrator ends it: nothing is left."""
        self.mount.process.send_signal(signal.SIGTERM)
        if self.mount.process.wait() == -signal.SIGKILL:
            raise Died
        self.mount.stop()

    # what users do

    def make(self, name):
        lease = self.leases[name] = Lease(name)
        self.call(os.mkdir, self.mount / name)
        lease.made = True
        return lease

    def release(self, lease):
        lease.releasing = True
        self.call(os.rmdir, self.mount / lease.name)
        lease.released = True

    def write(self, path, text):
        data = text.encode()

        def write():
            with harness.forking, open(path, "wb", buffering=0) as file:
                rest = data
                while rest:
                    rest = rest[file.write(rest):]

        self.call(write)

    def set(self, lease, name, text):
        old = self.call((self.mount / lease.name / name).read_text).removesuffix("\n")
        lease.settings[name] = {old, text}
        self.write(self.mount / lease.name / name, text)
        self.closed = lambda: lease.settings.update({name: {text}})

    def submit(self, lease, script, stdout=b"", stderr=b"", code=0, **more):
        name = f"{lease.name}.{len(lease.jobs) + 1}"
        job = Job(name, f"echo {name} >> /tmp/ran; {script}", stdout, stderr, code, **more)
        lease.jobs.append(job)
        self.write(self.mount / lease.name / "cmd", job.command)
        self.closed = lambda: setattr(job, "arrived", True)
        return job

    def plan(self, lease, id, script, stdout=b"", stderr=b"", code=0, **more):
        """A job with a name, which runs beside the others once it was asked for: after an accident too."""
        name = f"{lease.name}.{id}"
        job = Job(name, f"echo {name} >> /tmp/ran; {script}", stdout, stderr, code, id=id, **more)
        lease.jobs.append(job)
        return job

    def ask(self, lease, job):
        """For a job with a name, as a client does that cannot know whether it had asked before."""
        path = self.path(lease, job)
        try:
            self.call(os.mkdir, path)
        except FileExistsError:
            pass
        job.made = True
        try:
            for name, text in job.settings.items():
                self.write(path / name, text)
            self.write(path / "cmd", job.command)
        except OSError as e:
            if e.errno != errno.EBUSY:  # it was submitted then
                raise
        self.closed = lambda: setattr(job, "arrived", True)

    def forget(self, lease, job):
        job.forgetting = True
        self.call(os.rmdir, self.path(lease, job))
        lease.jobs.remove(job)

    def path(self, lease, job):
        name = job.id or str(lease.numbered().index(job) + 1)
        return self.mount / lease.name / "jobs" / name

    def read(self, lease, job, name, enough=None):
        """To its end, or until there is enough."""
        path = self.path(lease, job) / name

        def read():
            data = b""
            with open(path, "rb", buffering=0) as file:
                while piece := file.read(1 << 16):
                    data += piece
                    job.note(name, data, False)
                    if data == enough:
                        return
            job.note(name, data, True)

        self.call(read)

    def result(self, lease, job):
        for name in ("output", "exit_code", "stdout", "stderr", "cmd"):
            self.read(lease, job, name)
        job.check()

    def kill(self, lease, job):
        self.read(lease, job, "stdout", job.stdout)
        self.write(self.ctl(lease, job), "kill")
        job.killed = True

    def ctl(self, lease, job):
        return self.path(lease, job) / "ctl" if job.id else self.mount / lease.name / "ctl"

    def status(self, lease):
        text = self.call((self.mount / lease.name / "status").read_text)
        return dict(line.split(" ", 1) for line in text.splitlines())

    def until(self, true):
        self.call(self.mount.until, true)

    # and what they then find

    def names(self):
        return {name for name in self.call(os.listdir, self.mount.path) if name[0] not in ".@"}

    def check_leases(self):
        """The leases that there are, compared with those that there should be."""
        names = self.names()
        assert names <= set(self.leases), names
        for lease in list(self.leases.values()):
            there = lease.name in names
            assert there or not lease.made or lease.releasing, f"{lease.name} is lost"
            assert not there or not lease.released, f"{lease.name} is there again"
            lease.made = there
            if there:
                lease.releasing = False
                self.check_lease(lease)
            else:
                del self.leases[lease.name]

    def check_lease(self, lease):
        there = set(self.call(os.listdir, self.mount / lease.name / "jobs")) - {"latest"}
        numbers = sorted(int(name) for name in there if name.isdigit())
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        numbered = lease.numbered()
        assert len(numbers) <= len(numbered), f"a job of {lease.name} that nobody submitted"
        for job in numbered[len(numbers):]:
            assert not job.arrived, f"{job.name} is lost"
            lease.jobs.remove(job)
        for job in numbered[:len(numbers)]:
            job.arrived = True
        self.check_named(lease, {name for name in there if not name.isdigit()})
        for name, wanted in lease.settings.items():
            text = self.call((self.mount / lease.name / name).read_text).removesuffix("\n")
            assert text in wanted, (lease.name, name, text)

    def check_named(self, lease, there):
        named = {job.id: job for job in lease.jobs if job.id}
        assert there <= set(named), f"a job of {lease.name} that nobody made"
        for job in named.values():
            if job.id in there:
                state = dict(line.split(" ", 1) for line in self.call((self.path(lease, job) / "status").read_text).splitlines())["state"]
                assert state != "draft" or not job.arrived, f"{job.name} is a draft again"
                job.made = True
                job.forgetting = False
            else:
                assert job.forgetting or not job.made, f"{job.name} is lost"
                if job.forgetting:
                    lease.jobs.remove(job)

    def go_on(self):
        """Every job comes to its end, with the right bytes and the right code, and ran once."""
        for lease in self.leases.values():
            if lease.murdered:
                self.renew(lease)
            for job in lease.jobs:
                if job.id:
                    self.ask(lease, job)
            for job in lease.jobs:
                if job.kill and not job.killed and "exit_code" not in job.whole:
                    self.kill_again(lease, job)
                self.result(lease, job)
            count = self.submit(lease, "cat /tmp/ran", None)
            self.result(lease, count)
            ran = collections.Counter(count.seen["stdout"].decode().split())
            assert set(ran.values()) == {1}, ran
            for job in lease.jobs:
                assert job.gone or job.cut or ran[job.name] == 1, (job.name, ran)

    def kill_again(self, lease, job):
        """It was not said that it was done."""
        self.read(lease, job, "stdout", job.stdout)
        try:
            self.write(self.ctl(lease, job), "kill")
        except OSError as e:
            if e.errno != errno.EINVAL:  # it is dead already
                raise
        job.killed = True

    def renew(self, lease):
        """Its sandbox is dead. When that is known, and nobody has yet, ask for another one."""

        def known():
            status = self.status(lease)
            # Local names are used again by the next daemon: but what lives is not what was killed.
            other = status["environment"] != lease.murdered if self.sim else processes.in_sandboxes(self.mount.state, 0)
            return status["state"] == "lost" or (status["environment"] != "-" and other)

        self.until(known)
        if self.status(lease)["state"] == "lost":
            self.write(self.mount / lease.name / "ctl", "renew")

    def until_taken_back(self):
        """Every sandbox has answered, and who waited has one."""
        def settled():
            stats = self.mount.stats()
            return not stats["leases_by_state"]["waiting"] and not stats["environments"]["creating"]

        self.until(settled)

    def leave(self):
        for lease in self.leases.values():
            if not lease.released:
                self.release(lease)
        self.end()
        if self.sim:
            own = self.sim.sandboxes(**{"modalpool-pool": self.pool})
            left = [one["id"] for one in own if not one["result"]]
            left += [one["id"] for one in self.sim.snapshots() if one["sandbox"] in {one["id"] for one in own}]
        else:
            left = processes.in_sandboxes(self.mount.state)
        assert left == [], "not ended"


class Forker(User):
    """One who also takes a snapshot and forks it. Its lease lives on, so a snapshot that was asked for is there in the end."""

    def __init__(self, mount, sim):
        super().__init__(mount, sim)
        self.has = {False}  # whether there may be the pool

    def snapshot(self, lease):
        self.has = {False, True}
        self.write(self.mount / lease.name / "ctl", "snapshot s\n")
        self.has = {True}

    def fork(self, name):
        """Its job finds what there was; and changes it, which no other fork sees."""
        fork = self.mount / "@s" / name
        self.call(os.mkdir, fork)
        self.write(fork / "cmd", "cat state; echo changed >> state")
        assert self.call((fork / "output").read_text) == "state\n", self.call((fork / "error").read_text)

    def release_forks(self):
        for name in self.call(os.listdir, self.mount / "@s"):
            if name != ".pool":
                self.call(os.rmdir, self.mount / "@s" / name)

    def remove(self):
        self.release_forks()
        self.has = {False, True}
        self.call(os.rmdir, self.mount / "@s")
        self.has = {False}

    def go_on(self):
        super().go_on()
        there = "@s" in self.call(os.listdir, self.mount.path)
        assert there in self.has, self.has
        if there:
            self.release_forks()
            self.fork("later")
            self.remove()


# The scripts: what a user does, from an empty mount to an empty mount.

def work(user):
    """Most of what there is: two sandboxes, made for those who wait, then lent again."""
    a = user.make("a")
    user.set(a, "env", "WHO=you")
    first = user.submit(a, "printf out; printf err >&2; printf more; exit 7", b"outmore", b"err", 7)
    user.write(user.mount / "a/stdin", "some input\n")
    script = f"cat; echo $WHO; printf %s {'x' * 100_000} | tail -c 5; exit 3"
    second = user.submit(a, script, b"some input\nyou\nxxxxx", b"", 3)
    b = user.make("b")
    queued = user.submit(b, "echo queued", b"queued\n")
    user.set(b, "timeout", "0.3")
    late = user.submit(b, "sleep 1000", code=124, cut=True)
    user.set(b, "timeout", "100")
    user.result(a, first)
    user.result(a, second)
    ends = user.submit(a, "echo begun; exec sleep 1000", b"begun\n", b"", 137, kill=True)
    user.kill(a, ends)
    user.result(a, ends)
    user.result(b, queued)
    user.result(b, late)
    user.release(b)
    c = user.make("c")
    runs = user.submit(c, "echo begun; sleep 1000", b"begun\n", b"", 137, kill=True)
    user.read(c, runs, "stdout", runs.stdout)
    user.release(c)
    user.make("d")
    user.leave()


def renewal(user):
    """A sandbox dies, and the lease asks for another one."""
    a = user.make("a")
    user.result(a, user.submit(a, "echo one", b"one\n"))
    sandbox = user.call((user.mount / "a/environment").read_text).strip()
    a.jobs[0].gone = True
    a.murdered = sandbox
    if user.sim:
        user.mount.murder([sandbox])
    else:
        killed = processes.in_sandboxes(user.mount.state, 0)
        user.mount.murder(killed)
        assert processes.gone(killed, 5) == []
    user.renew(a)
    user.result(a, user.submit(a, "echo two", b"two\n"))
    user.leave()


def side_by_side(user):
    """Four jobs that wait for each other, so they run at the same time, and one that is out of time meanwhile."""
    def together(name, script):
        return f"touch /tmp/at.{name}; until [ $(ls /tmp/at.* | wc -l) = 4 ]; do sleep 0.02; done; {script}"

    a = user.make("a")
    numbers = b"".join(b"%d\n" % n for n in range(1, 20001))
    prints = user.plan(a, "prints", together("prints", "seq 20000; echo err >&2; exit 7"), numbers, b"err\n", 7)
    reads = user.plan(a, "reads", together("reads", "cat; echo $WHO; pwd; exit 3"), b"some input\nyou\n/usr\n", b"", 3,
                      settings={"stdin": "some input\n", "env": "WHO=you", "cwd": "/usr"})
    ends = user.plan(a, "ends", together("ends", "echo begun; exec sleep 1000"), b"begun\n", b"", 137, kill=True)
    late = user.plan(a, "late", "sleep 1000", code=124, cut=True, settings={"timeout": "0.3"})
    runs = user.plan(a, "runs", together("runs", "echo begun; exec sleep 1000"), b"begun\n", b"", 137, kill=True)
    for job in (prints, reads, ends, late, runs):
        user.ask(a, job)
    user.result(a, prints)
    user.kill(a, ends)
    for job in (late, reads, ends):
        user.result(a, job)
    user.forget(a, reads)
    user.read(a, runs, "stdout", runs.stdout)
    user.forget(a, runs)
    user.leave()


def forks(user):
    """A snapshot, two forks of it, and the end of both."""
    a = user.make("a")
    user.result(a, user.submit(a, "echo state > state"))
    user.snapshot(a)
    user.fork("one")
    user.fork("two")
    user.remove()
    user.leave()


class Points:
    """
    Runs of a script for some N, some at once, until as many did not die. Remembers where the others did.

    @again: the N at which the next starts die in turn, while they take back what there is, until one does not.
    """

    def __init__(self, mount, sim, script, user):
        self.mount, self.sim, self.script, self.user = mount, sim, script, user
        self.lasted = 0  # runs in which the daemon did not die: no two pass the same number of places
        self.problem = None
        self.died_at = collections.Counter()
        self.lives = 0
        self.lock = threading.Lock()

    def live(self, user, what, at=None):
        """A life of the daemon: whether it lasted."""
        with self.lock:
            self.lives += 1
        try:
            user.start(at)
            what(user)
            return True
        except Died:
            user.mount.listener.join()
            where = re.search(r"crash point \d+: (.*)", user.mount.log())[1]
            with self.lock:
                self.died_at[where] += 1
            return False

    def run(self, number, again):
        with self.lock:
            user = self.user(self.mount(), self.sim)
        try:
            lasted = self.live(user, self.script, number)
            if not lasted:
                for at in again:
                    if self.live(user, take_back, at):
                        user.mount.crash()
                        break
                assert self.live(user, finish)
        except BaseException as e:
            raise AssertionError(f"crash point {number} of {self.script.__name__}:\n{traceback.format_exc()}\n"
                                 + "\n".join(user.history + user.mount.lines)) from e
        return lasted

    def work(self, numbers, again):
        try:
            while self.lasted < AT_ONCE and not self.problem:
                with self.lock:
                    number = next(numbers)
                self.lasted += self.run(number, again)
        except BaseException as e:
            self.problem = self.problem or e

    def enumerate(self, numbers, again=()):
        threads = [threading.Thread(target=self.work, args=(numbers, again)) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.problem:
            raise self.problem
        for exec_id, facts in self.sim.stats()["execs"].items() if self.sim else ():
            assert facts["starts"] == 1, (exec_id, facts)


def take_back(user):
    user.check_leases()
    user.until_taken_back()


def finish(user):
    user.check_leases()
    user.go_on()
    user.leave()


def report(points, name, methods):
    """How many places there were, and that all kinds were among them."""
    kinds = collections.Counter()
    for where, n in points.died_at.items():
        kinds[where.split()[0]] += n
    print(f"\n{name}: {sum(kinds.values())} crash points in {points.lives} lives: {dict(kinds.most_common())}")
    assert set(methods) <= set(kinds), kinds


def places(settings):
    """Of places that each of these scripts passes."""
    if not settings.simulator:
        return ["journal", "carrier", "helper"]
    return ["journal", settings.rpc("SandboxCreate"), settings.rpc("SandboxTerminate"), "TaskExecStart", "TaskExecStdioRead",
            "TaskExecWait"]


# What comes before the accident in `renewal` comes in `work` too.
@pytest.mark.limit(400)
@pytest.mark.parametrize("script, first", [(work, 1), (renewal, 60), (side_by_side, 1)])
def test_every_crash_point(points, settings, script, first):
    found = points(script)
    found.enumerate(itertools.count(first if settings.simulator else 1))
    report(found, script.__name__, places(settings))


@pytest.mark.limit(400)
def test_every_crash_point_of_the_recovery(points, settings):
    """The first daemon dies in its work, the second at its first place, the third at its second, and so on."""
    found = points(work)
    found.enumerate(itertools.count(40, 37), again=range(1, 1000))
    report(found, "recovery", ["EnvironmentGetOrCreate", "AuthTokenGet", "SandboxListV2", "TaskExecStart", "TaskExecStdioRead",
                               "TaskExecWait", "journal"] if settings.simulator else places(settings))


@pytest.mark.limit(400)
def test_every_crash_point_of_a_snapshot(points, settings):
    """No snapshot and no sandbox is left without an owner."""
    found = points(forks, Forker)
    found.enumerate(itertools.count(60 if settings.simulator else 1))
    report(found, "forks", ["journal", *([settings.rpc("SandboxCreate"), "TaskSnapshotFilesystem", "ImageDelete"]
                                         if settings.simulator else ["snapshot"])])


@pytest.mark.limit(400)
def test_every_crash_point_of_its_recovery(points, settings):
    found = points(forks, Forker)
    found.enumerate(itertools.count(60 if settings.simulator else 20, 23 if settings.simulator else 7), again=range(1, 1000))
    report(found, "recovery of forks", ["journal", *(["TaskSnapshotFilesystem"] if settings.simulator else [])])
