# SPDX-License-Identifier: MIT
"""What a sandbox may plant below root/: nothing of it makes its user read, write, open or run anything outside, or wait."""

import errno
import os
import shutil
import stat
import subprocess
import time

import pytest

from test_root import files  # noqa: F401

SECRET = "the secret of this machine"
NOBODY = 65534

# Links, by what they lead to. SECRET and OUT are a file and a directory of this machine.
LINKS = [
    "/etc/passwd", "/etc/shadow", "/", "//", "/.", "/..", "/../../..", "/../../../../../../../../../../../etc/passwd",
    "..", "../..", "../../..", "../../../../../../../../../../../../etc/passwd", "../" * 60 + "etc/passwd",
    "./../../../../../../../etc/hostname", "x/../../../../../../../../etc/passwd", "real/../../../../../../../../../etc/passwd",
    "away/../../../../../../etc/passwd", "away/../secret", "/proc/self/environ", "/proc/self/root", "/proc/self/cwd",
    "/proc/1/root/etc", "/proc/self/fd/0", "/dev/zero", "/dev/null", "/dev/stdin", "/dev/fd/0", "/dev/tty", "/sys/kernel/notes",
    "loop", "loop2", "self/self/self", ".", "./././.", "SECRET", "OUT", "OUT/secret", "SECRET/../secret", "../" * 9 + "SECRET",
    "x" * 255, "x/" * 1000, "a\nb", "\x1b[2J", "~", "~root", "$HOME", "`id`", "cmd", "../cmd", "../../cmd", "../../../../cmd",
    "../../../../../cmd", "../../../../../../cmd",
]
WIDE = {"/", "//", "/.", "/..", "/../../..", "..", "../..", "../../..", ".", "./././."}  # following these is a walk through all
OTHERS = r"""
mkfifo fifo; ln fifo fifo2
python3 - <<'EOF'
import os, socket, stat
s = socket.socket(socket.AF_UNIX); s.bind("socket")
for name, kind, device in [("zero", stat.S_IFCHR, (1, 5)), ("disk", stat.S_IFBLK, (7, 0)), ("tty", stat.S_IFCHR, (5, 0))]:
    try:
        os.mknod(name, kind | 0o666, os.makedev(*device))
    except OSError:
        pass
for name in [b"\xff\xfe", b"new\nline", b"-rf", b"--help", b" ", b"*", b"\x1b[31m", b"a" * 255, b"\xe2\x80\xae", b"'\"`$(id)", b"\\"]:
    open(name, "w").write("odd")
    os.mkdir(name + b".d" if len(name) < 250 else b"dd")
with open("sparse", "w") as f:
    os.ftruncate(f.fileno(), (1 << 43) - 1)
open("young", "w").write("x")
os.utime("young", (1 << 33, 1 << 33))
open("old", "w").write("x")
os.utime("old", (-(1 << 31), -(1 << 31)))
EOF
cp "$(command -v id)" setuid; chmod 6755 setuid
mkdir real; ln -s /tmp away; : > empty; chmod 0 empty
ln -s loop2 loop; ln -s loop loop2; ln -s self self
mkdir -p deep; (cd deep; for i in $(seq 60); do mkdir d; cd d; done; echo bottom > bottom)
"""


@pytest.fixture
def planted(files, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    (out / "secret").write_text(SECRET)
    files.out = out
    script = OTHERS
    for i, target in enumerate(LINKS):
        target = target.replace("SECRET", str(out / "secret")).replace("OUT", str(out)).replace("'", "'\\''")
        script += f"ln -s '{target}' 'link{i}'\n"
    files.submit(script)
    assert files.read("exit_code") == "0\n", files.read()
    return files


def test_links_stay(planted):
    """Whatever a link leads to, it is below root/."""
    d, top = planted.files, os.path.realpath(planted / "root")
    workdir = os.path.realpath(d)
    for i, target in enumerate(LINKS):
        path = d / f"link{i}"
        shown = os.readlink(path)
        depth = workdir[len(top):].count("/")
        parts = [part for part in shown.split("/") if part not in ("", ".")]
        ups = parts.count("..")
        assert not shown.startswith("/") and ups <= depth and parts[:ups] == [".."] * ups, shown
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as e:
            assert e.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES), (shown, e)
            continue
        assert real == top or real.startswith(top + "/"), (target, shown, real)


TOOLS = {
    "cat": "cat {d}/* 2>/dev/null | head -c 30000000",
    "grep -r": "grep -ra --exclude=sparse secret {d}",
    "grep -R": "cd {d}; grep -Ras --exclude=sparse secret {n} real",
    "find -L": "find -L {d} -maxdepth 3",
    "tar -c": "tar --exclude=sparse -C {d} -cf - . | grep -ac secret",
    "tar -h": "tar --exclude=sparse -hC {d} -cf - {n} | head -c 20000000 | grep -ac secret",
    "cp -r": "cp -r $(ls -d {d}/[!s]* | grep -v ' ') {to}; ls {to}",
    "cp -rL": "cd {d}; for i in {n}; do cp -rL $i {to}/; done",
    "du": "du -s {d}",
    "ls": "ls -laR {d}",
    "stat": "stat -L {d}/*",
    "walk": "python3 -c 'import os, sys; print(sum(len(f) for _, _, f in os.walk(sys.argv[1])))' {d}",
    "rsync -L": "cd {d}; rsync -rL --exclude=sparse --max-size=1m {n} {to}/",
    "run": "{d}/setuid -u",
    "write": "for i in {d}/link*; do echo bad > $i; done; true",
}


@pytest.mark.limit(120)
@pytest.mark.parametrize("user", ["owner", pytest.param("another", marks=pytest.mark.root)])
@pytest.mark.parametrize("tool", TOOLS)
def test_tools(planted, tmp_path, tool, user):
    """Each tool ends, and shows nothing of this machine, and changes nothing of it."""
    if tool.startswith("rsync") and not shutil.which("rsync"):
        pytest.skip("there is no rsync")
    to = tmp_path / "to"
    to.mkdir(mode=0o777)
    before = {name: os.stat(name).st_mtime_ns for name in ("/etc/passwd", "/etc/hostname", planted.out, planted.out / "secret")}
    narrow = " ".join(f"link{i}" for i, target in enumerate(LINKS) if target not in WIDE)
    script = TOOLS[tool].format(d=f"'{planted.files}'", to=f"'{to}'", n=narrow)
    as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if user == "another" else []
    done = subprocess.run([*as_user, "bash", "-c", script], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=110, env={**os.environ, "MARK": SECRET})
    assert SECRET.encode() not in done.stdout + done.stderr
    assert {name: os.stat(name).st_mtime_ns for name in before} == before
    assert (planted.out / "secret").read_text() == SECRET
    for path, _, names in os.walk(to):
        for name in names:
            found = os.lstat(os.path.join(path, name))
            if stat.S_ISREG(found.st_mode):
                with open(os.path.join(path, name), "rb") as file:
                    assert SECRET.encode() not in file.read(1 << 20)
    assert planted.run("echo on") == ("on\n", 0)


def test_what_is_special(planted):
    d = planted.files
    for name in ("fifo", "socket"):
        assert stat.S_ISSOCK(os.lstat(d / name).st_mode)
        with pytest.raises(OSError):
            os.open(d / name, os.O_RDWR)
    for name in ("zero", "disk", "tty"):
        if os.path.lexists(d / name):
            with pytest.raises(OSError) as e:
                os.open(d / name, os.O_RDONLY)
            assert e.value.errno in (errno.EACCES, errno.ENXIO)
    assert os.stat(d / "sparse").st_size == (1 << 43) - 1
    with open(d / "sparse", "rb") as f:
        f.seek((1 << 43) - 10)
        assert f.read() == b"\0" * 9
    flags = next(line.split()[3] for line in open("/proc/self/mounts") if line.split()[1] == str(planted.mount.path))
    assert {"nosuid", "nodev"} <= set(flags.split(","))
    for name in ("proc", "dev", "sys"):
        if os.path.isdir(planted / "root" / name):
            assert os.listdir(planted / "root" / name) == []
    assert os.listdir(d / "deep/d/d/d") == ["d"]
    names = os.listdir(os.fsencode(d))
    with open(os.fsencode(d) + b"/\xff\xfe") as file:
        assert b"\xff\xfe" in names and b"new\nline" in names and file.read() == "odd"


def test_a_directory_that_changes(files):  # noqa: F811
    """A job puts links in place of directories and back, while they are walked."""
    files.submit("mkdir -p a/b/c; echo in > a/b/c/f; while true; do mv a/b a/x; ln -s /etc a/b; rm a/b; mv a/x a/b; done")
    here = {f"a/b/{name}": open(f"/etc/{name}").read() for name in ("hostname", "fstab", "crontab") if os.path.exists(f"/etc/{name}")}
    there = files.mount.lease("there")
    other = {path: there.run(f"cat /etc/{os.path.basename(path)} 2>/dev/null")[0] for path in here}
    seen, until = set(), time.monotonic() + 3
    while time.monotonic() < until:
        for path in [*here, "a/b/c/f"]:
            try:
                with open(files.files / path) as file:
                    seen.add((path, file.read()))
            except OSError as e:
                assert e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP), e
    files.write("ctl", "kill\n")
    for path, text in seen:
        assert text == ("in\n" if path == "a/b/c/f" else other[path])


@pytest.mark.limit(90)
def test_many_names(files):  # noqa: F811
    """100,000 names: all are there once, and the lease answers meanwhile."""
    assert files.run("mkdir many; cd many; seq 100000 | xargs touch")[1] == 0
    with subprocess.Popen(["ls", "-U", str(files.files / "many")], stdout=subprocess.PIPE, text=True) as ls:
        assert files.run("echo on") == ("on\n", 0)
        found = ls.stdout.read().split()
    assert len(found) == 100_000 == len(set(found))
