# SPDX-License-Identifier: MIT
"""planted_bugs.py SOURCE SCRATCH XML: check that the core's simulation finds bugs.
planted_bugs.py SOURCE: check only that each of them has its place in SOURCE. TAP.

Each bug is a change of one place in the core. It is made in a copy of SOURCE below the directory SCRATCH, the
simulation is built, and some of its seeds have to fail. Each bug is a test in the file XML (JUnit).
A place is found by its text alone: it may move to another file, and must stand in pool/ exactly once."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

SEEDS = range(1, 61)
EVENTS = 25000

BUGS = [
    ("an environment goes to another user", "if (e->user == uid)\n", "if (e->user != uid || e->user == uid)\n"),
    ("an environment that could not be cleaned is lent again",
     "p->totals.clean_failures++;\n                environment_terminate(e);",
     "p->totals.clean_failures++;\n                settle(p, e);"),
    ("an environment that is not as it was is lent again", "p->totals.changed++;\n                environment_terminate(e);",
     "p->totals.changed++;\n                settle(p, e);"),
    ("an environment of which nobody can tell what was left there is lent again",
     "return sandbox_is_single_use(e->sandbox) || c->mode", "return c->mode"),
    ("an environment is lent again without a clean-up", "else if (e->workdir)\n                clean(p, e);\n        else\n"
     "                settle(p, e);", "else\n                settle(p, e);"),
    ("reset=environment is not obeyed", "c->reset == RESET_ENVIRONMENT ||\n", "\n"),
    ("max_uses is one too many", "e->uses >= c->max_uses", "e->uses > c->max_uses"),
    ("more environments than max", "if (wanted.for_claims > room)\n                wanted.for_claims = room;\n        overdue =", "overdue ="),
    ("who comes last is served first", "list_add_head(before, &c->link);", "list_add_head(&line->claims, &c->link);"),
    ("a user with many leases keeps others waiting", "newest && newest->turn >= line->turn ? newest->turn + 1 : line->turn",
     "line->turn"),
    ("a user who comes again and again is always served", "line->turn = c->turn + 1;", "line->turn = c->turn;"),
    ("a user has more environments than max_per_user", "return p->config->max_per_user == 0 || c->user->n_ahead < count_allowed(p, c->user);",
     "return true;"),
    ("an environment is made for a claim that is held back", "unsigned waiting = count_allowed_claims(p), warm",
     "unsigned waiting = p->line.n, warm"),
    ("an environment is lent until its end", "e->retire_us = end - c->min_life_us > half ? end - c->min_life_us : half;", ""),
    ("a create is not written down before it is sent",
     "r = environment_write(e); /* before anybody may hear of it */", "r = 0;"),
    ("a sandbox that ended stays in the journal", "if (result_ok(r) && !e->left)\n"
     "                (void)journal_drop_environment(all->journal, e->nonce);", ""),
    ("the use of an environment is not written down", "e->uses++;\n", "\n"),
    ("a job is not written down before it starts", "if (r == 0 && !j->written_as_starting)", "if (false)"),
    ("the end of a job is not written down before it is told", "note_end(l, j, r, code);\n        job_end", "job_end"),
    ("output is asked for from its beginning after a restart",
     "offsets[STREAM_STDOUT] = spool_size(j->spool, VIEW_STDOUT);", "offsets[STREAM_STDOUT] = 0;"),
    ("output that an earlier run refused is missed", "command.spec.output_refused = j->output_error != 0;", ""),
    ("a relative cwd does not count from the workdir", 'asprintf(&c->cwd, "%s/%s", settings->workdir, cwd)',
     'asprintf(&c->cwd, "/%s", cwd)'),
    ("the first of two values of a variable wins", "return one < other ? -1 : one > other;",
     "return one > other ? -1 : one < other;"),
    ("jobs start in the wrong order", "if (lease_has_turn(l, j))\n                        return j;",
     "if (lease_has_turn(l, j) && (j->turn.next == &l->queue || list_entry(j->turn.next, struct job, turn)->name))\n                        return j;"),
    ("a job that timed out has an exit code of its own", "*code = job_killed_code(j);", ""),
    ("a job has no time limit", "j->settings.timeout_us > 0 ? clock_after(j->started_us, j->settings.timeout_us) : USEC_NEVER",
     "USEC_NEVER"),
    ("output past output_max is dropped, and the job goes on",
     "r = spool_append(j->spool, stream, data, len);", "r = spool_append(j->spool, stream, data, len);\n"
     "        if (r == -EFBIG)\n                return;"),
    ("output over the quota is dropped, and the job goes on",
     "r = spool_append(j->spool, stream, data, len);", "r = spool_append(j->spool, stream, data, len);\n"
     "        if (r == -EDQUOT)\n                return;"),
    ("output over the quota is kept", "uint64_t room = quota_room(s->quota);", "uint64_t room = UINT64_MAX;"),
    ("the order of output is not counted", "charge(s, n * sizeof(turns[0]));", ""),
    ("output that is removed counts on", "quota_refund(s->quota, s->charged);", ""),
    ("output that an earlier run left does not count", "charge(s, st.st_size);", ""),
    ("a workdir counts as made before the first job", "l->prepared = row->prepared;", "l->prepared = true;"),
    ("the environment of a lease whose row is still there is lent again",
     "pool_retire(t->pool, &l->claim); /* after a crash", "; /* after a crash"),
    ("rows that could not be written are not put again", "(void)rewrite(all);", ";"),
    ("a deadline that a grant set is forgotten", "return clock_earlier(next, leases_due(p->leases));",
     "return next;"),
    ("the files of a released lease stay", "unlinkat(t->spool_dir, entry->d_name, 0);\n        }",
     "}"),
    ("a lost environment ends no job", "c->events->lost(c, why); /* first", "/* first"),
    ("an environment is ended while its create is under way, and forgotten", "sandbox_destroy(e->sandbox);\n}",
     "if (e->sandbox->state != SANDBOX_CREATING)\n                sandbox_destroy(e->sandbox);\n}"),
]


def place(root, old):
    """The one file of the core that holds this text."""
    found = [path for path in sorted((root / "pool").rglob("*.c")) if path.read_text().count(old) == 1]
    assert len(found) == 1, f"its place is not there exactly once, but in {[str(path) for path in found]}: {old!r}"
    return found[0]


def first_that_fails(program, scratch):
    """(seed, its last words) of the first seed that fails, or None."""
    def run(seed):
        # A seed that runs into a bug may leave its spool behind.
        (scratch / str(seed)).mkdir()
        done = subprocess.run([program, "--seed", str(seed), "--events", str(EVENTS)], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, errors="replace", env={**os.environ, "TMPDIR": str(scratch / str(seed))})
        shutil.rmtree(scratch / str(seed))
        return done

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        runs = [(seed, pool.submit(run, seed)) for seed in SEEDS]
        for seed, future in runs:
            done = future.result()
            if done.returncode:
                for _, other in runs:
                    other.cancel()
                words = [line for line in done.stdout.splitlines() if line.strip()]
                return seed, words[-1] if words else f"status {done.returncode}"
    return None


def build(root):
    done = subprocess.run(["ninja", "-C", str(root / "build"), "tests/model/simulate"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    return root / "build/tests/model/simulate"


def try_bug(root, scratch, old, new):
    path = place(root, old)
    text = path.read_text()
    try:
        path.write_text(text.replace(old, new))
        found = first_that_fails(build(root), scratch)
    finally:
        path.write_text(text)
    assert found, f"{len(SEEDS)} seeds of {EVENTS} events did not find it"
    return f"{path.relative_to(root)}: seed {found[0]}: {found[1]}"


def main(source, scratch, xml):
    source, scratch = pathlib.Path(source), pathlib.Path(scratch)
    root = scratch / "source"
    shutil.copytree(source, root, symlinks=True, ignore=lambda folder, names: [".git", "build"] if folder == str(source) else [])
    subprocess.run(["meson", "setup", "-Dbuildtype=release", "-Db_ndebug=false", str(root / "build"), str(root)], check=True,
                   stdout=subprocess.DEVNULL)
    suite = ElementTree.Element("testsuite", name="planted-bugs", errors="0", skipped="0", tests=str(len(BUGS) + 1))
    failures = 0
    for what, test in [("no bug", lambda: "no seed fails" if not first_that_fails(build(root), scratch) else fail())] + [
            (what, lambda old=old, new=new: try_bug(root, scratch, old, new)) for what, old, new in BUGS]:
        case = ElementTree.SubElement(suite, "testcase", classname="planted-bugs", name=what)
        try:
            print(f"{what}: {test()}", flush=True)
        except AssertionError as why:
            failures += 1
            ElementTree.SubElement(case, "failure").text = str(why)
            print(f"{what}: FAILED: {why}", flush=True)
    suite.set("failures", str(failures))
    ElementTree.ElementTree(suite).write(xml)
    return failures > 0


def check_places(source):
    print(f"1..{len(BUGS)}")
    for number, (what, old, _) in enumerate(BUGS, 1):
        try:
            place(pathlib.Path(source), old)
            print(f"ok {number} - {what}")
        except AssertionError as why:
            print(f"not ok {number} - {what}\n# {why}")


def fail():
    raise AssertionError("a seed fails without any bug")


if __name__ == "__main__":
    sys.exit((main if len(sys.argv) > 2 else check_places)(*sys.argv[1:]))
