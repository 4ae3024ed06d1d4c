# SPDX-License-Identifier: MIT
"""The mount used by common programs: shells, languages, and file tools."""

import os
import subprocess
import tarfile

import pytest

import processes

ROUND = {
    "bash": ["bash", "-c", "mkdir t1 && echo 'echo hi; exit 3' > t1/cmd && echo \"$(< t1/output)\" && read c < t1/exit_code && echo $c && rmdir t1"],
    "dash": ["dash", "-c", "mkdir t1 && echo 'echo hi; exit 3' > t1/cmd && cat t1/output t1/exit_code && rmdir t1"],
    "python3": ["python3", "-c", "import os; os.mkdir('t1'); open('t1/cmd', 'w').write('echo hi; exit 3');"
                "print(open('t1/output').read() + open('t1/exit_code').read(), end=''); os.rmdir('t1')"],
    "node": ["node", "-e", "const f = require('fs'); f.mkdirSync('t1'); f.writeFileSync('t1/cmd', 'echo hi; exit 3');"
             "process.stdout.write(f.readFileSync('t1/output', 'utf8') + f.readFileSync('t1/exit_code', 'utf8')); f.rmdirSync('t1')"],
    "perl": ["perl", "-e", "mkdir 't1' or die; open F, '>', 't1/cmd'; print F 'echo hi; exit 3'; close F;"
             "for (qw(output exit_code)) { open F, '<', \"t1/$_\" or die; print <F>; close F } rmdir 't1' or die"],
    "tee": ["bash", "-c", "mkdir t1; echo 'echo hi; exit 3' | tee t1/cmd > /dev/null; tee < t1/output; tee < t1/exit_code; rmdir t1"],
    "dd": ["bash", "-c", "mkdir t1; echo 'echo hi; exit 3' | dd of=t1/cmd status=none; dd if=t1/output status=none;"
           "dd if=t1/exit_code bs=1 status=none; rmdir t1"],
    "cp": ["bash", "-c", "mkdir t1; echo 'echo hi; exit 3' > ../script; cp ../script t1/cmd; cp t1/output ../out;"
           "cp t1/exit_code ../code; cat ../out ../code; rm ../script ../out ../code; rmdir t1"],
    "heredoc": ["bash", "-c", "mkdir t1; cat > t1/cmd << 'END'\necho hi\nexit 3\nEND\ncat t1/output t1/exit_code; rmdir t1"],
    "here-string": ["bash", "-c", "mkdir t1; cat <<< 'echo hi; exit 3' > t1/cmd; cat t1/output t1/exit_code; rmdir t1"],
    "exec": ["bash", "-c", "mkdir t1; exec 3<> t1/cmd; echo 'echo hi; exit 3' >&3; cat <&3; exec 3>&-; cat t1/exit_code; rmdir t1"],
    "awk": ["awk", "BEGIN { system(\"mkdir t1\"); print \"echo hi; exit 3\" > \"t1/cmd\"; close(\"t1/cmd\");"
            "while ((getline line < \"t1/output\") > 0) print line; getline line < \"t1/exit_code\"; print line; system(\"rmdir t1\") }"],
    "curl": ["bash", "-c", "mkdir t1; echo 'echo hi; exit 3' > ../script; curl -s -o t1/cmd file://$PWD/../script; rm ../script;"
             "cat t1/exit_code > /dev/null; curl -s file://$PWD/t1/output; curl -s file://$PWD/t1/exit_code; rmdir t1"],
    "sed": ["bash", "-c", "mkdir t1; echo 'echo hi; exit 3' > t1/cmd; sed '' t1/output t1/exit_code; rmdir t1"],
    "xargs": ["bash", "-c", "echo t1 | xargs mkdir; printf 'echo hi; exit 3' > t1/cmd; printf 't1/output\\0t1/exit_code\\0' | xargs -0 cat; rmdir t1"],
    # Its cat uses sendfile, which does not wait (test_sendfile_does_not_wait): read first waits for the end.
    "busybox": ["busybox", "sh", "-c", "mkdir t1 && echo 'echo hi; exit 3' > t1/cmd && read code < t1/exit_code && cat t1/output t1/exit_code && rmdir t1"],
    "ruby": ["ruby", "-e", "Dir.mkdir('t1'); File.write('t1/cmd', 'echo hi; exit 3'); print File.read('t1/output') + File.read('t1/exit_code'); Dir.rmdir('t1')"],
    "git": ["bash", "-c", "mkdir t1; echo 'echo hi; exit 3' > t1/cmd; cat t1/exit_code >/dev/null;"
            "git diff --no-index --no-color /dev/null t1/output | sed -n 's/^+hi/hi/p'; cat t1/exit_code; rmdir t1"],
}


@pytest.mark.parametrize("tool", sorted(ROUND))
def test_round(mp, need, tool):
    need(ROUND[tool][0], *([tool] if tool in ("curl", "git") else []))
    assert mp.sh(ROUND[tool]).stdout == "hi\n3\n"
    assert os.listdir(mp.path) == [".pool"]


@pytest.mark.small
def test_c_program(mp, compiled):
    assert mp.sh([compiled("round"), "t1", "echo hi; exit 3"]).stdout == "hi\n3\n"
    assert os.listdir(mp.path) == [".pool"]


def test_c_stdio(mp, compiled):
    """fopen, fprintf, fread: buffers of 4096 bytes, so many writes make one command."""
    mp.lease()
    assert mp.sh([compiled("stdio"), "t1"]).stdout == "60000 lines\n"


@pytest.fixture
def done(lease):
    """A lease with three finished jobs."""
    lease.run("echo needle; seq 1000")
    lease.run("echo err >&2; exit 3")
    lease.run("echo last needle")
    return lease


def test_find(done):
    found = done.mount.sh("find t1 | sort").stdout.splitlines()
    assert {"t1", "t1/cmd", "t1/jobs", "t1/jobs/latest", "t1/jobs/3/exit_code"} <= set(found) and "t1/root" not in found
    assert done.mount.sh("find t1 -type f -size 0 | sort").stdout.split() == \
        ["t1/env", "t1/jobs/1/stderr", "t1/jobs/2/stdout", "t1/jobs/3/stderr", "t1/stderr", "t1/stdin", "t1/user", "t1/watch"]
    assert done.mount.sh("find t1/jobs -name exit_code -exec cat {} + ").stdout.split() == ["0", "3", "0"]


@pytest.mark.small
def test_grep(done):
    assert sorted(done.mount.sh("grep -rl needle t1").stdout.split()) == sorted(
        [f"t1/jobs/{i}/{f}" for i in (1, 3) for f in ("cmd", "output", "stdout")] + ["t1/cmd", "t1/output", "t1/stdout"])
    assert done.mount.sh("grep -c '' t1/jobs/1/output").stdout == "1001\n"


def test_cp(done, tmp_path):
    done.mount.sh(["cp", "-r", "t1", str(tmp_path / "copy")])
    copy = tmp_path / "copy"
    for name in ("output", "exit_code", "cmd", "cwd", "timeout", "jobs/1/output", "jobs/2/stderr", "jobs/2/exit_code", "jobs/1/cmd"):
        assert (copy / name).read_text() == done.read(name), name
    assert os.readlink(copy / "jobs/latest") == "3"
    assert done.mount.sh(f"diff -r t1/jobs {copy}/jobs").stdout == ""


def test_tar(done, tmp_path):
    result = done.mount.sh(["tar", "cf", str(tmp_path / "t.tar"), "t1"])
    assert result.stderr == ""
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert tar.extractfile("t1/jobs/1/output").read().decode() == done.read("jobs/1/output")
        assert tar.extractfile("t1/exit_code").read() == b"0\n"
        assert tar.getmember("t1/jobs/latest").linkname == "3"


def test_sizes(done):
    size = len(done.read("jobs/1/output"))
    assert done.mount.sh("wc -c < t1/jobs/1/output; wc -l < t1/jobs/1/output; stat -c %s t1/jobs/1/output;"
                         "du -b t1/jobs/1/output | cut -f1; ls -l t1/jobs/1/output | awk '{ print $5 }'").stdout.split() == \
        [str(n) for n in (size, 1001, size, size, size)]
    assert int(done.mount.sh("du -sb t1").stdout.split()[0]) >= size
    assert done.mount.sh("du -s t1 .").returncode == 0


def test_head_and_tail(done):
    assert done.mount.sh("head -n 2 t1/jobs/1/output; tail -n 1 t1/jobs/1/output; tail -c 3 t1/jobs/1/output; head -c 3 t1/output").stdout == \
        "needle\n1\n1000\n00\nlas"
    assert done.mount.sh("sort -rn t1/jobs/1/output | head -n 1; cut -c1-2 t1/output; md5sum t1/output | wc -c; od -c t1/exit_code | head -n 1; "
                         "cmp t1/jobs/1/output t1/jobs/1/stdout; sha256sum < t1/output | wc -c; uniq t1/output; tac t1/output; nl t1/output").returncode == 0


def test_head_of_an_endless_job(lease):
    """head ends when it has enough; the job goes on until somebody ends it."""
    lease.submit("yes")
    assert lease.mount.sh("head -n 3 t1/output").stdout == "y\ny\ny\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n"


@pytest.mark.small
def test_tail_f(lease):
    """It shows lines as they come."""
    lease.submit("for i in 1 2 3; do echo line $i; sleep 0.2; done")
    tail = subprocess.Popen(["tail", "-n", "+1", "-s", "0.1", "-f", "output"], cwd=lease.path, stdout=subprocess.PIPE, text=True)
    assert [tail.stdout.readline() for _ in range(3)] == ["line 1\n", "line 2\n", "line 3\n"]
    tail.kill()
    tail.communicate()
    done = lease.mount.sh(f"sleep 0.3 & tail -f -s 0.1 --pid=$! t1/output")
    assert done.stdout == "line 1\nline 2\nline 3\n"


@pytest.mark.parametrize("script", ["find t1", "grep -r x t1/ || true", "cp -r t1 ../copy", "tar cf /dev/null t1", "du -a t1",
                                    "find t1 -type f -exec wc -c {} +", "ls -laR t1", "find t1 -type f -exec head -n 1 {} +", "rm -rf t1"])
def test_tools_end_on_a_fresh_lease(lease, script):
    """No job was ever submitted: nothing waits."""
    lease.mount.sh(script)


@pytest.mark.parametrize("script", ["find .", "ls -laR .", "du -a .", "stat t1/* t1/jobs", "rm -rf t1", "find . -type f -size +0", "tree . || true"])
def test_tools_that_read_nothing_never_wait(lease, script):
    """Even while a job runs."""
    lease.submit("sleep 1000")
    lease.mount.sh(script)


def test_recursive_readers_wait_for_the_job_only(lease):
    lease.submit("sleep 0.5; echo needle\n")
    done = lease.mount.sh("find t1 -type f -exec cat {} + > ../all; grep -c ^needle$ ../all; rm ../all; cp -r t1 ../copy;"
                          "cat ../copy/output ../copy/exit_code; rm -r ../copy")
    assert done.stdout == "4\nneedle\n0\n"


def test_grep_asks_without_waiting(lease):
    """GNU grep opens with O_NONBLOCK below a directory: it says that a running job's files have no end yet."""
    lease.submit("sleep 1000")
    done = lease.mount.sh("grep -r needle t1", check=False)
    assert done.returncode == 2 and "t1/output: Resource temporarily unavailable" in done.stderr


def test_shell_completion_and_globs(done):
    assert done.mount.sh("echo t1/jobs/*/exit_code; echo t1/e*").stdout == \
        "t1/jobs/1/exit_code t1/jobs/2/exit_code t1/jobs/3/exit_code t1/jobs/latest/exit_code\n" \
        "t1/env t1/environment t1/error t1/exit_code\n"


def test_ripgrep(done, need):
    need("rg")
    assert "t1/output" in done.mount.sh("rg -l needle t1").stdout


def test_rsync(done, need, tmp_path):
    need("rsync")
    done.mount.sh(["rsync", "-r", "--links", "t1/jobs/", str(tmp_path / "copy")])
    assert (tmp_path / "copy/1/output").read_text() == done.read("jobs/1/output")


def test_vim_style_writers(lease):
    """Editors that write a new file and rename it are refused; those that write in place work."""
    result = lease.mount.sh("python3 -c \"import os; open('t1/.cmd.swp', 'w')\"", check=False)
    assert result.returncode != 0 and "Operation not permitted" in result.stderr
    lease.mount.sh("printf '%s\\n' 'echo edited' | ed -s t1/cmd > /dev/null 2>&1 || true")
    assert processes.stat(lease.mount.pid)
