# SPDX-License-Identifier: MIT
"""The package itself: leases, jobs, results, files, errors."""

import asyncio
import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, ends, leases

import modalpool


@pytest.fixture
def lease(mount):
    with modalpool.Lease(mount.path) as made:
        yield made
    assert leases(mount) == []


def jobs(lease):
    return sorted(set(os.listdir(lease.path + "/jobs")) - {"latest"})


def test_types():
    """The package says its types, and mypy has nothing against them."""
    assert (pathlib.Path(modalpool.__file__).parent / "py.typed").exists()
    files = [f"modalpool/{name}.py" for name in ("__init__", "errors", "files", "job", "lease", "pool", "seed")]
    subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, *files], cwd=ROOT / "scripts/adapters",
                   check=True)


def test_run(lease):
    r = lease.run("echo hi; echo oh >&2; exit 3", timeout=10)
    assert (r.exit_code, r.end, r.output, r.stdout, r.stderr) == (3, "failed", "hi\noh\n", "hi\n", "oh\n")
    assert r.signal is None and r.error is None and not r.ok and r.submitted <= r.started <= r.ended <= time.time() + 1
    with pytest.raises(modalpool.JobError, match="(?s)exit code 3.*hi"):
        r.check()
    assert lease.run("echo only >&2").check().output == "only\n"
    assert lease.run(["printf", "%s|", "a b", "$HOME", "it's"]).stdout == "a b|$HOME|it's|"
    assert lease.run("printf '\\377x'").stdout_bytes == b"\xffx"
    assert lease.run("printf '\\377x'").stdout == "\ufffdx"
    assert jobs(lease) == []


def test_limit(lease):
    """Of a long output the first bytes."""
    r = lease.run("seq 100000; seq 100 >&2", limit=10)
    assert r.truncated and r.stdout == r.output == "1\n2\n3\n4\n5\n" and r.stderr == "1\n2\n3\n4\n5\n"
    assert not lease.run("echo 12345", limit=6).truncated and lease.run("echo 12345", limit=5).stdout == "12345"
    assert lease.run("echo x; echo y >&2", limit=0).output == ""
    lease.write_file("f", "12345")
    assert lease.read_file("f", limit=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes") as caught:
        lease.read_file("f", limit=4)
    assert caught.value.errno == errno.EFBIG


def test_settings(mount):
    with modalpool.Lease(mount.path, "t1", cwd="/usr", env={"A": "1", "B": "2"}, timeout=30) as lease:
        show = 'pwd; echo "$A $B $C"; cat'
        assert lease.run(show).output == "/usr\n1 2 \n"
        assert lease.run(show, cwd="/tmp", env={"B": "two\nlines", "C": "3"}, stdin="in").output == "/tmp\n1 two\nlines 3\nin"
        assert lease.run("cat", stdin=b"\0\xff").stdout_bytes == b"\0\xff"
        with pytest.raises(modalpool.Error) as caught:
            lease.run("true", env={"no name": "x"})
        assert caught.value.errno == errno.EINVAL
        assert jobs(lease) == []


def test_ends(lease):
    """Each end is told by its word, and 124 of a command is no timeout."""
    r = lease.run("echo begun; sleep 1000", timeout=0.3)
    assert (r.end, r.exit_code, r.output) == ("timeout", 124, "begun\n") and "timed out" in r.error
    r = lease.run("exit 124", timeout=10)
    assert (r.end, r.exit_code, r.error) == ("failed", 124, None)
    r = lease.run("kill -TERM $$")
    assert (r.end, r.exit_code, r.signal) == ("failed", 143, 15)
    r = lease.run("true", cwd="/nowhere")
    assert r.exit_code == 126 and "/nowhere" in r.error
    with lease.start("sleep 1000") as job:
        assert job.poll() is None
        with pytest.raises(TimeoutError):
            job.wait(0.1)
        job.kill()
        assert job.wait().end == "killed" and job.poll().exit_code == 137
    with lease.start("trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.01; done") as job:
        assert next(job.stream()) == "ready\n"
        job.signal("TERM")
        assert job.wait(10).exit_code == 5 and job.wait().output.endswith("got\n")


def test_a_sandbox_that_dies(mount):
    with modalpool.Lease(mount.path) as lease:
        job = lease.start("echo begun; sleep 1000")
        assert next(job.stream()) == "begun\n"
        mount.murder(mount.sandboxes())
        r = job.wait()
        assert (r.end, r.exit_code, r.output) == ("lost", None, "begun\n") and r.error
        with pytest.raises(modalpool.Error) as caught:
            lease.run("true")
        assert caught.value.errno == errno.ENODEV and "gone" in caught.value.strerror


def test_side_by_side(lease):
    """A job waits for another one; a server and a client."""
    with lease.start("until [ -e go ]; do sleep 0.01; done; echo went") as waits:
        assert lease.run("touch go; echo here").output == "here\n"
        assert waits.wait(20).output == "went\n"


def test_streams(lease):
    with lease.start("echo one; until [ -e on ]; do sleep 0.01; done; printf 'tw\\303'; echo oh >&2; sleep 0.05; printf '\\266'") as job:
        stream = job.stream("stdout")
        assert next(stream) == "one\n"
        lease.run("touch on")
        assert "".join(stream) == "twö" and "".join(job.stream("stderr")) == "oh\n"


def test_asyncio(lease):
    """Any number at once; a stream; a cancelled run kills its job."""

    async def main():
        results = await asyncio.gather(*(
            lease.run_async(f"touch here{i}; until [ $(ls here* | wc -l) = 8 ]; do sleep 0.01; done; echo {i}") for i in range(8)))
        assert [r.output for r in results] == [f"{i}\n" for i in range(8)]
        async with lease.start("echo one; until [ -e on ]; do sleep 0.01; done; echo two") as job:
            got = []
            async for text in job.stream_async():
                got.append(text)
                await lease.run_async("touch on")
            assert got == ["one\n", "two\n"] and (await job.wait_async()).ok
        task = asyncio.create_task(lease.run_async("touch begun; sleep 86401"))
        await lease.run_async("until [ -e begun ]; do sleep 0.01; done")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await lease.write_file_async("x", "y")
        assert await lease.read_file_async("x") == b"y"

    asyncio.run(main())
    assert jobs(lease) == []
    assert lease.run(ends("sleep 86401"), timeout=30).ok


def test_threads(lease):
    """Each thread gets its own results."""
    wrong = []

    def client(me):
        for i in range(20):
            r = lease.run(f"echo {me} {i}; exit {i}")
            if (r.output, r.exit_code) != (f"{me} {i}\n", i):
                wrong.append(r)

    threads = [threading.Thread(target=client, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_files(lease):
    data = os.urandom(3 << 20)
    lease.write_file("deep/er/a b", data)
    assert lease.read_file("deep/er/a b") == data
    lease.write_file("deep/er/a b", "ö")
    assert lease.read_file("deep/er/a b") == "ö".encode()
    lease.write_file("-n", b"")
    assert lease.read_file("-n") == b"" and lease.read_file("./-n") == b""
    lease.write_file("/tmp/it's", "x")
    assert lease.run(["cat", "/tmp/it's"]).output == "x"
    lease.run("echo x > tool; chmod 755 tool")
    lease.write_file("tool", "y")
    assert lease.run("stat -c %a tool").output == "755\n"
    for call, error in ((lambda: lease.read_file("none"), FileNotFoundError), (lambda: lease.read_file("deep"), IsADirectoryError),
                        (lambda: lease.write_file("deep", "x"), IsADirectoryError),
                        (lambda: lease.write_file("tool/x", "x"), NotADirectoryError),
                        (lambda: lease.read_file("tool/x"), NotADirectoryError)):
        with pytest.raises(error) as caught:
            call()
        assert caught.value.filename


def test_names(mount):
    with modalpool.Lease(mount.path, "t1") as lease:
        with pytest.raises(modalpool.Error, match="there is a lease t1 already") as caught:
            modalpool.Lease(mount.path, "t1")
        assert caught.value.errno == errno.EEXIST
        with lease.start("echo once", name="build") as job:
            with pytest.raises(modalpool.Error) as caught:
                lease.start("echo twice", name="build")
            assert caught.value.errno == errno.EEXIST
            assert lease.job("build").wait().output == "once\n"
            other = modalpool.Lease.of(mount / "t1")
            assert other.job("build").wait().output == "once\n" and other.run("pwd").output == lease.run("pwd").output
            del other
        assert job.name == "build" and leases(mount) == ["t1"]
        with pytest.raises(modalpool.Error) as caught:
            lease.job("build")
        assert caught.value.errno == errno.ENOENT
        os.mkdir(lease.path + "/jobs/draft")
        with pytest.raises(modalpool.Error, match="draft"):
            lease.job("draft").wait()
    with pytest.raises(modalpool.Error, match="no modalpool is mounted at /nowhere"):
        modalpool.Lease("/nowhere")
    with pytest.raises(modalpool.Error) as caught:
        lease.run("true")
    assert caught.value.errno == errno.ENOENT
    lease.release()


def test_drain(mount):
    mount.ctl("drain")
    with pytest.raises(modalpool.Error, match="the pool drains") as caught:
        modalpool.Lease(mount.path)
    assert caught.value.errno == errno.EAGAIN
    mount.ctl("resume")
    assert leases(mount) == []


def test_user(mount, settings):
    """Of a lease and of a job. Local sandboxes have one user, and say so."""
    with modalpool.Lease(mount.path) as lease:
        lease.environment
        if settings.provider == "local":
            with pytest.raises(modalpool.Error, match="one user") as caught:
                lease.run("true", user="nobody")
            assert caught.value.errno == errno.EOPNOTSUPP and jobs(lease) == []
            return
        if not settings.gvisor:
            pytest.skip("bubblewrap gives the simulator's sandboxes one user")
        assert lease.run("id -un", user="nobody").output == "nobody\n" and lease.run("id -un").output == "root\n"
        r = lease.run("true", user="no-such-user")
        assert r.exit_code == 126 and "no-such-user" in r.error
    with modalpool.Lease(mount.path, user="nobody") as lease:
        assert lease.run("id -un").output == "nobody\n" and lease.run("id -un", user="root").output == "root\n"


def test_no_image(pool, settings):
    if settings.provider != "local":
        pytest.skip("these sandboxes have images")
    with pytest.raises(modalpool.Error, match="the image alpine:3 is asked for"):
        modalpool.Lease(pool().path, image="alpine:3")


def test_images(pool, settings):
    """A lease with another image than the pool's gets it in a pool beside it, which ends with the process that made it."""
    if settings.provider == "local":
        pytest.skip("local sandboxes have no image")
    mount = pool(image="alpine:3")
    with modalpool.Lease(mount.path, image="alpine:3") as own:
        assert os.path.dirname(own.path) == str(mount.path)
    made = []

    def client(name):
        lease = modalpool.Lease(mount.path, image=name)
        made.append((name, lease, lease.run("echo hi").output))

    names = ["alpine:4", "registry.example/a_b:1"] * 3
    threads = [threading.Thread(target=client, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _, output in made if output == "hi\n") == sorted(names)
    places = {name: os.path.dirname(lease.path) for name, lease, _ in made}
    assert len(set(places.values())) == 2 and all(modalpool.pool.image(place) == name for name, place in places.items())
    again = modalpool.Lease(places["alpine:4"], image="alpine:3")  # from one pool to another
    assert modalpool.pool.image(os.path.dirname(again.path)) == "alpine:3"
    code = "import modalpool; print(modalpool.Lease(image='alpine:5').run('echo hi').output, end='')"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"hi\n"
    assert len([name for name in os.listdir(mount.path) if name.startswith("@")]) == 3
    for _, lease, _ in made:
        lease.release()
    again.release()


CLIENT = """
import os, signal, sys, time
import modalpool
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
leases = [modalpool.Lease() for _ in range(3)]
leases[0].release()
leases[1].start("sleep 86402")
def held():
    leases[2].run("echo begun > /tmp/begun; sleep 86402")
HOW
"""
ENDS = {"falls off its end": "pass", "exit": "sys.exit(3)", "error": "raise ValueError", "os._exit": "os._exit(0)",
        "kill -9": "os.kill(os.getpid(), signal.SIGKILL)", "kill -9 in a job": "signal.setitimer(signal.ITIMER_REAL, 0.2); "
        "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL)); held()",
        "interrupt": "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT)); "
        "signal.setitimer(signal.ITIMER_REAL, 0.2); held()",
        "a child goes on": "if os.fork() == 0:\n    os.close(1)\n    time.sleep(86402)\nos.kill(os.getpid(), signal.SIGKILL)"}


@pytest.mark.parametrize("how", ENDS)
def test_a_client_that_ends(pool, how):
    """Its leases end with it, however it ends."""
    mount = pool(max=3)
    with subprocess.Popen([sys.executable, "-c", CLIENT.replace("HOW", ENDS[how])], start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        try:
            client.stdout.read()
            client.wait()
            mount.until(lambda: leases(mount) == [])
        finally:
            subprocess.run(["pkill", "-KILL", "-s", str(client.pid)], check=False)


def test_a_lease_that_is_forgotten(mount):
    modalpool.Lease(mount.path)
    assert leases(mount) == []


def test_a_name_that_is_taken_by_another_later(mount):
    """What a client released it does not end again when it ends."""
    code = "import os, modalpool; modalpool.Lease(name='t1').release(); print(flush=True); input(); os._exit(0)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        client.stdout.readline()
        with modalpool.Lease(mount.path, "t1") as lease:
            client.communicate(b"\n")
            assert lease.run("echo still").output == "still\n"


def test_interrupt(mount):
    """KeyboardInterrupt kills the job that is waited for, and no other."""
    with modalpool.Lease(mount.path) as lease:
        other = lease.start("sleep 1; echo other")
        signal.signal(signal.SIGUSR1, signal.default_int_handler)
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            lease.run("sleep 86403")
        assert time.monotonic() - began < 20
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        assert lease.run(ends("sleep 86403"), timeout=30).ok
        assert other.wait().output == "other\n"
