# SPDX-License-Identifier: MIT
"""A job: its exit code, time limit, settings, standard input, what ctl does to it, and its history."""

import errno
import os

import pytest

from harness import seconds
from test_lease import fails

# Names of all processes in the environment but those of the job itself and those that are always there.
OTHERS = "for p in /proc/[0-9]*; do [ ${p#/proc/} = $$ ] || tr '\\0' ' ' 2>/dev/null < $p/cmdline | grep -qx 'sleep 86400 ' || cat $p/comm 2>/dev/null; done | grep -vx -e modalpool-job -e helper -e cat -e grep -e bash -e sort -e bwrap -e sh -e tr | sort"


@pytest.mark.parametrize("command,code", [
    ("true", 0), ("false", 1), ("exit 3", 3), ("exit 255", 255), ("exit 256", 0), ("kill -9 $$", 137),
    ("kill -TERM $$", 143), ("kill -INT $$", 130), ("kill -SEGV $$", 139), ("no-such-command-anywhere", 127),
    ("/etc/passwd", 126), ("if", 2), ("sh -c 'kill -9 $$'", 137), ("exec sh -c 'kill -15 $$'", 143),
])
def test_exit_codes(lease, command, code):
    lease.submit(command)
    assert lease.read("exit_code") == f"{code}\n"
    assert lease.read("jobs/1/exit_code") == f"{code}\n"
    assert lease.status("jobs/1/status")["exit_code"] == str(code)
    assert lease.read("error") == "ok\n"


def test_exit_code_waits_for_the_end(lease):
    took, code = seconds(lambda: (lease.submit("sleep 0.5; exit 4"), lease.read("exit_code"))[1])
    assert code == "4\n" and took >= 0.5
    assert (lease / "exit_code").stat().st_size == 2


def test_shell_is_fresh(lease):
    lease.run("x=1; cd /tmp; alias l=ls; export X=2")
    assert lease.run("echo $x$X; pwd; type l 2>/dev/null")[0].splitlines()[0] == ""
    assert lease.run("pwd")[0].endswith("/hermes_tasks/t1\n")


def test_files_stay_between_jobs(lease):
    lease.run("echo kept > file; mkdir -p .dot/deep")
    assert lease.run("cat file; ls -A")[0] == "kept\n.dot\nfile\n"


def test_bash_where_there_is_one(lease):
    assert lease.run("echo ${BASH_VERSION:+bash}; [[ a == a ]] && echo yes") == ("bash\nyes\n", 0)


def test_shell_option(mount):
    lease = mount(shell="/bin/dash").lease()
    assert lease.run("echo ${BASH_VERSION:-none}; echo $0") == ("none\n/bin/dash\n", 0)
    lease.submit(b"# " + b"x" * 200000 + b"\necho long")
    assert lease.read() == "long\n"


@pytest.mark.parametrize("shell", ["/no/such/shell", "nosuchshell"])
def test_shell_that_is_not_there(mount, settings, shell):
    """The start says so where it tries a sandbox; else the first one does."""
    if settings.provider == "local":
        mp = mount(start=False, shell=shell)
        assert not mp.try_to_start() and mp.status == 1
        assert mp.lines[-1].endswith(f": option shell: there is no program {shell}")
        return
    lease = mount(shell=shell, max=1).lease()
    with pytest.raises(OSError):
        lease.read("environment")
    assert f": option shell: its image has no program {shell};" in lease.read("error")
    lease.mount.expected.append("no program")


# the time limit

@pytest.mark.small
def test_timeout(lease):
    lease.write("timeout", "1\n")
    took, (output, code) = seconds(lambda: lease.run("echo before; sleep 1000 & sleep 1000; echo never"))
    assert (output, code) == ("before\n", 124)
    assert took >= 1
    assert "timed out after 1 s" in lease.read("error")
    assert lease.run(OTHERS) == ("", 1) or lease.read() == ""
    assert lease.run("echo next; exit 5") == ("next\n", 5)


TREES = ["sleep 1000 & wait", "setsid -w sleep 1000", "(setsid sleep 1000 &); sleep 1000",
         "trap '' TERM INT HUP; sleep 1000", "nohup sleep 1000 & sleep 1000",
         "bash -c 'bash -c \"sleep 1000; :\"; :'; :", "env -i sleep 1000; :",
         "while :; do sleep 1000 & sleep 0.01; done"]
# A process whose first thread has ended, and which therefore looks like a zombie.
HEADLESS = "env -i setsid /usr/bin/python3 -c 'import ctypes, threading, time; " \
           "threading.Thread(target=time.sleep, args=(1000,)).start(); ctypes.CDLL(None).syscall(60, 0)'"
# What leaves the job's session, or its environment, title or parent, behind; or stands still.
HIDDEN = ["env -i setsid sh -c 'sleep 201 &'; sleep 1000", "env -i sh -c 'setsid setsid sleep 1000 & :'; sleep 1000",
          HEADLESS + " & until grep -q '^State:.Z' /proc/$!/status; do :; done; sleep 1000", "exec env -i sleep 1000", "exec -c sleep 1000", "exec env -i setsid -w sh -c 'sleep 201 & sleep 1000'",
          "exec perl -e '$0 = \"x\" x 5000; sleep 1000'", "perl -e '$0 = \"x\" x 5000; fork; setpgrp; sleep 1000' & wait",
          "env -i setsid perl -e 'kill STOP => $$; sleep 1000' & env -i sh -c 'kill -STOP $$' & sleep 1000",
          "MODALPOOL_JOB=other setsid sh -c 'sleep 201 & sleep 202 &'; exec env MODALPOOL_JOB=another sleep 1000",
          "env -i setsid sh -c '(trap \"\" TERM; sleep 201) &'; trap 'exit 3' TERM; while :; do sleep 0.05; done"]


def skip_if_hung_up(settings, hide):
    """gVisor sends SIGHUP to a group that nobody outside it in its session has started, at each end in it while one is stopped."""
    if settings.gvisor and settings.helper and "kill -STOP $$" in hide:
        pytest.skip("gVisor sends this job SIGHUP")


@pytest.mark.parametrize("hide", TREES + HIDDEN)
def test_timeout_ends_the_whole_tree(lease, settings, hide):
    skip_if_hung_up(settings, hide)
    lease.write("timeout", "0.4")
    lease.submit(hide)
    assert lease.read("exit_code") == "124\n"
    assert lease.read("error") == "timed out after 0.4 s\n"
    assert lease.run(OTHERS + "; :")[0] == ""


@pytest.mark.parametrize("hide", HIDDEN)
def test_kill_ends_the_whole_tree(lease, settings, hide):
    skip_if_hung_up(settings, hide)
    lease.submit("echo up; " + hide)
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n" and lease.read("error") == "killed through ctl\n"
    assert lease.run(OTHERS + "; :")[0] == ""


# kill_grace

def test_timeout_sends_term_first(mount):
    lease = mount(timeout="0.3", kill_grace=60).lease()
    lease.submit("trap 'echo caught; exit 9' TERM; echo up; while :; do :; done")
    assert lease.read("exit_code") == "124\n" and lease.read() == "up\ncaught\n"


def test_kill_comes_after_the_grace(mount):
    lease = mount(timeout="0.3", kill_grace="0.5").lease()
    took, (output, code) = seconds(lambda: lease.run("trap 'echo caught' TERM; echo up; while :; do :; done"))
    assert (output, code) == ("up\ncaught\n", 124) and took >= 0.8
    assert lease.run("echo next") == ("next\n", 0)


def test_kill_cuts_the_grace_short(mount):
    lease = mount(timeout="0.3", kill_grace=86400).lease()
    lease.submit("trap 'echo caught' TERM; while :; do :; done")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(7) == b"caught\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "124\n"
    assert lease.read("error") == "timed out after 0.3 s\n"


def test_timeout_and_earlier_background_processes(lease):
    """Only the job's own tree ends; what earlier jobs left lives on."""
    lease.run("sleep 1001 & echo $! > pid")
    lease.write("timeout", "0.3")
    assert lease.run("sleep 1000 & wait")[1] == 124
    assert lease.run("kill -0 $(cat pid) && ps -o args= -p $(cat pid) 2>/dev/null || tr '\\0' ' ' < /proc/$(cat pid)/cmdline")[0].strip() == "sleep 1001"


def test_kill_and_earlier_background_processes(lease):
    """Those too that nothing ties to their job any more, and what such a one starts meanwhile."""
    lease.run("env -i setsid sleep 1001 > /dev/null 2>&1 & echo $! >> pids\n"
              "env -i setsid sh -c 'echo $$ >> pids; while :; do sleep 0.02; done' > /dev/null 2>&1 &\n"
              "until [ $(wc -l < pids) = 2 ]; do sleep 0.01; done")
    lease.submit("env -i setsid sleep 1000 & echo up; wait")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n"
    assert lease.run("kill -0 $(cat pids) && echo alive; pgrep -fx 'sleep 1000'") == ("alive\n", 1)


def test_timeout_setting(lease):
    assert lease.read("timeout") == "180\n"
    for text, shown in (("7", "7\n"), ("0.25\n", "0.25\n"), ("0", "0\n"), ("600\n", "600\n")):
        lease.write("timeout", text)
        assert lease.read("timeout") == shown
        assert (lease / "timeout").stat().st_size == len(shown)
    for text in ("x", "-1", "1 s", "1\n2\n", "nan", "inf", "1e3x", "0x10"):
        fails(errno.EINVAL, lease.write, "timeout", text)
        assert "timeout" in lease.read("error")
        assert lease.read("timeout") == "600\n"
    lease.mount.sh(": > t1/timeout")
    assert lease.read("timeout") == "180\n"


def test_timeout_of_the_pool(mount):
    mp = mount(timeout="0.3")
    lease = mp.lease()
    assert lease.read("timeout") == "0.3\n"
    assert lease.run("sleep 100")[1] == 124
    lease.write("timeout", "0")
    assert lease.run("sleep 0.5; echo no limit") == ("no limit\n", 0)


def test_settings_count_for_later_jobs_only(lease):
    lease.submit("sleep 0.4; echo $X; pwd")
    lease.write("env", "X=later\n")
    lease.write("cwd", "/tmp\n")
    lease.write("timeout", "0.1\n")
    assert lease.read().splitlines()[0] == "" and lease.read("exit_code") == "0\n"
    lease.write("timeout", "10\n")
    assert lease.run("echo $X; pwd") == ("later\n/tmp\n", 0)


# cwd and env

@pytest.mark.small
def test_cwd(lease):
    workdir = lease.read("cwd").strip()
    assert workdir.endswith("/hermes_tasks/t1")
    assert lease.run("mkdir -p 'a b/c'; pwd") == (workdir + "\n", 0)
    for text, expected in (("a b", workdir + "/a b"), ("a b/c\n", workdir + "/a b/c"), ("/tmp", "/tmp"),
                           ("..", os.path.dirname(workdir)), (".", workdir)):
        lease.write("cwd", text)
        assert lease.read("cwd").strip() == text.strip()
        assert lease.run("pwd")[0] == expected + "\n"
    lease.mount.sh("> t1/cwd")
    assert lease.run("pwd")[0] == workdir + "\n"
    assert lease.run('rm -r "$PWD"')[1] == 0
    assert lease.run("pwd; ls -A") == (workdir + "\n", 0)


def test_workdir_of_the_pool(mount):
    """It is made where it is missing, stays for the lease's next jobs, and no other lease finds what was left there."""
    where = "/srv/it's here/app"
    mp = mount(max=1, workdir=where)
    lease = mp.lease("first")
    assert lease.read("cwd") == where + "\n"
    assert lease.run("pwd; ls -A; echo kept > file") == (where + "\n", 0)
    lease.write("cwd", "sub")
    assert lease.run("mkdir -p sub")[1] == 126 and lease.run("pwd")[1] == 126
    lease.write("cwd", "")
    assert lease.run("cat file; mkdir sub") == ("kept\n", 0)
    used = lease.read("environment")
    lease.release()
    lease = mp.lease("second")
    assert lease.read("environment") != used
    assert lease.run("pwd; ls -A") == (where + "\n", 0)


def test_workdir_of_the_pool_is_not_emptied(mount):
    """It may be one of the image, with what is in it."""
    mp = mount(max=1, workdir="/etc")
    assert mp.lease().run("pwd; test -s passwd") == ("/etc\n", 0)


def test_an_error_shows_what_it_is(lease):
    """Also where what it tells of would turn the terminal around, or look like a line of its own."""
    lease.write("cwd", "/no\u202e\u0085\u2028\x1b[2Jwhere")
    lease.submit("true")
    assert lease.read("exit_code") == "126\n"
    error = lease.read("error")
    assert error.startswith("cwd: ") and not set(error[:-1]) & set("\u202e\u0085\u2028\x1b\n")


def test_cwd_that_is_not_there(lease):
    workdir = lease.read("cwd").strip()
    lease.run("echo > file")
    for text, path in (("nowhere", f"{workdir}/nowhere"), ("/no/such/place", "/no/such/place"), ("file", f"{workdir}/file"),
                       ("x" * 400, f"{workdir}/" + "x" * 400)):
        lease.write("cwd", text)
        lease.submit("echo never")
        assert lease.read("exit_code") == "126\n"
        assert lease.read() == "" and lease.read("error") == f"cwd: {path} is not a directory there\n"
    lease.write("cwd", "/tmp")
    assert lease.run("pwd") == ("/tmp\n", 0)
    fails(errno.EINVAL, lease.write, "cwd", "two\nlines\n")


@pytest.mark.small
def test_env(mount):
    mp = mount(env=["POOL=pool", "BOTH=pool, and more"])
    lease = mp.lease()
    assert lease.read("env") == ""
    assert lease.run("echo $POOL/$BOTH/$MINE")[0] == "pool/pool, and more/\n"
    lease.write("env", "MINE=a b  c'\"$(id)\nBOTH=lease\nEMPTY=\nEQ=a=b\n_u1=ü\n")
    assert lease.run("echo \"$POOL/$BOTH/$MINE/$EMPTY/$EQ\"; env | grep -c ^EMPTY=$")[0] == \
        "pool/lease/a b  c'\"$(id)//a=b\n1\n"
    lease.write("env", "TWICE=1\nTWICE=2\nPATH=$PATH:/one\nPATH=/bin:/usr/bin\nMODALPOOL_JOB=mine\n")
    assert lease.run("echo $TWICE $PATH; env | grep -c -e ^TWICE= -e ^PATH= -e ^MODALPOOL_JOB=; env | grep -c =mine$")[0] == \
        "2 /bin:/usr/bin\n3\n0\n"
    lease.write("env", "OTHER=1")
    assert lease.run("echo $MINE/$OTHER/$BOTH")[0] == "/1/pool, and more\n"
    assert lease.read("env") == "OTHER=1\n"
    for text in ("novalue\n", "=x\n", "A=1\nB\n"):
        fails(errno.EINVAL, lease.write, "env", text)
        assert "KEY=VALUE" in lease.read("error")
    for text, name in (("export D=1\n", "export D"), ("A=1\n1B=2", "1B"), ("A-B=1\n", "A-B"), ("Ü=1\n", "Ü"), (" A=1\n", " A")):
        fails(errno.EINVAL, lease.write, "env", text)
        assert f'env: "{name}" cannot be the name of a variable' in lease.read("error")
    assert lease.read("env") == "OTHER=1\n"
    mp.sh("printf '' > t1/env")
    assert lease.run("echo $OTHER")[0] == "\n"


def test_env_written_in_pieces(mp):
    lease = mp.lease()
    mp.sh("printf 'A=1\\nB=2\\nC=3\\n' > t1/env; { printf 'D='; /bin/true; printf '4'; } > t1/env")
    assert lease.run("echo $A$B$C$D")[0] == "4\n"
    mp.sh("printf 'A=1\\nB=2\\n' > t1/env")
    assert lease.run("echo $A$B")[0] == "12\n"


def test_environment_of_a_job(lease):
    """The sandbox's own variables, and nothing of the daemon's."""
    os.environ["MODALPOOL_TEST_LEAK"] = "1"
    del os.environ["MODALPOOL_TEST_LEAK"]
    output = lease.run("env")[0]
    for word in ("PATH=", "HOME=", "LANG="):
        assert word in output
    assert "PYTEST" not in output and "MODALPOOL=" not in output


@pytest.mark.parametrize("variable", ["PATH=/nonexistent", "PATH=/opt/venv/bin:$PATH", "LD_PRELOAD=/no/such.so", "IFS=/",
                                      "BASH_ENV=/tmp/rc", "ENV=/tmp/rc", "SHELLOPTS=xtrace", "CDPATH=/", "TMPDIR=/nowhere",
                                      "LC_ALL=xx_XX.UTF-8", "POSIXLY_CORRECT=1"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_environment_is_for_the_job_alone(lease, variable, size):
    """Whatever it does to programs: what starts the job is none of them, and what comes after it neither."""
    name, _, value = variable.partition("=")
    lease.write("env", variable)
    script = f"echo \"${name}\"; echo 'export BY=rc' > /tmp/rc; # " + "x" * size
    lease.submit(script)
    assert lease.read("exit_code") == "0\n" and lease.read("error") == "ok\n"
    if name not in ("IFS", "SHELLOPTS"):  # shells have their own
        assert lease.read("stdout") == value + "\n"
    if name not in ("LD_PRELOAD", "LC_ALL", "SHELLOPTS"):  # on which the job's own shell has something to say
        assert lease.read("stderr") == ""
    lease.write("env", "")
    assert lease.run("pwd; ls -A; cat /tmp/rc")[0] == lease.read("cwd") + "export BY=rc\n"


def test_environment_of_many_sizes(lease):
    """All bytes, a long one, and many."""
    entries = [b"V%d=%s" % (i, b"v" * 30) for i in range(1200)] + [b"ODD='\xff\xfe\"$(id)`id`\\", "UE=ü".encode(), b"_c=mine", b"OPTIND=x"]
    lease.write("env", b"\n".join(entries) + b"\n")
    assert lease.run("echo $V0 $V1199 $_c; printf %s \"$ODD\" | od -An -tx1 | tr -d ' \\n'; env | grep -c ^V; env | grep -c MODALPOOL_ENV")[0] == \
        "v" * 30 + " " + "v" * 30 + " mine\n" + b"'\xff\xfe\"$(id)`id`\\".hex() + "1200\n0\n"
    lease.write("env", b"LONG=" + b"\xff" * 60000)
    assert lease.run("printf %s \"$LONG\" | wc -c") == ("60000\n", 0)


# standard input

@pytest.mark.small
def test_stdin(lease):
    assert lease.run("cat; echo $?") == ("0\n", 0)
    lease.write("stdin", "for the next job\n")
    assert lease.run("cat")[0] == "for the next job\n"
    assert lease.run("cat")[0] == ""
    lease.write("stdin", "one\n")
    with open(lease / "stdin", "ab", buffering=0) as file:
        file.write(b"two\n")
    assert (lease / "stdin").stat().st_size == 8 and lease.read("stdin") == "one\ntwo\n"
    assert lease.run("cat")[0] == "one\ntwo\n"
    lease.write("stdin", "old")
    lease.write("stdin", "new")
    assert lease.run("cat")[0] == "new"
    lease.mount.sh("echo gone > t1/stdin; : > t1/stdin")
    assert lease.run("wc -c")[0] == "0\n"


def test_stdin_belongs_to_the_next_job_only(lease):
    lease.submit("sleep 0.2; cat")
    lease.write("stdin", "mine")
    lease.submit("cat")
    assert lease.read("exit_code") == "0\n"
    assert lease.read("jobs/1/output") == "" and lease.read("jobs/2/output") == "mine"


def test_large_binary_stdin(lease):
    data = bytes(range(256)) * 80000
    lease.write("stdin", b"")
    with open(lease / "stdin", "wb") as file:
        file.write(data)
    lease.submit("cat")
    assert (lease / "output").read_bytes() == data
    lease.write("stdin", data[:1 << 20])
    assert lease.run("head -c 5 | od -An -tx1")[0] == " 00 01 02 03 04\n"


# ctl

@pytest.mark.small
def test_kill(mp):
    lease = mp.lease()
    lease.submit("sleep 1000 & echo started; sleep 1000; echo never")
    lease.submit("echo next")
    lease.until_running(1)
    mp.sh("echo kill > t1/ctl")
    assert lease.read("jobs/1/exit_code") == "137\n" and lease.read("jobs/1/output") in ("started\n", "")
    assert lease.read() == "next\n"
    assert "kill" in lease.read("jobs/1/error")
    assert lease.run(OTHERS + "; :")[0] == ""
    lease.write("ctl", "kill")  # nothing runs: no error
    lease.write("ctl", "kill\nkill\n")


def test_kill_at_once(lease):
    """While it is still starting too."""
    for _ in range(20):
        lease.submit("sleep 1000")
        lease.write("ctl", "kill\n")
        assert lease.read("exit_code") == "137\n"
    assert lease.run("echo fine") == ("fine\n", 0)


def test_kill_of_a_first_job(mp):
    """Wherever the kill finds it, before the workdir was made too: the next one finds it."""
    for i in range(20):
        lease = mp.lease(f"t{i}")
        lease.submit("sleep 1000")
        lease.until_running()
        lease.write("ctl", "kill\n")
        assert lease.run("echo fine") == ("fine\n", 0)
        lease.release()


@pytest.mark.parametrize("name,number", [("INT", 2), ("SIGTERM", 15), ("usr1", 10), ("15", 15), ("KILL", 9), ("HUP", 1)])
def test_signal(lease, name, number):
    lease.submit("echo up; exec sleep 1000")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
        try:
            lease.write("ctl", f"signal {name}\n")
        except OSError:
            if name == "usr1":
                pytest.skip("names of signals are upper case")
            raise
    assert lease.read("exit_code") == f"{128 + number}\n"


def test_signal_that_is_handled(lease):
    # No sleep in the loop: bash that has just forked, and gets the signal together with its child, may hang for ever.
    lease.submit("trap 'echo caught; exit 9' INT; echo up; while :; do :; done")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(3) == b"up\n"
    lease.write("ctl", "signal INT\n")
    assert lease.read("exit_code") == "9\n" and lease.read() == "up\ncaught\n"


def test_cancel(lease):
    lease.submit("sleep 0.5; echo first")
    lease.until_running(1)
    for i in range(3):
        lease.submit(f"echo {i}")
    waiting = open(lease / "output", "rb", buffering=0)
    lease.write("ctl", "cancel\n")
    for i in (2, 3, 4):
        fails(errno.EIO, lease.read, f"jobs/{i}/exit_code")
        assert "cancelled" in lease.read(f"jobs/{i}/error")
        assert lease.status(f"jobs/{i}/status")["state"] == "ended"
    fails(errno.EIO, waiting.read, 10)
    waiting.close()
    assert lease.read("jobs/1/output") == "first\n"
    assert lease.run("echo after") == ("after\n", 0)


def test_bad_words_in_ctl(mp):
    lease = mp.lease()
    for line in ("nonsense", "kill now", "signal", "signal NOPE", "signal 0", "signal 99", "KILL", "cancel 1", "renew",
                 "kill\tx", "x" * 3000):
        fails(errno.EINVAL, lease.write, "ctl", line + "\n")
        assert line[:100].replace("\t", " ") in lease.read("error")
    done = mp.sh("echo frobnicate > t1/ctl", check=False)
    assert done.returncode == 1 and "Invalid argument" in done.stderr
    assert "frobnicate" in lease.read("error") and "kill" in lease.read("error")
    fails(errno.EINVAL, lease.write, "ctl", b"kill\0\n")
    assert {line.split()[0] for line in lease.read("ctl").splitlines()} >= {"kill", "signal", "cancel"}
    assert lease.run("echo fine") == ("fine\n", 0)
    assert lease.read("error") == "ok\n"


# history

def test_history(mount):
    mp = mount(history=3)
    lease = mp.lease()
    first = None
    for i in range(1, 7):
        lease.run(f"echo {i}")
        if i == 1:
            first = open(lease / "jobs/1/output", "rb", buffering=0)
    assert sorted(os.listdir(lease / "jobs")) == ["4", "5", "6", "latest"]
    assert os.readlink(lease / "jobs/latest") == "6"
    fails(errno.ENOENT, open, lease / "jobs/1/output")
    assert first.read() == b"1\n"
    first.close()
    assert lease.read("jobs/4/output") == "4\n"


def test_default_history(lease):
    with open(lease / "cmd", "r+b", buffering=0) as cmd:
        for i in range(1, 301):
            cmd.write(b"echo %d" % i)
            assert cmd.read() == b"%d\n" % i
    names = [n for n in os.listdir(lease / "jobs") if n != "latest"]
    assert names == [str(i) for i in range(45, 301)]
    assert all(lease.read(f"jobs/{n}/output") == f"{n}\n" for n in names)


def test_a_job_keeps_what_it_was(lease):
    lease.run("echo one; echo e >&2; exit 1")
    lease.run("echo two")
    assert lease.read("jobs/1/cmd") == "echo one; echo e >&2; exit 1"
    assert lease.read("jobs/1/stdout") == "one\n" and lease.read("jobs/1/stderr") == "e\n"
    assert lease.read("jobs/1/exit_code") == "1\n" and lease.read("jobs/1/error") == "ok\n"
