# SPDX-License-Identifier: MIT
"""Users: a lease belongs to its maker, and the kernel enforces that."""

import os
import shutil
import subprocess

import pytest

from test_lease import FILES

pytestmark = pytest.mark.root
ALICE, BOB = 60001, 60002
NOBODY = 65534  # has a name in every /etc/passwd, which fusermount3 wants


@pytest.fixture
def share(mount, tmp_path):
    """share(max=1, …): a mount that others may use, at a place that they can reach."""
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == os.geteuid() and str(path) != "/" and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    return lambda **options: mount(allow_other=True, **options)


@pytest.fixture
def shared(share):
    return share()


def as_user(mp, uid, script):
    return subprocess.run(["bash", "-c", script], cwd=mp.path, user=uid, group=uid, extra_groups=[],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})


@pytest.mark.small
def test_each_has_its_own(shared):
    for uid, name in ((ALICE, "alice"), (BOB, "bob")):
        done = as_user(shared, uid, f"mkdir {name} && echo 'echo {name}; exit 3' > {name}/cmd && cat {name}/output {name}/exit_code")
        assert done.stdout == f"{name}\n3\n", done.stderr
        found = (shared / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (uid, uid, 0o700)
    assert as_user(shared, BOB, "ls").stdout == "alice\nbob\n"


@pytest.mark.small
def test_others_get_nothing(shared):
    """Neither read, write, list, look up, release nor rename."""
    as_user(shared, ALICE, "mkdir alice && echo 'echo secret' > alice/cmd && cat alice/output")
    for script in ["ls alice", "cat alice/output", "echo id > alice/cmd", "echo kill > alice/ctl", "cat alice/jobs/1/cmd",
                   "stat alice/cmd", "cd alice", "rmdir alice", "rm -rf alice", "mv alice mine", "chmod 755 alice",
                   "chown $(id -u) alice", "test -r alice", "test -x alice", "find alice -name cmd | grep .",
                   "echo x > alice/new", "mkdir alice/x", "python3 -c 'import os; os.rmdir(\"alice\")'",
                   "truncate -s 0 alice/cmd", "touch alice/cmd", "ln -s alice/cmd x"]:
        done = as_user(shared, BOB, script)
        assert done.returncode != 0 and done.stdout == "", (script, done)
    assert as_user(shared, ALICE, "cat alice/jobs/1/output; ls alice/jobs").stdout == "secret\n1\nlatest\n"
    assert set(os.listdir(shared / "alice/jobs")) == {"1", "latest"}


def leave_secrets(mp, uid, name):
    """A lease that leaves something outside of its workdir; the environment it had."""
    script = f"mkdir {name} && echo 'echo secret > ~/.netrc; echo secret > /var/tmp/key' > {name}/cmd && cat {name}/exit_code {name}/environment"
    done = as_user(mp, uid, script)
    assert done.stdout.startswith("0\n"), done
    assert as_user(mp, uid, f"rmdir {name}").returncode == 0
    mp.until_settled()
    return done.stdout.splitlines()[1]


READ_SECRETS = "cat ~/.netrc /var/tmp/key 2>/dev/null"


@pytest.mark.small
@pytest.mark.exact
def test_environments_do_not_pass_between_users(share):
    """No user sees what another left in a sandbox, even if that costs a sandbox; the same user gets the sandbox again."""
    mp = share(max=1, reset="workdir")
    alices = leave_secrets(mp, ALICE, "alice")
    again = as_user(mp, ALICE, f"mkdir alice && echo '{READ_SECRETS}' > alice/cmd && cat alice/output alice/environment && rmdir alice")
    assert again.stdout == f"secret\nsecret\n{alices}\n"
    mp.until_settled()
    done = as_user(mp, BOB, f"mkdir bob && echo '{READ_SECRETS}' > bob/cmd && cat bob/output bob/environment")
    assert done.stdout != f"{alices}\n" and done.stdout.count("\n") == 1, done
    mp.until_settled()
    assert mp.environments() == {"creating": 0, "idle": 0, "leased": 1, "cleaning": 0, "ending": 0}
    assert mp.stats()["oversubscribed_total"] == 0


@pytest.mark.exact
def test_nor_after_a_crash(share):
    """The next daemon knows which user had them."""
    mp = share(max=1, reset="workdir")
    alices = leave_secrets(mp, ALICE, "alice")
    mp.crash()
    mp.start()
    done = as_user(mp, BOB, f"mkdir bob && echo '{READ_SECRETS}' > bob/cmd && cat bob/output bob/environment")
    assert done.stdout.count("\n") == 1, done
    if mp.settings.simulator:  # a local one had ended, and its name is used again
        assert done.stdout != f"{alices}\n"


def test_root_may(shared):
    as_user(shared, ALICE, "mkdir alice")
    (shared / "alice/cmd").write_text("echo by root")
    assert (shared / "alice/output").read_text() == "by root\n"
    assert set(os.listdir(shared / "alice")) == FILES
    (shared / "alice").rmdir()


def test_what_all_may_see(shared):
    """Everybody may read the pool's state; its control and its events are for the owner of the mount."""
    for name in ("status", "stats", "metrics", "config"):
        assert as_user(shared, BOB, f"cat .pool/{name}").returncode == 0
    for script in ("cat .pool/events", "echo drain > .pool/ctl", "cat .pool/ctl", "rm .pool/stats", "mkdir .pool/x"):
        assert as_user(shared, BOB, script).returncode != 0
    assert as_user(shared, BOB, "mkdir bob && rm -rf bob && ls").stdout == ""


def test_open_files_pass_between_users(shared):
    """A process that got an open descriptor from the owner may use it, as everywhere in Unix."""
    as_user(shared, ALICE, "mkdir alice")
    with open(shared / "alice/cmd", "wb", buffering=0) as cmd:
        done = subprocess.run(["echo", "echo passed"], stdout=cmd, user=BOB, group=BOB, extra_groups=[])
    assert done.returncode == 0
    assert (shared / "alice/output").read_text() == "passed\n"


def test_without_allow_other(mount, tmp_path):
    mp = mount()
    mp.lease()
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and str(path) != "/":
            path.chmod(path.stat().st_mode | 0o011)
    done = subprocess.run(["ls", str(mp.path)], user=BOB, group=BOB, extra_groups=[], capture_output=True, text=True)
    assert done.returncode != 0 and "Permission denied" in done.stderr


@pytest.mark.local
def test_daemon_of_an_ordinary_user(mount, settings, tmp_path):
    """Without root: fusermount3 mounts, bubblewrap isolates."""
    if not shutil.which("fusermount3") or not os.stat(shutil.which("fusermount3")).st_mode & 0o4000:
        pytest.skip("fusermount3 is not setuid here")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("/dev/fuse is not for ordinary users here")
    if subprocess.run(["bwrap", "--ro-bind", "/", "/", "true"], user=NOBODY, group=NOBODY, extra_groups=[],
                      capture_output=True).returncode != 0:
        pytest.skip("bubblewrap does not run for ordinary users here")
    program = tmp_path / "bin/fs/modalpool"
    program.parent.mkdir(parents=True)
    shutil.copy(settings.program, program)
    (tmp_path / "bin/pool").mkdir()
    shutil.copy(os.path.join(os.path.dirname(settings.program), "../pool/modalpool-helper"), tmp_path / "bin/pool")
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and str(path) != "/":
            path.chmod(path.stat().st_mode | 0o011)
    mp = mount(start=False)
    for path in (mp.directory, mp.path, mp.state):
        os.chown(path, NOBODY, NOBODY)
    log = open(tmp_path / "log", "w+")
    words = mp.command()
    words[words.index(settings.program)] = str(program)
    done = subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                          env={"PATH": os.environ["PATH"], "HOME": str(mp.directory)})
    log.seek(0)
    assert done.returncode == 0, log.read()
    try:
        done = subprocess.run(["sh", "-c", 'cd "$0" && mkdir t1 && echo "id -u; echo hi" > t1/cmd && cat t1/output && rmdir t1',
                               str(mp.path)], cwd="/", user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True)
        assert done.stdout == "0\nhi\n", done.stderr
    finally:
        subprocess.run(["fusermount3", "-u", str(mp.path)], user=NOBODY, group=NOBODY, extra_groups=[], check=True)


@pytest.mark.small
def test_quota_of_each(share):
    """Who fills his share takes nothing from the other."""
    mp = share(spool_max_per_user="100K", max=2)
    done = as_user(mp, ALICE, "mkdir alice && echo 'head -c 200000 /dev/zero' > alice/cmd; "
                              "wc -c < alice/output; cat alice/exit_code alice/error; head -c 9000 /dev/zero > alice/stdin")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["102400", "137"], done
    assert f"spool_max_per_user, 102400 bytes for all that user {ALICE} keeps" in lines[2]
    assert "quota" in done.stderr.lower(), done  # EDQUOT
    done = as_user(mp, BOB, "mkdir bob && echo 'head -c 100000 /dev/zero' > bob/cmd; wc -c < bob/output; cat bob/exit_code")
    assert done.stdout == "100000\n0\n", done
    done = as_user(mp, ALICE, "rmdir alice; mkdir alice && echo 'head -c 100000 /dev/zero' > alice/cmd; "
                              "wc -c < alice/output; cat alice/exit_code")
    assert done.stdout == "100000\n0\n", done
