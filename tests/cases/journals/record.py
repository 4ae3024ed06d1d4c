#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
record.py PROGRAM FORMAT: record what a modalpool of a released journal format leaves behind when it is killed.

For each recording it makes a directory FORMAT-NAME beside this file: the journal as SQL text, the spool, and the pool's id.
tests/cases/test_migration.py starts the program of today on them. A recording is made once, by the program that was
released, and is never changed.
"""

import contextlib
import os
import pathlib
import shutil
import sqlite3
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
sys.dont_write_bytecode = True

import conftest
import harness
from modal_sim.simulator import Simulator

# It goes on at SIGCONT, which the sleep does not mind.
RUNS = "trap go=1 CONT; echo begun; until [ $go ]; do sleep 0.1; done; echo over; exit 4"


def dump(database):
    """All of a journal as SQL text, with the number of its format."""
    lines = [line for line in database.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;")]
    version, = database.execute("PRAGMA user_version").fetchone()
    return "\n".join(["BEGIN TRANSACTION;", *lines, f"PRAGMA user_version={version};", "COMMIT;", ""])


def save(mp, out):
    """Kill the daemon and keep what it leaves."""
    mp.crash()
    state, = mp.state.iterdir()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(state / "spool", out / "spool")
    (out / "pool").write_text((state / "pool").read_text()[:36])  # the id, without the place where it was made
    with contextlib.closing(sqlite3.connect(state / "journal")) as database:
        (out / "journal.sql").write_text(dump(database))
    mp.end_what_crashed()


def until_begun(lease, number):
    with open(lease / f"jobs/{number}/output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"


def fill(mp):
    """A lease without jobs and with settings, one with a finished job, one with a job that runs and others behind it."""
    idle, done, runs = mp.lease("idle"), mp.lease("done"), mp.lease("runs")
    idle.write("cwd", "/tmp")
    idle.write("env", "GREETING=hello\nWHOM=späße\n")
    idle.write("timeout", "77")
    done.run("echo out; echo err >&2; echo kept > file; exit 3")
    runs.run("echo first")
    runs.submit(RUNS)
    runs.write("stdin", "input\n")
    runs.submit("cat; exit 5")
    runs.submit("echo long # " + "x" * 5000)
    until_begun(runs, 2)
    idle.read("environment")


def held(mp):
    """The leases above, an environment that nobody had yet, and one that a lease gave back."""
    used = mp.lease("used")
    used.run("echo used")
    fill(mp)
    used.release()
    mp.until(lambda: mp.environments()["idle"] == 1)
    mp.ctl("prewarm 2")
    mp.until(lambda: mp.environments()["idle"] == 2)


def waiting(mp):
    """A lease that waits with a job, behind a create that was not answered, and one whose job runs."""
    mp.lease("runs").submit(RUNS)
    until_begun(mp / "runs", 1)
    mp.settings.simulator.faults({"kind": "hang", "method": "SandboxCreate*", "when": "after"})
    mp.lease("waits").submit("echo at last")
    mp.settings.simulator.until(lambda stats: stats["sandboxes"]["created"] == 2)


def local(mp):
    """The leases above, and one that waits with a job, because all environments are lent."""
    fill(mp)
    mp.lease("waits").submit("echo at last")


def record(program, out, fill_it, simulator=None, **options):
    settings = conftest.Settings(program, provider="modal" if simulator else "local", simulator=simulator,
                                 environment=simulator.env({}) if simulator else {})
    with tempfile.TemporaryDirectory() as directory:
        # Without a time limit, since the job that runs began when it was recorded.
        mp = harness.Mount(settings, directory, {"timeout": 0, **options})
        try:
            fill_it(mp)
            save(mp, out)
        finally:
            mp.demolish()
    if simulator:
        simulator.reset()


def main():
    program, version = os.path.abspath(sys.argv[1]), sys.argv[2]
    record(program, HERE / f"{version}-local", local, max=3)
    with tempfile.TemporaryDirectory() as directory, Simulator(directory=directory) as simulator:
        record(program, HERE / f"{version}-modal-held", held, simulator, max=6)
        record(program, HERE / f"{version}-modal-waiting", waiting, simulator, max=2)


if __name__ == "__main__":
    main()
