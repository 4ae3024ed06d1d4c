# SPDX-License-Identifier: MIT
"""
Journals of other versions of the program. tests/cases/journals/ keeps what released ones left when they were killed; the
program of today goes on with that. Only what must be real is put in: the ids of sandboxes, which the test makes, and the
user who runs it.
"""

import contextlib
import errno
import pathlib
import shutil
import sqlite3
import subprocess

import pytest

import drive
import harness
from test_lease import fails
from test_recovery import names

JOURNALS = pathlib.Path(__file__).parent / "journals"
RUNNING, ENDED = 2, 3  # enum job_state, as all formats have it
FORMATS = sorted(path.name.removesuffix("-local") for path in JOURNALS.glob("*-local"))


@contextlib.contextmanager
def opened(journal):
    """The journal of a daemon that is not there."""
    with contextlib.closing(sqlite3.connect(journal)) as database:
        yield database
        database.commit()


def exec_id(instance, serial, number):
    """The id of a job at the provider, which every version makes of the same three numbers."""
    high = instance & (1 << 64) - 1
    low = 2 << 62 | (high & 0xf) << 58 | serial << 24 | number
    return f"{high >> 32:08x}-{high >> 16 & 0xffff:04x}-4{high >> 4 & 0xfff:03x}-{low >> 48:04x}-{low & (1 << 48) - 1:012x}"


class Recording:
    """One directory of tests/cases/journals."""

    def __init__(self, name):
        self.directory = JOURNALS / name
        self.pool = (self.directory / "pool").read_text()[:36]
        self.rows = sqlite3.connect(":memory:")
        self.rows.executescript((self.directory / "journal.sql").read_text())
        self.made = {}  # nonce: (id, resume token) of the sandbox that stands for the recorded one

    def ask(self, sql, *values):
        return self.rows.execute(sql, values).fetchall()

    def holder(self, lease):
        """The nonce of a lease's environment."""
        return self.ask("SELECT environment FROM lease WHERE name=?", lease)[0][0]

    def make_sandboxes(self, begin):
        """A sandbox for each recorded one, in which its lease's jobs have run as far as they had."""
        for nonce, token in self.ask("SELECT nonce, ticket FROM environment WHERE id!=''"):
            with begin(self.pool) as run:
                run.tell("create", nonce)
                _, box, now = run.expect("created ok").split(" ", 2)
                for job in self.ask("SELECT instance, serial, number, lease.name, command, job.state FROM job JOIN lease"
                                    " ON lease=serial WHERE environment=? AND job.state IN (?, ?) ORDER BY number",
                                    nonce, RUNNING, ENDED):
                    self.run_job(run, *job)
            words, real = token.split(" "), now.split(" ")
            assert words[1].startswith("sb-") and words[2].startswith("ta-") and real[0] == "2" and real[5] == "-"
            # In the form of the program that was recorded: 1 SANDBOX TASK BEGAN LIFETIME PROCESSES, or that of today
            assert words[0] in ("1", "2")
            if words[0] == "1":
                words[1:4], words[5:] = real[1:4], real[6:]
            else:
                words = real
            self.made[nonce] = (box, " ".join(words))

    def run_job(self, run, instance, serial, number, lease, command, state):
        workdir = f"/root/hermes_tasks/{lease}"
        run.run(exec_id(instance, serial, number), f"mkdir -p {workdir}; cd {workdir}; {command.decode()}")
        run.expect("started")
        if state == ENDED:
            run.expect("ended ok")
        else:
            run.until_output((self.directory / f"spool/{serial}.{number}.stdout").stat().st_size)

    def make_unanswered(self, begin, sim):
        """The sandbox whose create the recorded daemon sent, and did not hear of."""
        (nonce,), = self.ask("SELECT nonce FROM environment WHERE id=''")
        before = sim.stats()["sandboxes"]["created"]
        sim.faults({"kind": "hang", "method": "SandboxCreate", "when": "after"})
        with begin(self.pool) as run:
            run.tell("create", nonce)
            sim.until(lambda stats: stats["sandboxes"]["created"] == before + 1)
        sim.faults()

    def install(self, mp):
        """What the recorded daemon left, as if it had served this mount."""
        mp.start()
        mp.crash()
        mp.lines.clear()
        state, = mp.state.iterdir()
        for path in state.glob("journal*"):
            path.unlink()
        shutil.copy(self.directory / "pool", state / "pool")
        shutil.copytree(self.directory / "spool", state / "spool", dirs_exist_ok=True)
        with opened(state / "journal") as database:
            database.executescript((self.directory / "journal.sql").read_text())
            me = mp.state.stat()
            database.execute("UPDATE lease SET uid=?, gid=?", (me.st_uid, me.st_gid))
            if "user" in {column[1] for column in database.execute("PRAGMA table_info(environment)")}:
                database.execute("UPDATE environment SET user=? WHERE uses > 0", (me.st_uid,))
            for nonce, (box, token) in self.made.items():
                database.execute("UPDATE environment SET id=?, ticket=? WHERE nonce=?", (box, token, nonce))


@pytest.fixture
def begin(settings, calm, tmp_path):
    """begin(POOL): a run of the backend alone. All sandboxes of earlier programs were V1, and had no helper."""
    program = drive.program(settings, tmp_path / "drive")
    return lambda pool: drive.Run(settings, program, "modal", pool, env={**calm.env(), "DRIVE_SANDBOX": "v1"})


def check_finished(done):
    """A job that ended under the earlier program: all of its files."""
    assert done.read("jobs/1/cmd") == "echo out; echo err >&2; echo kept > file; exit 3"
    assert (done.read("jobs/1/stdout"), done.read("jobs/1/stderr")) == ("out\n", "err\n")
    assert sorted(done.read("jobs/1/output").splitlines()) == ["err", "out"]
    assert (done.read("jobs/1/exit_code"), done.read("jobs/1/error")) == ("3\n", "ok\n")
    assert done.status()["newest"] == "1"


def check_settings(idle):
    assert (idle.read("cwd"), idle.read("env"), idle.read("timeout")) == ("/tmp\n", "GREETING=hello\nWHOM=späße\n", "77\n")
    assert idle.run("echo $GREETING $WHOM $PWD") == ("hello späße /tmp\n", 0)


def check_goes_on(mp, runs, number):
    """The job that ran goes on where its output ends on disk, and ends when it is told to."""
    mp.until(lambda: runs.status(f"jobs/{number}/status")["state"] == "running")
    assert runs.status()["running"] == str(number)
    runs.write("ctl", "signal CONT")
    assert runs.read(f"jobs/{number}/output") == "begun\nover\n" and runs.read(f"jobs/{number}/exit_code") == "4\n"


@pytest.mark.modal
@pytest.mark.exact
@pytest.mark.limit(60)
@pytest.mark.parametrize("version", FORMATS)
def test_leases_jobs_and_environments_over_modal(mount, calm, begin, version):
    recorded = Recording(f"{version}-modal-held")
    recorded.make_sandboxes(begin)
    leases = {name: recorded.made[recorded.holder(name)][0] for name in ("done", "idle", "runs")}
    (fresh,), (used,) = recorded.ask("SELECT nonce FROM environment WHERE nonce NOT IN (SELECT environment FROM lease)"
                                     " ORDER BY uses")
    fresh, used = recorded.made[fresh][0], recorded.made[used][0]
    mp = mount(start=False, max=6, reset="workdir")  # the default of the program that wrote them
    recorded.install(mp)
    mp.start()
    assert names(mp) == sorted(leases)
    done, idle, runs = (harness.Lease(mp, name) for name in sorted(leases))
    assert {name: (mp / name / "environment").read_text().strip() for name in leases} == leases
    check_settings(idle)
    check_finished(done)
    assert done.run("cat file") == ("kept\n", 0)
    assert (runs.status()["queued"], runs.read("jobs/1/output"), runs.read("jobs/1/exit_code")) == ("2", "first\n", "0\n")
    check_goes_on(mp, runs, 2)
    assert runs.read("jobs/3/output") == "input\n" and runs.read("jobs/3/exit_code") == "5\n"
    assert runs.read("jobs/4/output") == "long\n" and len(runs.read("jobs/4/cmd")) == len("echo long # ") + 5000
    # That nobody had is lent again. That somebody had is lent to the same user; to nobody, where the journal of that format
    # does not say who it was.
    ended = version == "format-1"
    new = mp.lease("new")
    assert new.read("environment").strip() == (fresh if ended else used) and new.run("echo hi") == ("hi\n", 0)
    mp.until(lambda: mp.environments()["ending"] == 0)
    assert sorted(mp.sandboxes()) == sorted([*leases.values(), fresh, *([] if ended else [used])])
    assert calm.stats()["sandboxes"] | {"live": None} == {"created": 5, "ended": {"terminated": 1} if ended else {}, "live": None}
    stats = mp.stats()
    assert (stats["environments_adopted_total"], stats["environments_created_total"]) == (4 if ended else 5, 0)


@pytest.mark.modal
@pytest.mark.exact
@pytest.mark.limit(60)
@pytest.mark.parametrize("version", FORMATS)
def test_a_create_that_was_not_answered(mount, calm, begin, version):
    recorded = Recording(f"{version}-modal-waiting")
    recorded.make_sandboxes(begin)
    recorded.make_unanswered(begin, calm)
    held = recorded.made[recorded.holder("runs")][0]
    mp = mount(start=False, max=2)
    recorded.install(mp)
    mp.start()
    assert names(mp) == ["runs", "waits"]
    runs, waits = harness.Lease(mp, "runs"), harness.Lease(mp, "waits")
    assert waits.read("jobs/1/output") == "at last\n" and waits.read("jobs/1/exit_code") == "0\n"
    check_goes_on(mp, runs, 1)
    assert runs.run("echo and on") == ("and on\n", 0)
    mp.until(lambda: mp.environments()["ending"] == 0)
    assert mp.sandboxes() == [held, waits.read("environment").strip()]
    assert calm.stats()["sandboxes"] | {"live": None} == {"created": 3, "ended": {"terminated": 1}, "live": None}


@pytest.mark.local
@pytest.mark.parametrize("version", FORMATS)
def test_leases_on_local(mount, version):
    """Local sandboxes ended with their daemon, of whatever version it was."""
    mp = mount(start=False, max=3)
    Recording(f"{version}-local").install(mp)
    mp.start()
    assert names(mp) == ["done", "idle", "runs", "waits"]
    done, idle, runs, waits = (harness.Lease(mp, name) for name in ("done", "idle", "runs", "waits"))
    for lease in done, idle, runs:
        assert lease.status()["state"] == "lost" and "ended with the daemon" in lease.read("error")
    check_finished(done)
    assert (runs.read("jobs/1/output"), runs.read("jobs/1/exit_code")) == ("first\n", "0\n")
    with open(runs / "jobs/2/output", "rb", buffering=0) as output:
        assert output.read(100) == b"begun\n"
        fails(errno.EIO, output.read, 100)
    for number in 2, 3, 4:
        fails(errno.EIO, runs.read, f"jobs/{number}/exit_code")
        assert "ended with the daemon" in runs.read(f"jobs/{number}/error")
    assert waits.read("jobs/1/output") == "at last\n" and waits.read("jobs/1/exit_code") == "0\n"
    idle.write("ctl", "renew")
    check_settings(idle)


@pytest.mark.local
@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("options", [{}, {"reset": "clean"}])
def test_a_new_default(mount, version, options):
    """Who goes on with what an earlier version left is told once, unless the option is set."""
    def told():
        return sum("option reset: the default is clean now" in line for line in mp.lines)
    mp = mount(**options)
    assert told() == 0
    mp.stop()
    mp = mount(start=False, **options)
    Recording(f"{version}-local").install(mp)
    mp.start()
    assert told() == (0 if options else 1) and all("reset=workdir" in line for line in mp.lines if "default is clean" in line)
    mp.crash()
    mp.lines.clear()
    mp.start()
    assert told() == 0


def test_a_journal_of_a_later_program(mount):
    """Neither the daemon nor reap touches it, and both say what to do."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("echo kept")
    mp.crash()
    journal, = mp.state.rglob("journal")
    with opened(journal) as database:
        (now,), = database.execute("PRAGMA user_version")
        database.execute(f"PRAGMA user_version={now + 1}")
    before = journal.read_bytes()
    refused = subprocess.run(mp.command(), capture_output=True, text=True, env=mp.environment)
    for done in refused, mp.reap():
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr == f"modalpool: journal {journal}: written by a later version of modalpool\n"
    assert journal.read_bytes() == before
    with opened(journal) as database:
        database.execute(f"PRAGMA user_version={now}")
    mp.lines.clear()
    mp.start()
    assert lease.read("jobs/1/output") == "kept\n"


def test_unknown_states(mount):
    """A row with a state that no version knows: the log names it, and nothing else is lost."""
    mp = mount(max=2)
    one, two = mp.lease("one"), mp.lease("two")
    for lease in one, two:
        assert lease.run("echo kept") == ("kept\n", 0)
    one.run("echo unknown")
    mp.crash()
    journal, = mp.state.rglob("journal")
    with opened(journal) as database:
        database.execute("UPDATE job SET state=9 WHERE number=2")
        database.execute("UPDATE lease SET state=-1 WHERE name='two'")
    mp.lines.clear()
    mp.start()
    assert any("lease=one job=2: unknown state 9 in the journal" in line for line in mp.lines)
    assert any("lease=two: unknown state -1 in the journal" in line for line in mp.lines)
    assert names(mp) == ["one", "two"]
    for lease in one, two:
        assert lease.read("jobs/1/output") == "kept\n" and lease.read("jobs/1/exit_code") == "0\n"
    assert one.status("jobs/2/status")["state"] == "ended"
    fails(errno.EIO, one.read, "jobs/2/exit_code")
    assert "state in the journal is unknown" in one.read("jobs/2/error")
    assert two.status()["state"] == "lost" and "state in the journal is unknown" in two.read("error")
    two.write("ctl", "renew")
    assert two.run("ls -A") == ("", 0)
