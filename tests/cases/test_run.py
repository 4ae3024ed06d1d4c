# SPDX-License-Identifier: MIT
"""modalpool run and shell: a command in a lease as if it ran here, and nothing is left of it."""

import contextlib
import fcntl
import hashlib
import os
import pty
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

OURS = 125  # the exit status of a failure that is not the command's

# What `bash -c` and `modalpool run DIR -- bash -c` must do alike: a script, or (script, input).
COMMANDS = [
    # exit codes
    "true", "false", "exit 3", "exit 42", "exit 125", "exit 255", "exit 256", "nosuchcommand", "/etc/passwd", "/nosuch/file", "(", "set -e; false; echo no",
    "exec true", "test 1 -gt 2", "! true", "echo done; exit 9", ": $((1 / 0))", "return 3", "set -u; echo $UNSET_VARIABLE",
    # signals
    "kill -TERM $$", "kill -KILL $$", "kill -INT $$", "kill -HUP $$", "kill -USR1 $$", "kill -SEGV $$", "ulimit -c 0; kill -ABRT $$", "kill -PIPE $$", "kill -QUIT $$",
    "trap 'echo caught; exit 7' TERM; kill -TERM $$", "exec 2>&-; bash -c 'kill -9 $$'; echo $?", "exec 2>/dev/null; (kill -TERM $BASHPID); echo $?",
    # both streams
    "echo out", "echo err >&2", "echo out; echo err >&2; exit 1", "printf a; printf b >&2; printf c", "printf 'no newline'", "seq 20000", "seq 20000 >&2",
    "for i in 1 2 3; do echo o$i; echo e$i >&2; done", "echo gone >&-", "exec 2>&1; echo one; ls /nosuch", "printf ''",
    # bytes
    r"printf '\000\001\377\376'", r"printf '\303\244\r\n\t\033[0m'", "head -c 300000 /dev/zero | tr '\\0' '\\377'", "head -c 1000000 /dev/zero",
    "for i in {0..255}; do printf \"\\\\x$(printf %x $i)\"; done",
    # words
    "printf '<%s>' 'a b' '' \"c'd\" '*' '$HOME' '`x`' '\\'", "echo 'one\ntwo'", "echo \"a\\\"b\"", "set -- a 'b c' ''; echo $# \"$2\"", "echo $'\\x01\\x7f'", "echo \u00e4\u20ac",
    # input
    ("cat", b"some input\n"), ("cat", b""), ("cat", bytes(range(256)) * 40), ("wc -c", b"x" * 500000), ("head -c 3", b"abcdef"), ("read a; read b; echo $b$a", b"1\n2\n"),
    ("true", b"unread"), ("cat >&2; exit 4", b"to stderr"), ("tr a-z A-Z | rev", b"words\n"), ("bash", b"echo from a shell; exit 6\n"), ("sort -n; echo $?", b"3\n1\n2\n"),
    ("cat; cat; echo end", b"once\n"),
]


class Runner:
    """modalpool run in the directory of a mount."""

    def __init__(self, mount):
        self.mount = mount

    def argv(self, *words):
        return [self.mount.settings.program, *(words if words[0] == "shell" else ("run", *words))]

    def __call__(self, *words, **more):
        """Run it to its end: (exit status, stdout, stderr)."""
        if "input" not in more:
            more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.argv(*words), cwd=self.mount.path, capture_output=True, **more)
        return done.returncode, done.stdout, done.stderr

    @contextlib.contextmanager
    def start(self, *words, **more):
        """It runs while the block does."""
        more.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.argv(*words), cwd=self.mount.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        with process:
            try:
                yield process
            finally:
                process.kill()

    def fails(self, *words, **more):
        """It fails by itself: the one line that it says."""
        status, out, err = self(*words, **more)
        assert (status, out, err.count(b"\n")) == (OURS, b"", 1), (status, out, err)
        assert err.startswith(b"modalpool: ") and err.endswith(b"\n")
        return err.decode()[len("modalpool: "):-1]


@pytest.fixture
def run(together):
    """In the mount with a lease t1 that runs several jobs at once."""
    return Runner(together.mount)


def nothing_is_left(mount):
    assert [name for name in os.listdir(mount.path) if name.startswith("run-")] == []
    for lease in os.listdir(mount.path):
        if not lease.startswith((".", "@")):
            assert [name for name in os.listdir(mount / lease / "jobs") if name.startswith("run-")] == []


@pytest.mark.limit(120)
def test_beside_bash(run, tmp_path):
    """Exit codes, signals, input, both streams, any bytes: as if the command ran here."""
    def both(command):
        script, data = command if isinstance(command, tuple) else (command, None)
        stream = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        here = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, env={**os.environ, "LANG": "C.UTF-8"}, **stream)
        status = here.returncode if here.returncode >= 0 else 128 - here.returncode
        return script, (status, here.stdout, here.stderr), run("t1", "--", "bash", "-c", script, **stream)

    assert len(COMMANDS) >= 60
    with ThreadPoolExecutor(4) as pool:
        for script, here, there in pool.map(both, COMMANDS):
            assert there == here, script
    nothing_is_left(run.mount)


WORDS = [b"a", b"a b", b"  ", b"", b"*", b"?[a-z]", b"~", b"$HOME", b"$(exit 1)", b"`exit 1`", b"\\", b"a\\nb", b"'", b"''", b'"', b'"a b"', b"it's", b"!",
         b"#", b"; exit 1", b"&", b"|", b"<", b">", b"(", b"{a,b}", b"a\nb", b"\n", b"\t", b"-n", b"--", b"%s", b"A=1", "\u00e4\u20ac".encode(),
         b"\xff\xfe\x80", b"\x01\x1b\x7f", b"x" * 100000]


def test_words(run):
    """They are passed as they are, each by itself, however many there are."""
    status, out, err = run("-n", "t1", "--", "printf", "%s\\0", *WORDS)
    assert (status, err) == (0, b"") and out.split(b"\0")[:-1] == WORDS
    every = [bytes([byte]) for byte in range(1, 256)]
    assert run("-n", "t1", "printf", "%s\\0", *every)[1].split(b"\0")[:-1] == every
    assert run("-n", "t1", "--", "echo", "-n", "a  b") == (0, b"a  b", b"")
    assert run("-n", "t1", "--", "nosuchprogram")[0] == 127
    assert run("-n", "t1", "--", "/etc/passwd")[0] == 126
    assert run("-n", "t1", "--", "-x")[0] == 127


def test_no_words(run):
    """A shell that reads its input."""
    assert run("t1", input=b"echo one\necho two >&2\nexit 5\n") == (5, b"one\n", b"two\n")
    assert run("-n", "t1") == (0, b"", b"")
    assert run("t1", "--", input=b"echo $0") [1] in (b"bash\n", b"sh\n")


def test_input(run, tmp_path):
    """A pipe, a file, a file at an offset, none at all."""
    file = tmp_path / "input"
    file.write_bytes(b"skipped" + os.urandom(3 << 20))
    with open(file, "rb", buffering=0) as stream:
        stream.read(7)
        assert run("t1", "cat", stdin=stream) == (0, file.read_bytes()[7:], b"")
    with open(file, "rb", buffering=0) as stream:
        assert run("-n", "t1", "cat", stdin=stream) == (0, b"", b"")
        assert stream.tell() == 0
    assert run("t1", "cat", stdin=subprocess.DEVNULL) == (0, b"", b"")
    mp = run.mount
    assert mp.sh(f"{mp.settings.program} run t1 -- cat <&-").stdout == ""
    assert mp.sh(f"seq 1000 | {mp.settings.program} run t1 -- sort -n | {mp.settings.program} run t1 -- wc -l").stdout == "1000\n"


def test_live_input(run):
    """A line reaches the command when it is written, and its answer comes back before the next one."""
    with run.start("t1", "--", "bash", "-c", "while read -r line; do echo got $line; done; echo end; exit 3", stdin=subprocess.PIPE) as process:
        for i in range(20):
            process.stdin.write(b"%d\n" % i)
            process.stdin.flush()
            assert process.stdout.readline() == b"got %d\n" % i
        process.stdin.close()
        assert (process.stdout.read(), process.wait()) == (b"end\n", 3)


def test_input_that_nobody_reads(run):
    """The command ends, though its input does not; it closes its input, and goes on."""
    with run.start("t1", "true", stdin=subprocess.PIPE) as process:
        assert process.wait() == 0
    feeder = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    with feeder, run.start("t1", "head", "-n", "2", stdin=feeder.stdout) as process:
        feeder.stdout.close()
        assert (process.stdout.read(), process.wait()) == (b"y\ny\n", 0)
    feeder = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    with feeder, run.start("t1", "sh", "-c", "exec <&-; sleep 0.5; echo on", stdin=feeder.stdout) as process:
        feeder.stdout.close()
        assert (process.stdout.read(), process.wait()) == (b"on\n", 0)
    nothing_is_left(run.mount)


@pytest.mark.limit(120)
def test_much_input(run):
    """It is held back while the command does not read it, and no byte is lost on either way."""
    data = os.urandom(1 << 20) * 64
    with run.start("t1", "--", "sh", "-c", "sleep 0.5; exec cat", stdin=subprocess.PIPE) as process:
        def feed():
            with process.stdin:
                process.stdin.write(data)

        feeder = threading.Thread(target=feed)
        feeder.start()
        got = hashlib.sha256()
        while piece := process.stdout.read(1 << 20):
            got.update(piece)
        feeder.join()
        assert process.wait() == 0 and got.digest() == hashlib.sha256(data).digest()


def test_settings(run, together):
    together.write("env", "A=lease\nB=lease\n")
    together.write("cwd", "/usr\n")
    assert run("-n", "t1", "sh", "-c", "pwd; echo $A $B")[1] == b"/usr\nlease lease\n"
    assert run("-n", "-w", "/tmp", "-e", "B=a  'b'", "-e", "C=", "-e", "D", "-e", "NOT_SET_HERE", "t1", "sh", "-c", "pwd; echo \"$A|$B|$C|$D\"; env | grep -c NOT_SET",
               env={**os.environ, "D": "from here"}) == (1, b"/tmp\nlease|a  'b'||from here\n0\n", b"")
    assert together.read("env") == "A=lease\nB=lease\n" and together.read("cwd") == "/usr\n"
    status, out, err = run("-n", "--timeout", "0.3", "t1", "sleep", "1000")
    assert (status, out) == (124, b"") and err.startswith(b"modalpool: t1: timed out after 0.3 s")
    status, out, err = run("-n", "-w", "/nosuch", "t1", "pwd")
    assert (status, out, err.count(b"\n")) == (126, b"", 1) and err.startswith(b"modalpool: t1: cwd: /nosuch is not a directory")


def test_user(run, settings):
    """The command is another user's; one line tells of one that does not exist, or that there is one user."""
    if settings.provider == "local":
        assert "has one user" in run.fails("-n", "-u", "nobody", "t1", "true")
        return
    if not settings.gvisor:
        pytest.skip("bubblewrap gives the simulator's sandboxes one user")
    assert run("-n", "-u", "nobody", "t1", "id", "-un") == (0, b"nobody\n", b"")
    status, out, err = run("-n", "-u", "nosuchuser", "t1", "true")
    assert (status, out, err.count(b"\n")) == (126, b"", 1) and b"nosuchuser" in err


def test_streams_come_as_they_are_written(run):
    """The second line is not waited for; what goes to one place keeps its order."""
    with run.start("-n", "t1", "--", "sh", "-c", "echo first; echo error >&2; sleep 1000") as process:
        assert process.stdout.readline() == b"first\n"
        assert process.stderr.readline() == b"error\n"
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    done = subprocess.run(run.argv("-n", "t1", "--", "sh", "-c", "for i in $(seq 500); do echo o$i; echo e$i >&2; done"), cwd=run.mount.path,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.stdout.decode().split() == [f"{kind}{i}" for i in range(1, 501) for kind in "oe"]


def test_a_reader_that_leaves(run):
    """As a command that writes to a pipe which nobody reads: it ends by SIGPIPE."""
    with run.start("-n", "t1", "yes") as process:
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait() == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
    nothing_is_left(run.mount)
    assert run.mount.alive("yes") == []


def test_a_full_disk(run):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(run.argv("-n", "t1", "echo", "x"), cwd=run.mount.path, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (OURS, b"modalpool: standard output: No space left on device\n")
    nothing_is_left(run.mount)


def test_a_slow_reader_of_one_stream(run):
    """Who reads stderr to its end before stdout gets all of both."""
    script = "(seq 100000 & seq 100000 >&2; wait)"
    with run.start("-n", "t1", "bash", "-c", script) as process:
        lines = [next(process.stderr) for _ in range(100000)]
        assert lines[-1] == b"100000\n" and process.stdout.read().count(b"\n") == 100000
        assert process.wait() == 0


@pytest.mark.parametrize("where", ["t1", "."])
@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it(run, where, signo):
    """The job goes with all its processes, and the lease that was made for it."""
    with run.start("-n", where, "--", "bash", "-c", "trap '' TERM HUP INT; echo begun; (setsid sleep 86411 &); sleep 86412") as process:
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signo)
        assert process.wait() == 128 + signo
        assert process.stdout.read() == process.stderr.read() == b""
    nothing_is_left(run.mount)
    assert run.mount.alive("sleep") == []


def test_a_pool(run):
    """A lease for the time of the command, of its own, with all its settings."""
    mp = run.mount
    with run.start("-n", "-w", "/tmp", ".", "--", "sh", "-c", "pwd; sleep 1000") as process:
        assert process.stdout.readline() == b"/tmp\n"
        lease, = (name for name in os.listdir(mp.path) if name.startswith("run-"))
        assert (mp / lease / "status").read_text().startswith("state leased\n")
        process.terminate()
        process.wait()
    nothing_is_left(mp)
    os.mkdir(mp / "jobs")  # a lease like any other
    assert run("-n", str(mp.path), "sh", "-c", "echo $PWD; exit 4")[0] == 4
    nothing_is_left(mp)


@pytest.mark.parametrize("name,passed", [("INT", "INT"), ("QUIT", "QUIT"), ("USR1", "USR1"), ("USR2", "USR2")])
def test_signals_reach_the_command(run, name, passed):
    script = f"trap 'echo got {passed}; exit 6' {passed}; echo ready; while :; do read -t 0.1 x <> <(:); done"
    with run.start("-n", "t1", "--", "bash", "-c", script) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.wait() == 6
        assert process.stdout.read() == f"got {passed}\n".encode() and process.stderr.read() == b""
    nothing_is_left(run.mount)


def test_an_interrupt_without_a_trap(run):
    with run.start("-n", "t1", "--", "bash", "-c", "echo ready; sleep 1000") as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT


def test_the_second_interrupt_kills(run):
    with run.start("-n", "t1", "--", "bash", "-c", "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done") as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"no\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGKILL
        assert process.stderr.read() == b""
    nothing_is_left(run.mount)


def test_an_interrupt_of_a_job_that_waits(mount):
    """It has not begun: nothing is waited for."""
    mp = mount(max=1, oversubscribe=False)
    mp.lease().read("environment")
    run = Runner(mp)
    with run.start("-n", ".", "true") as process:
        mp.until(lambda: any(name.startswith("run-") for name in os.listdir(mp.path)))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
    nothing_is_left(mp)


def test_ignored_signals_stay_ignored(run):
    with run.start("-n", "t1", "--", "bash", "-c", "echo ready; read -t 1 x <> <(:); exit 3", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 3


class Terminal:
    """A program on a terminal of its own, of 30 lines and 100 columns."""

    def __init__(self, argv, cwd):
        ready, go = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.read(ready, 1)
            os.chdir(cwd)
            os.environ["TERM"] = "vt220"
            os.execv(argv[0], argv)
        self.resize(30, 100)
        os.write(go, b"x")
        os.close(go)
        os.close(ready)
        self.said = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, data):
        os.write(self.fd, data)

    def hears(self, words):
        """Read until it has said them; what came before them is dropped."""
        while words not in self.said:
            self.said += os.read(self.fd, 4096)
        self.said = self.said.partition(words)[2]

    def wait(self):
        """Its exit status, and the rest of what it says."""
        try:
            while piece := os.read(self.fd, 4096):
                self.said += piece
        except OSError:
            pass  # as the last one closes it
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self):
        os.close(self.fd)
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(run):
    opened = []

    def open_one(*words):
        opened.append(Terminal(run.argv(*words), run.mount.path))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_interrupt_key(run, terminal):
    """^C on a terminal reaches the command; the second one kills it; the terminal stays as it was."""
    one = terminal("-n", "t1", "--", "bash", "-c", "trap 'echo got it' INT; echo ready; while :; do sleep 0.1; done")
    before = termios.tcgetattr(one.fd)
    one.hears(b"ready")
    one.write(b"\x03")
    one.hears(b"got it")
    one.write(b"\x03")
    assert one.wait() == 128 + signal.SIGKILL
    assert termios.tcgetattr(one.fd) == before
    nothing_is_left(run.mount)


def test_terminal(run, terminal):
    """Of the size of the one here, which it follows; keys are the command's; the mode here comes back."""
    one = terminal("-t", "t1", "--", "bash", "-c", "tty; stty size; echo $TERM; trap 'stty size' WINCH; trap 'echo int' INT; echo ready; "
                   "until [ \"$x\" = end ]; do read -rt 0.1 x && echo \"<$x>\"; done; cat; exit 9")
    before = termios.tcgetattr(one.fd)
    one.hears(b"/dev/pts/")
    one.hears(b"30 100\r\n")
    one.hears(b"vt220\r\n")
    one.hears(b"ready\r\n")
    one.resize(44, 132)
    one.hears(b"44 132\r\n")
    one.write(b"some words\r")
    one.hears(b"<some words>\r\n")
    one.write(b"\x03")
    one.hears(b"int\r\n")
    assert termios.tcgetattr(one.fd) != before
    one.write(b"end\r")
    one.hears(b"<end>\r\n")
    one.write(b"to cat\r\x04")
    one.hears(b"to cat\r\nto cat\r\n")
    assert one.wait() == 9
    assert termios.tcgetattr(one.fd) == before
    nothing_is_left(run.mount)


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_comes_back_after_a_signal(run, terminal, signo):
    one = terminal("-t", "t1", "--", "sh", "-c", "echo ready; sleep 86413")
    before = termios.tcgetattr(one.fd)
    one.hears(b"ready")
    os.kill(one.pid, signo)
    assert one.wait() == 128 + signo
    assert termios.tcgetattr(one.fd) == before
    assert run.mount.alive("sleep") == []


def test_terminal_while_it_is_stopped(run, terminal):
    """The shell here has its terminal back, and what runs inside goes on."""
    one = terminal("-t", "t1", "--", "sh", "-c", "echo ready; read x; echo \"<$x>\"; read x")
    before = termios.tcgetattr(one.fd)
    one.hears(b"ready")
    raw = termios.tcgetattr(one.fd)
    os.kill(one.pid, signal.SIGTSTP)
    assert os.WIFSTOPPED(os.waitpid(one.pid, os.WUNTRACED)[1])
    assert termios.tcgetattr(one.fd) == before != raw
    os.kill(one.pid, signal.SIGCONT)
    one.write(b"words\r")
    one.hears(b"<words>")
    assert termios.tcgetattr(one.fd) == raw
    one.write(b"end\r")
    assert one.wait() == 0
    assert termios.tcgetattr(one.fd) == before


def test_terminal_without_one_here(run):
    """A program that wants one gets one; its input is what comes here."""
    status, out, err = run("-t", "t1", "--", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size; read x; echo \"<$x>\"", input=b"words\n")
    assert (status, err) == (0, b"") and b"24 80\r\n" in out and out.endswith(b"<words>\r\n")


def test_interrupt_before_a_terminal(mount):
    """While it waits for an environment, ^C gives up."""
    mp = mount(max=1, oversubscribe=False)
    mp.lease().read("environment")
    one = Terminal(Runner(mp).argv("shell", "."), mp.path)
    try:
        mp.until(lambda: mp.stats()["jobs"]["queued"] == 1)
        one.write(b"\x03")
        assert one.wait() == 128 + signal.SIGINT
    finally:
        one.close()
    nothing_is_left(mp)


class Tmux:
    """A person at a terminal of 24 lines and 80 columns."""

    def __init__(self, directory, argv, cwd):
        self.base = ["tmux", "-S", str(directory / "tmux"), "-f", "/dev/null"]
        self.done = directory / "done"
        command = " ".join(f"'{word}'" for word in argv) + f"; echo $? > '{self.done}'"
        self("new-session", "-d", "-x", "80", "-y", "24", command, cwd=cwd)

    def __call__(self, *words, **more):
        return subprocess.run([*self.base, *words], check=True, capture_output=True, text=True, **more).stdout

    def keys(self, *names):
        self("send-keys", *names)

    def type(self, line):
        self("send-keys", "-l", line)
        self("send-keys", "Enter")

    def sees(self, *wanted):
        """Wait until the screen has these lines; the limit of the test bounds it."""
        while not set(wanted) <= {line.strip() for line in self("capture-pane", "-p").splitlines()}:
            time.sleep(0.05)

    def status(self):
        while not (self.done.exists() and self.done.read_text()):
            time.sleep(0.05)
        return int(self.done.read_text())

    def close(self):
        subprocess.run([*self.base, "kill-server"], capture_output=True)


@pytest.mark.limit(120)
def test_shell(run, together, tmp_path):
    """A login shell for a person: its size, job control, an editor, and the exit code."""
    vim = shutil.which("vim.tiny") or shutil.which("vim")
    if not vim or not shutil.which("tmux"):
        pytest.skip("needs tmux and vim: scripts/setup --test installs them")
    person = Tmux(tmp_path, run.argv("shell", "t1"), run.mount.path)
    try:
        person.type("PS1='ready> '; clear; stty size; shopt -q login_shell && echo login")
        person.sees("24 80", "login")
        person("resize-window", "-x", "90", "-y", "30")
        person.type("clear; until [ \"$(stty size)\" = '30 90' ]; do sleep 0.1; done; stty size")
        person.sees("30 90")
        person.type("clear; echo begun; while :; do sleep 1; done")
        person.sees("begun")
        person.keys("C-c")
        person.type("code=$?; clear; echo $code")
        person.sees("130")
        person.type("clear; bash -c 'trap \"echo on again\" CONT; echo begun; while :; do sleep 0.1; done'")
        person.sees("begun")
        person.keys("C-z")
        person.sees("ready>")
        person.type("clear; jobs | grep -c Stopped; fg")
        person.sees("1", "on again")
        person.keys("C-c")
        person.type(f"clear; {os.path.realpath(vim)} -u NONE -n file")
        person.sees("~")
        person.keys("i", "written", "Escape")
        person.type(":wq")
        person.sees("ready>")
        person.type("clear; cat file; exit 7")
        assert person.status() == 7
    finally:
        person.close()
    assert together.run("cat file") == ("written\n", 0)
    nothing_is_left(run.mount)


def test_shell_has_no_timeout(run, together):
    together.write("timeout", "0.2\n")
    assert run("shell", "t1", input=b"sleep 0.5; echo on; exit 4\n")[0] == 4
    assert run("shell", "--timeout", "0.3", "t1", input=b"sleep 1000\n")[0] == 124


MAKEFILE = """
SHELL = {program}
.SHELLFLAGS = run t1 -- bash -c
targets = one two three four five six seven eight
.PHONY: all fails $(targets)
all: $(targets)
$(targets):
\t@echo "in $@  with 'quotes'"; [[ $$PWD == */t1 ]] && echo $@ > $@; cat $@
fails:
\t@exit 7
"""


@pytest.mark.limit(60)
def test_shell_of_make(run, together, tmp_path):
    """Each recipe runs in the lease, eight at a time."""
    mp = run.mount
    file = tmp_path / "Makefile"
    file.write_text(MAKEFILE.format(program=mp.settings.program))
    names = "one two three four five six seven eight".split()
    done = mp.sh(["make", "-s", "-f", str(file), "-j", "8", "all"])
    assert sorted(done.stdout.splitlines()) == sorted([*names, *(f"in {name}  with 'quotes'" for name in names)]) and done.stderr == ""
    assert sorted(together.run("ls")[0].split()) == sorted(names)
    done = mp.sh(["make", "-s", "-f", str(file), "fails"], check=False)
    assert done.returncode == 2 and "Error 7" in done.stderr
    nothing_is_left(mp)


def test_shell_of_an_agent(run):
    """A program whose shell can be set: here find, xargs, and Python."""
    mp = run.mount
    program = mp.settings.program
    assert mp.sh(f"seq 5 | xargs -P 5 -I% {program} run -n t1 -- sh -c 'echo $((% * %))' | sort -n").stdout == "1\n4\n9\n16\n25\n"
    done = subprocess.run([program, "run", "t1", "--", "bash", "-lc", "echo $((6 * 7)); exit 3"], cwd=mp.path, stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"42\n", b"")


def test_what_is_not_there(run, tmp_path):
    assert run.fails("-n", "t2", "true") == "t2: there is no such lease or pool"
    assert run.fails("-n", str(tmp_path), "true") == f"{tmp_path}: neither a lease nor a pool"
    assert run.fails("-n", "t1/cmd", "true") == "t1/cmd: neither a lease nor a pool"
    assert run.fails("-n").startswith("no directory given")
    assert run.fails("-Z", "t1").startswith("-Z: unknown")
    assert run.fails("shell", "t1", "ls") == "ls: shell takes no command; run does"
    assert "expected seconds" in run.fails("-n", "--timeout", "soon", "t1", "true")
    assert run.fails("-n", "-e", "no", "-e", "A-B=1", "t1", "true") == "-e A-B=1: expected KEY=VALUE, or KEY"
    nothing_is_left(run.mount)
    status, out, err = run("-h")
    assert status == 0 and out.startswith(b"usage: modalpool run ") and err == b""


def test_a_pool_in_the_mount(run):
    mp = run.mount
    os.mkdir(mp / "@other")
    assert run("@other", "--", "sh", "-c", "cat; exit 4", input=b"words") == (4, b"words", b"")
    assert [name for name in os.listdir(mp / "@other") if not name.startswith(".")] == []
    nothing_is_left(mp)
    os.rmdir(mp / "@other")


def test_a_full_pool(mount):
    """No more leases, or no environment in time: one line."""
    mp = mount(max=1, max_leases=2, oversubscribe=False, wait=1)
    run = Runner(mp)
    mp.lease().read("environment")
    said = run.fails("-n", ".", "true")
    assert said.startswith(".: waited 1 s for an environment; all 1 are in use")
    nothing_is_left(mp)
    mp.lease("t2")
    assert run.fails("-n", ".", "true") == ".: the pool drains, or is full: it has as many leases as max_leases allows"


def test_a_lease_with_as_many_jobs_as_may_wait(run, together):
    for i in range(64):
        os.mkdir(together / f"jobs/d{i}")
    assert run.fails("-n", "t1", "true") == "t1: as many jobs wait there, or are kept, as a lease may have"


@pytest.mark.exact
def test_a_lost_environment(run, together):
    with run.start("-n", "t1", "sh", "-c", "echo ready; sleep 1000") as process:
        assert process.stdout.readline() == b"ready\n"
        run.mount.murder(run.mount.sandboxes())
        assert process.wait() == OURS
        said = process.stderr.read()
        assert said.startswith(b"modalpool: ") and said.count(b"\n") == 1
    assert "environment" in run.fails("-n", "t1", "true")


def test_a_lease_that_is_released(run, together):
    with run.start("-n", "t1", "sh", "-c", "echo ready; sleep 1000") as process:
        assert process.stdout.readline() == b"ready\n"
        together.release()
        assert process.wait() == OURS
        said = process.stderr.read()
        assert said.startswith(b"modalpool: ") and said.count(b"\n") == 1


def test_a_lost_mount(run, tmp_path):
    """The daemon is killed while a command runs, and then there is none."""
    mp = run.mount
    with run.start("-n", "t1", "sh", "-c", "echo ready; sleep 1000") as process:
        assert process.stdout.readline() == b"ready\n"
        mp.crash()
        assert process.wait() == OURS
        said = process.stderr.read().decode()
        assert said.startswith("modalpool: t1/") and said.endswith(": the mount is gone: its daemon has ended\n") and said.count("\n") == 1
    done = subprocess.run(run.argv("-n", str(mp.path / "t1"), "true"), cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (OURS, f"modalpool: {mp.path}/t1: the mount is gone: its daemon has ended\n")


@pytest.mark.plain
def test_an_environment_that_runs_one_job_at_a_time(lease, settings):
    if settings.provider != "modal":
        pytest.skip("these environments run several")
    run = Runner(lease.mount)
    assert "runs one job at a time" in run.fails("-n", "t1", "true")
    assert "runs one job at a time" in run.fails("-n", ".", "true")
    nothing_is_left(lease.mount)
