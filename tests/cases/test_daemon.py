# SPDX-License-Identifier: MIT
"""The program: how it starts, refuses, goes to the background and ends."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import harness
import processes


def close(descriptors):
    for fd in descriptors:
        os.close(fd)


@pytest.fixture
def modalpool(settings, tmp_path):
    """Run the program with arguments, to its end: it must not have mounted anything."""
    def run(*arguments, closed=(), **more):
        more.setdefault("env", {**os.environ, "HOME": str(tmp_path)})
        return subprocess.run([settings.program, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, cwd=tmp_path, preexec_fn=lambda: close(closed), **more)
    return run


def one_line(done, *words):
    """One clear line, and a failure."""
    assert done.returncode == 1, done
    assert done.stdout == "" and done.stderr.count("\n") == 1 and done.stderr.startswith("modalpool: "), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_help_and_version(modalpool):
    done = modalpool("-h")
    assert done.returncode == 0 and "MOUNTPOINT" in done.stdout and "oversubscribe" in done.stdout and not done.stderr
    done = modalpool("-V")
    assert done.returncode == 0 and done.stdout.startswith("modalpool ") and not done.stderr


@pytest.mark.parametrize("options,words", [
    ("nonsense=1", ["nonsense"]), ("nonsense", ["nonsense"]), ("max=0", ["max=0", "1"]), ("max=x", ["max=x"]), ("max", ["max"]),
    ("max=-1", ["max"]), ("min=5", ["min=5", "max=4"]), ("wait=soon", ["wait=soon", "seconds"]), ("oversubscribe=maybe", ["yes or no"]),
    ("mode=both", ["pool", "direct"]), ("isolate=docker", ["bwrap", "none"]), ("base=relative", ["absolute"]), ("base=", ["base"]),
    ("output_max=1Q", ["output_max"]), ("env=NOVALUE", ["KEY=VALUE"]), ("config=/no/such/file", ["/no/such/file"]),
    ("workdir=app", ["workdir=app", "absolute"]),
    ("workdir=/a/hermes_tasks/b", ["workdir=/a/hermes_tasks/b", "single leases"]), ("ready=tcp:80", ["option ready=tcp:80", "local has no readiness probes"]), ("fault=earthquake:1", ["earthquake"]), ("fault=create", ["create"]), ("fault=create:2", ["create", "0 to 1"]),
])
def test_bad_options(modalpool, tmp_path, options, words):
    (tmp_path / "mnt").mkdir()
    for flags in (["-f"], []):
        one_line(modalpool(*flags, "-o", f"state={tmp_path}/state,{options}", tmp_path / "mnt"), *words)
    assert not harness.mounted(tmp_path / "mnt")
    assert list((tmp_path / "mnt").iterdir()) == []


def test_bad_command_lines(modalpool, tmp_path):
    (tmp_path / "mnt").mkdir()
    state = f"state={tmp_path}/state"
    one_line(modalpool(), "mountpoint")
    one_line(modalpool("-o", state, "a", "b", "c"))
    one_line(modalpool("-x", tmp_path / "mnt"), "-x")
    one_line(modalpool("-o"), "-o")
    one_line(modalpool("-o", state, "nobackend", tmp_path / "mnt"), "nobackend")
    one_line(modalpool("-o", state, tmp_path / "nowhere"), "nowhere")
    (tmp_path / "file").write_text("")
    one_line(modalpool("-o", state, tmp_path / "file"), "file", "directory")
    one_line(modalpool("-o", f"state={tmp_path}/file", tmp_path / "mnt"), "state")


@pytest.mark.root
def test_state_directory_of_somebody_else(modalpool, tmp_path):
    """Another user cannot prepare it with a journal whose jobs would run as the daemon's user."""
    (tmp_path / "mnt").mkdir()
    prepared = tmp_path / "prepared"
    prepared.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(prepared)
    for state, user in ((prepared, 12345), (prepared / "sub", 12345), (tmp_path / "link", 12345)):
        os.chown(prepared, user, -1)
        one_line(modalpool("-o", f"state={state}", tmp_path / "mnt"), "state directory", str(prepared), f"belongs to user {user}",
                 "-o state=DIR")
    os.chown(prepared, 0, -1)
    os.chown(tmp_path / "link", 12345, -1, follow_symlinks=False)
    one_line(modalpool("-o", f"state={tmp_path}/link", tmp_path / "mnt"), "link of user 12345")
    assert list(prepared.iterdir()) == []


def test_state_directory_for_everybody(modalpool, mount, tmp_path):
    """It is refused if anybody can rename it; a sticky parent is accepted."""
    (tmp_path / "mnt").mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    one_line(modalpool("-o", f"state={shared}/state", tmp_path / "mnt"), "state directory", f"{shared} can be written by other users")
    assert list(shared.iterdir()) == []
    shared.chmod(0o1777)
    assert mount(state=shared / "state").lease().run("echo fine") == ("fine\n", 0)


def test_bad_config_files(modalpool, tmp_path):
    (tmp_path / "mnt").mkdir()
    for text, words in (("{", [":1"]), ("[]", ["object"]), ('{"nonsense": 1}', ["nonsense"]), ('{"max": "many"}', ["max=many"]),
                        ('{"max": null}', ["max"]), ('{"max": 1, "max": 2}', ["max"]), ("", ["config.json"])):
        (tmp_path / "config.json").write_text(text)
        one_line(modalpool("-o", f"state={tmp_path}/state,config={tmp_path}/config.json", tmp_path / "mnt"), *words)
    one_line(modalpool("-o", f"state={tmp_path}/state", tmp_path / "mnt", env={**os.environ, "TERMINAL_MODAL_POOL_MAX": "lots"}),
             "TERMINAL_MODAL_POOL_MAX", "lots")


@pytest.mark.parametrize("variable,value,option", [
    ("TERMINAL_ENV", "docker", "backend"), ("TERMINAL_ENV", "ssh", "backend"), ("TERMINAL_ENV", "singularity", "backend"),
    ("TERMINAL_ENV", "daytona", "backend"), ("TERMINAL_ENV", "vercel_sandbox", "backend"), ("TERMINAL_MODAL_MODE", "auto", "mode"),
    ("TERMINAL_MODAL_MODE", "managed", "mode"), ("TERMINAL_CWD", ".", "base"), ("TERMINAL_CWD", "~", "base"),
    ("TERMINAL_CWD", "auto", "base"), ("TERMINAL_CWD", "cwd", "base"),
])
def test_values_of_hermes(mount, variable, value, option):
    """Values that only Hermes-Agent understands do not prevent the start, and are logged once."""
    mp = mount(environment={variable: value})
    assert [line for line in mp.lines if variable in line] == [
        f"modalpool: environment variable {variable}={value}: means something to Hermes-Agent only, passed over"]
    found = json.loads((mp / ".pool/config").read_text())[option]
    assert found["source"] == ("command line" if option == "backend" else "default") and found["value"] != value


@pytest.mark.parametrize("variable,value", [("TERMINAL_ENV", "dokcer"), ("TERMINAL_MODAL_MODE", "both"), ("TERMINAL_CWD", "work"),
                                            ("TERMINAL_CWD", "~/work"), ("TERMINAL_TIMEOUT", "soon")])
def test_wrong_variables(modalpool, tmp_path, variable, value):
    (tmp_path / "mnt").mkdir()
    one_line(modalpool("-o", f"state={tmp_path}/state", tmp_path / "mnt", env={**os.environ, variable: value}), variable, value)


@pytest.mark.local
def test_missing_bubblewrap(modalpool, tmp_path, settings):
    """The message says what to install, and how to do without."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "bin").mkdir()
    for flags in (["-f"], []):
        done = modalpool(*flags, "-o", f"state={tmp_path}/state", tmp_path / "mnt", env={"PATH": str(tmp_path / "bin")})
        one_line(done, "bwrap", "apt-get install bubblewrap", "isolate=none")
    assert not harness.mounted(tmp_path / "mnt")
    assert list((tmp_path / "state").rglob("*")) == []


def test_already_mounted(mp, modalpool, tmp_path):
    one_line(modalpool("-o", f"state={mp.state}", mp.path), "another modalpool", str(mp.path))
    one_line(modalpool("-o", f"state={tmp_path}/other", mp.path), "already", str(mp.path))
    one_line(modalpool("-f", "-o", f"state={tmp_path}/other", mp.path), "already")
    one_line(modalpool("-o", f"state={tmp_path}/other", str(mp.path) + "/"), "already")
    (tmp_path / "link").symlink_to(mp.path)
    one_line(modalpool("-o", f"state={tmp_path}/other2", tmp_path / "link"), "already")
    one_line(modalpool("-o", f"state={tmp_path}/other3", os.path.relpath(mp.path, tmp_path)), "already")
    assert mp.lease().run("echo unharmed") == ("unharmed\n", 0)


def test_two_mounts_with_one_state_directory(mount, tmp_path):
    first = mount(state=tmp_path / "shared")
    second = mount(state=tmp_path / "shared")
    assert first.lease().run("echo 1")[0] + second.lease().run("echo 2")[0] == "1\n2\n"


# the background

@pytest.fixture
def background(settings, tmp_path):
    """Start in the background; ends it by unmounting, and checks that it went."""
    mounts = []

    def start(*arguments, path=None, name=None, cwd=None, closed=()):
        path = path or tmp_path / "back"
        path.mkdir(exist_ok=True)
        before = processes.descendants()
        while True:
            done = subprocess.run([settings.program, *arguments, settings.provider, name or str(path)], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, cwd=cwd or tmp_path,
                                  env={**os.environ, **settings.environment}, preexec_fn=lambda: close(closed))
            if done.returncode == 0 or not harness.may_pass(settings, done.stderr):
                break
        assert done.returncode == 0, done.stderr
        mounts.append((path, [pid for pid in processes.descendants() if pid not in before]))
        return path, done

    yield start
    for path, pids in mounts:
        if harness.mounted(path):
            subprocess.run(["umount", path] if os.geteuid() == 0 else ["fusermount3", "-u", path], check=True)
        assert processes.gone(pids, 20) == []


@pytest.mark.small
def test_background(background, tmp_path):
    """When the command ends, the mount answers. It prints nothing and holds no descriptor."""
    path, done = background("-o", f"state={tmp_path}/state,max=2")
    assert (done.stdout, done.stderr) == ("", "")
    assert os.listdir(path) == [".pool"]
    shell = subprocess.run("mkdir t1 && echo 'echo hi; exit 3' > t1/cmd && cat t1/output t1/exit_code && rmdir t1", shell=True,
                           cwd=path, stdout=subprocess.PIPE, text=True)
    assert shell.stdout == "hi\n3\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_descriptors(background, modalpool, tmp_path, closed):
    """Cron jobs and daemons start programs like that: it serves and exits with 0, or does not and exits with 1."""
    path, _ = background("-o", f"state={tmp_path}/state", closed=closed)
    assert processes.read(path / ".pool/config")
    assert modalpool("-o", f"state={tmp_path}/state", path, closed=closed).returncode == 1
    shell = subprocess.run("mkdir t1 && echo 'echo hi' > t1/cmd && cat t1/output t1/exit_code && rmdir t1", shell=True, cwd=path,
                           stdout=subprocess.PIPE, text=True)
    assert shell.stdout == "hi\n0\n"


def test_relative_mountpoint(background, tmp_path):
    (tmp_path / "dir/mnt").mkdir(parents=True)
    path, _ = background("-o", f"state={tmp_path}/state", path=tmp_path / "dir/mnt", name="./mnt/", cwd=tmp_path / "dir")
    assert (path / ".pool").is_dir()
    assert (path / "t1").mkdir() is None and (path / "t1/environment").read_text()


def test_unmount(mount):
    """Unmounting stops the daemon, which exits with 0 and leaves nothing."""
    mp = mount()
    lease = mp.lease()
    lease.submit("sleep 1000 & sleep 1000")
    lease.until_running()
    subprocess.run(["fusermount3", "-u", mp.path] if os.geteuid() else ["umount", mp.path], check=True)
    mp.stop(signo=None)


def test_lazy_unmount_with_readers(mount):
    mp = mount()
    lease = mp.lease()
    lease.submit("sleep 1000")
    lease.until_running()
    reader = subprocess.Popen(["cat", lease / "output"], stderr=subprocess.DEVNULL)
    subprocess.run(["fusermount3", "-uz", mp.path] if os.geteuid() else ["umount", "-l", mp.path], check=True)
    mp.process.send_signal(signal.SIGTERM)
    mp.stop(signo=None)
    assert reader.wait() == 1


@pytest.mark.small
@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_while_idle(mount, signo):
    mp = mount(min=1)
    mp.until(lambda: mp.environments()["idle"] == 1)
    mp.stop(signo)


def test_signals_to_the_very_end(mount):
    """Signals arrive again and again, even while the loop is freed: the daemon ends anyway and leaves nothing."""
    for _ in range(10):
        mp = mount()
        mp.process.send_signal(signal.SIGTERM)
        while mp.process.poll() is None:
            mp.process.send_signal(signal.SIGHUP)
        mp.stop(signo=None)


def test_idle_is_not_busy(mount):
    """A signal that ends a long sleep does not make it a turn of the loop."""
    mp = mount(min=1)
    mp.until(lambda: mp.environments()["idle"] == 1)
    time.sleep(1.5)
    mp.process.send_signal(signal.SIGTERM)
    mp.process.wait()
    mp.stop(signo=None)
    assert "the event loop was busy" not in mp.log()


def test_nohup(mount):
    """Started with nohup, it outlives the terminal."""
    mp = mount(start=False)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        mp.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    mp.process.send_signal(signal.SIGHUP)
    assert mp.lease().run("echo on") == ("on\n", 0)
    mp.stop()


@pytest.mark.modal
@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGHUP])
def test_a_terminal_ends_a_start(settings, calm, tmp_path, signo):
    """^C and a hangup reach all started processes, which end at once: no mount appears afterwards."""
    calm.faults({"kind": "hang", "method": "AppGetOrCreate"})
    (tmp_path / "mnt").mkdir()
    started = subprocess.Popen([settings.program, "-o", f"state={tmp_path}/state,stop_timeout=1000", "modal", tmp_path / "mnt"],
                               stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **settings.environment},
                               start_new_session=True)
    calm.until(lambda stats: "hang AppGetOrCreate" in stats["faults"])
    pids = [*processes.descendants(started.pid), started.pid]
    os.killpg(started.pid, signo)
    assert started.wait() == -signo and processes.gone(pids, 20) == []
    assert not harness.mounted(tmp_path / "mnt") and not list((tmp_path / "state").iterdir())


def test_stop_while_creating(mount):
    mp = mount(max=8, min=8)
    mp.lease()
    mp.stop()


def test_stop_under_load(mount):
    """Users who continue while it stops get errors, and none of their processes hangs."""
    mp = mount(max=3)
    script = "while mkdir $0 && echo 'echo hi' > $0/cmd && cat $0/output && rmdir $0; do :; done > /dev/null 2>&1"
    users = [subprocess.Popen(["bash", "-c", script, name], cwd=mp.path) for name in "abcdef"]
    mp.until(lambda: mp.stats()["leases_granted_total"] > 20)
    mp.stop()
    for user in users:
        user.wait()


def test_dead_mount_is_cleared(mount):
    """After kill -9 the next start of the same mount succeeds."""
    mp = mount()
    mp.lease().run("true")
    mp.crash()
    assert harness.mounted(mp.path)
    mp.lines.clear()
    mp.start()
    assert mp.lease("t2").run("echo again") == ("again\n", 0)


def test_daemon_log(mount):
    mp = mount(log="debug")
    mp.lease("name").run("true")
    text = mp.log()
    for line in ("lease=name environment=", "job=1: running", f"environment={mp.settings.prefix}", "mounted at"):
        assert line in text, line
    quiet = mount(log="info")
    quiet.lease().run("true")
    assert "job=1" not in quiet.log()


def test_nothing_of_a_job_is_logged(mount):
    """Commands, variables and input may hold secrets."""
    mp = mount(log="debug")
    lease = mp.lease()
    lease.write("env", "TOKEN=hunter2-env\n")
    lease.write("stdin", "hunter2-stdin")
    lease.run("echo hunter2-cmd; cat")
    lease.release()
    mp.stop()
    assert "hunter2" not in mp.log()


# mount(8)

@pytest.mark.local
@pytest.mark.root
def test_mount_helper(settings, tmp_path, need):
    """`mount -t fuse.modalpool`, with the helper where `meson install` puts it: in a mount namespace of its own."""
    need("meson", "unshare", "mount")
    build = pathlib.Path(settings.program).parents[1]
    if not (build / "meson-private").is_dir():
        pytest.skip("the program is not in a meson build directory")
    installed = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", tmp_path / "dest"],
                               capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    helper = next((tmp_path / "dest").rglob("mount.fuse.modalpool"))
    prefix = helper.parents[1]
    inside = "/" + str(prefix.relative_to(tmp_path / "dest"))
    if not os.path.isdir(inside):
        pytest.skip(f"{inside} is not there to be covered")
    (tmp_path / "mnt").mkdir()
    script = f"""set -e
mount --make-rprivate /
mount --bind {prefix} {inside}
mkdir {tmp_path}/up {tmp_path}/work
mount -t overlay -o lowerdir=/usr/sbin,upperdir={tmp_path}/up,workdir={tmp_path}/work none /usr/sbin
ln -sf {inside}/{helper.relative_to(prefix)} /usr/sbin/mount.fuse.modalpool
mount -t fuse.modalpool -o rw,noatime,x-systemd.automount,max=3,state={tmp_path}/state local {tmp_path}/mnt
cd {tmp_path}/mnt
grep -A1 '"max"' .pool/config | tr -d ' \\n'; echo
mkdir t1; echo 'echo hi' > t1/cmd; cat t1/output; rmdir t1
cd /
umount {tmp_path}/mnt
"""
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if "overlay" in done.stderr or "bind" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    assert done.stdout == '"max":{"value":3,\nhi\n', done.stderr


def test_mount_helper_flags(settings, modalpool, tmp_path):
    """mount -f does everything but mount; the flags of mount(8) are taken."""
    (tmp_path / "mnt").mkdir()
    helper = tmp_path / "mount.fuse.modalpool"
    helper.symlink_to(settings.program)
    run = lambda *a: subprocess.run([helper, *map(str, a)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    done = run("local", tmp_path / "mnt", "-f", "-n", "-s", "-v", "-o", f"rw,nosuid,nodev,state={tmp_path}/state,max=2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not harness.mounted(tmp_path / "mnt")
    done = run("none", tmp_path / "mnt", "-f", "-o", "rw,nonsense=1")
    assert done.returncode != 0 and "nonsense" in done.stderr


# it lasts

@pytest.mark.quick
@pytest.mark.exact
@pytest.mark.limit(120)
def test_nothing_grows(mount):
    """After hundreds of leases and jobs: no more descriptors, hardly more memory, no files."""
    mp = mount(max=2, log="info")

    def work(n):
        for i in range(n):
            lease = mp.lease(f"t{i}")
            lease.run("echo out; echo err >&2")
            lease.run("echo again")
            lease.release()
        mp.until_settled()

    def size():
        memory = next(int(line.split()[1]) for line in processes.read(f"/proc/{mp.pid}/status").splitlines()
                      if line.startswith("VmRSS"))
        return len(os.listdir(f"/proc/{mp.pid}/fd")) - 2 * len(processes.children(mp.pid)), memory

    few = 100 if mp.settings.provider == "local" else 30
    work(few)
    before = size()
    work(4 * few)
    after = size()
    print(f"descriptors and kB before {before}, after {after}")
    assert after[0] <= before[0] + 1
    assert after[1] < before[1] + 4096
    assert sorted(p.name for p in mp.state.rglob("*") if p.is_file()) == ["journal", "journal-wal", "lock", "pool"]
    assert sum(p.stat().st_size for p in mp.state.rglob("journal*")) < 8 << 20
