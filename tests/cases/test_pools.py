# SPDX-License-Identifier: MIT
"""Pools beside the mount's own: mkdir @NAME."""

import errno
import json
import os
import shutil
import subprocess

import pytest

import harness
from test_lease import fails

POOL_FILES = ["config", "ctl", "events", "metrics", "stats", "status"]


def make(mp, name, *lines):
    """The pool @NAME, with these lines written to its ctl."""
    path = mp / f"@{name}"
    path.mkdir()
    for line in lines:
        (path / ".pool/ctl").write_text(line + "\n")
    return path


def lease_in(mp, pool, name="t1"):
    (mp / f"@{pool}" / name).mkdir()
    return harness.Lease(mp, f"@{pool}/{name}")


def events(path):
    """All that there are, without waiting for more."""
    fd = os.open(path / ".pool/events", os.O_RDONLY | os.O_NONBLOCK)
    try:
        text = b""
        while True:
            try:
                text += os.read(fd, 1 << 16)
            except BlockingIOError:
                return [json.loads(line) for line in text.splitlines()]
    finally:
        os.close(fd)


@pytest.mark.small
def test_a_pool_is_a_directory_of_leases(mp):
    pool = make(mp, "py")
    assert sorted(os.listdir(mp.path)) == [".pool", "@py"] and os.listdir(pool) == [".pool"]
    assert sorted(os.listdir(pool / ".pool")) == POOL_FILES
    here = pool.stat()
    assert (here.st_uid, here.st_gid, here.st_mode & 0o7777) == (os.geteuid(), os.getegid(), 0o700)
    lease = lease_in(mp, "py")
    assert lease.run("echo hi; exit 3") == ("hi\n", 3)
    assert sorted(os.listdir(pool)) == [".pool", "t1"] and sorted(os.listdir(mp.path)) == [".pool", "@py"]
    own = mp.lease("t1")  # the same name in another directory
    assert own.run("echo own") == ("own\n", 0) and lease.read("jobs/1/output") == "hi\n"
    assert own.read("environment") != lease.read("environment")
    stats = json.loads((pool / ".pool/stats").read_text())
    assert stats["leases"] == 1 and stats["environments"]["leased"] == 1
    assert mp.stats()["leases"] == 1 and mp.stats()["environments"]["leased"] == 1
    assert [e["state"] for e in events(mp.path) if e.get("pool") == "py"] == ["made"]
    assert {"lease": "t1", "state": "leased"}.items() <= [e for e in events(pool) if "lease" in e][-1].items()


def test_names(mp):
    make(mp, "a")
    for name, error in (("@a", errno.EEXIST), ("@", errno.EINVAL), ("@.a", errno.EINVAL), ("@@a", errno.EINVAL),
                        ("@a\nb", errno.EINVAL), ("@a/@b", errno.EINVAL), ("@a/.b", errno.EINVAL),
                        ("@" + "n" * 200, errno.ENAMETOOLONG), ("@b/t", errno.ENOENT)):
        fails(error, os.mkdir, mp / name)
    make(mp, "n" * 199)
    make(mp, "späße 1")
    assert sorted(os.listdir(mp.path)) == sorted([".pool", "@a", "@" + "n" * 199, "@späße 1"])


def test_rmdir(mp):
    """Only without leases; then the name is free at once, and the environments end."""
    pool = make(mp, "a")
    lease = lease_in(mp, "a")
    assert lease.run("true") == ("", 0)
    fails(errno.ENOTEMPTY, os.rmdir, pool)
    assert lease.run("echo still") == ("still\n", 0)
    lease.release()
    with open(pool / ".pool/events") as open_events, open(pool / ".pool/status") as open_status:
        assert open_events.readline() and open_status.readline()
        pool.rmdir()
        fails(errno.ENOENT, os.listdir, pool)
        while True:  # what happened until the end, and then no more waiting
            try:
                assert open_events.readline()
            except OSError as error:
                assert error.errno == errno.ESTALE
                break
        open_status.seek(0)
        fails(errno.ESTALE, open_status.read)
    make(mp, "a")
    mp.until(lambda: not mp.sandboxes())


def test_rm_r(mp):
    pool = make(mp, "a")
    for name in "t1", "t2":
        lease_in(mp, "a", name).submit("sleep 100")
    subprocess.run(["rm", "-r", pool], check=True, stdin=subprocess.DEVNULL)
    assert os.listdir(mp.path) == [".pool"]
    make(mp, "a")
    shutil.rmtree(pool)
    assert os.listdir(mp.path) == [".pool"]
    assert subprocess.run(["rm", "-r", mp / ".pool"], stderr=subprocess.DEVNULL).returncode == 1
    assert sorted(os.listdir(mp / ".pool")) == POOL_FILES


def test_unlink_takes_a_name_away_until_the_next_create(mp):
    pool = make(mp, "a")
    os.unlink(pool / ".pool/status")
    assert "status" not in os.listdir(pool / ".pool") and "status" in os.listdir(mp / ".pool")
    fails(errno.ENOENT, open, pool / ".pool/status")
    fails(errno.EPERM, os.unlink, mp / ".pool/status")
    fails(errno.EPERM, os.mkdir, pool / ".pool/x")
    (pool / ".pool").rmdir()
    assert ".pool" in os.listdir(pool)
    os.unlink(pool / ".pool/ctl")
    (pool / ".pool/ctl").write_text("max 2\n")
    assert sorted(os.listdir(pool / ".pool")) == POOL_FILES


# options

OWNERS = {"image": "debian:bookworm", "cpu": "0.5", "memory": "256M", "workdir": "/srv", "env": "A=1", "timeout": "9",
          "wait": "9", "max": "3", "min": "0", "idle_timeout": "9", "reset": "environment"}
DAEMONS = {"gpu": "A100", "secrets": "s", "volumes": "v:/v", "network": "yes", "block_network": "yes",
           "cidr_allowlist": "10.0.0.0/8", "outbound_domain_allowlist": "example.com", "inbound_cidr_allowlist": "10.0.0.0/8"}


def all_options(mp):
    return json.loads((mp / ".pool/config").read_text())


def set_option(pool, name, value):
    """What the write gives: 0 or an errno."""
    try:
        with open(pool / ".pool/ctl", "wb", buffering=0) as ctl:
            ctl.write(f"{name} {value}\n".encode())
    except OSError as error:
        return error.errno
    return 0


def refusal(pool):
    return [e for e in events(pool) if e.get("state") == "refused"][-1]["reason"]


def test_every_option_by_the_daemons_user(mp):
    """What is on the list can be set, anything else is the mount's."""
    pool = make(mp, "a")
    options = all_options(mp)
    assert set(OWNERS) <= set(options) and set(DAEMONS) <= set(options)
    for name in options:
        before = all_options(pool)[name]
        value = {**OWNERS, **DAEMONS}.get(name)
        if value is None:
            assert (name, set_option(pool, name, "1")) == (name, errno.EPERM)
            assert refusal(pool).endswith(f"option {name}: only for the whole mount, when it is mounted")
            assert all_options(pool)[name] == before
        elif name != "block_network":  # which excludes others
            assert (name, set_option(pool, name, value)) == (name, 0)
            assert all_options(pool)[name]["source"] == "ctl" and before["source"] != "ctl"
    listed = {line.split()[0] for line in (pool / ".pool/ctl").read_text().splitlines()}
    assert listed == {"prewarm", "drain", "resume", "recycle", *OWNERS, *DAEMONS}
    assert all_options(mp) == options
    assert set_option(pool, "nonsense", "1") == errno.EINVAL and set_option(mp.path, "image", "x") == errno.EINVAL


@pytest.mark.root
def test_every_option_by_another_user(mount, tmp_path):
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == os.geteuid() and str(path) != "/" and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    mp = mount(allow_other=True)
    options = all_options(mp)

    def as_user(uid, script):
        return subprocess.run(["bash", "-c", script], cwd=mp.path, user=uid, group=uid, extra_groups=[],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)

    lines = "\n".join(f"{name} {({**OWNERS, **DAEMONS}).get(name, '1')}" for name in options)
    done = as_user(60001, f"mkdir @a && while read -r line; do echo \"$line\" > @a/.pool/ctl && echo \"${{line%% *}}\"; done <<'END'\n"
                          f"{lines}\nEND")
    assert set(done.stdout.split()) == set(OWNERS), done.stderr
    assert done.stderr.count("Operation not permitted") == len(options) - len(OWNERS)
    pool = mp / "@a"
    here = pool.stat()
    assert (here.st_uid, here.st_gid, here.st_mode & 0o7777) == (60001, 60001, 0o700)
    said = [e["reason"] for e in events(pool) if e.get("state") == "refused"]
    for name in DAEMONS:
        assert any(f"option {name}: only the daemon's user may set it in a pool" in one for one in said)
    # It is that user's alone, the root of the mount is not.
    for script in "ls @a", "mkdir @a/t", "echo max 1 > @a/.pool/ctl", "cat @a/.pool/status", "rmdir @a":
        assert as_user(60002, script).returncode != 0
    assert as_user(60001, "mkdir @a/t && echo id -u > @a/t/cmd && cat @a/t/exit_code && rm -r @a").returncode == 0


@pytest.mark.small
def test_the_sentence_of_the_start(mp):
    """A wrong value gets the words that it would get at the start, and changes nothing."""
    pool = make(mp, "a")
    for name, value in ("max", "0"), ("min", "5"), ("timeout", "soon"), ("env", "=1"), ("workdir", "here"), ("reset", "never"):
        before = all_options(pool)[name]
        assert set_option(pool, name, value) == errno.EINVAL
        start = subprocess.run([mp.settings.program, "-f", "-o", f"{name}={value}", "local", "/nowhere"],
                               capture_output=True, text=True, env=mp.environment)
        assert start.returncode == 1 and start.stderr.strip().removeprefix("modalpool: ") in refusal(pool)
        assert all_options(pool)[name] == before


@pytest.mark.modal
def test_the_sentence_of_the_start_of_modal(mp):
    pool = make(mp, "a")
    for name, value, expected in (("image", "a b", "a registry tag such as debian:12-slim"), ("cpu", "many", "cores, such as 0.5 or 4"),
                                  ("memory", "1K", "at least 1M"), ("gpu", "A100:x", "a type such as A100, or A100:2"),
                                  ("volumes", "v", "NAME:/PATH or NAME:/PATH:ro, with + between them")):
        before = all_options(pool)[name]
        assert set_option(pool, name, value) == errno.EINVAL and refusal(pool).endswith(f"expected {expected}")
        assert all_options(pool)[name] == before


@pytest.mark.small
def test_options_work(mp):
    pool = make(mp, "a", "env WHO=me", "env HOW=so", "timeout 77", "max 1", "workdir /srv")
    lease = lease_in(mp, "a")
    assert lease.run("echo $WHO $HOW $PWD; touch here 2>&1") == ("me so /srv\n", 0) or lease.read().startswith("me so /srv\n")
    assert lease.read("timeout") == "77\n"
    own = mp.lease("own")
    assert own.run("echo $WHO$HOW") == ("\n", 0)
    # What environments are made of stays; what counts at each moment does not.
    for name in "env", "timeout", "workdir", "reset":
        assert set_option(pool, name, OWNERS[name]) == errno.EBUSY
        assert "it cannot change any more, because an environment was made with it" in refusal(pool)
    for name in "max", "min", "wait", "idle_timeout":
        assert set_option(pool, name, OWNERS[name]) == 0
    assert "WHO=me" not in mp.log() + (pool / ".pool/events").name and all("WHO=me" not in str(e) for e in events(pool))
    assert all_options(pool)["env"]["value"] == "***"


def test_reset_gets_stricter_only(mount):
    mp = mount(reset="environment")
    pool = make(mp, "a")
    assert set_option(pool, "reset", "workdir") == errno.EPERM
    assert "a pool may be stricter than its mount" in refusal(pool)
    assert set_option(pool, "reset", "environment") == 0


def test_a_restart_keeps_pools(mp):
    """After kill -9: pools, their owners and options, leases and queued jobs."""
    pool = make(mp, "a", "env WHO=me", "env HOW=so", "max 1", "timeout 77")
    make(mp, "gone").rmdir()
    lease = lease_in(mp, "a")
    assert lease.run("echo $WHO") == ("me\n", 0)
    before = all_options(pool)
    mp.crash()
    mp.start()
    assert sorted(os.listdir(mp.path)) == [".pool", "@a"] and sorted(os.listdir(pool)) == [".pool", "t1"]
    assert all_options(pool) == before
    assert lease.read("jobs/1/output") == "me\n"
    if lease.status()["state"] == "lost":
        lease.write("ctl", "renew")
    assert lease.run("echo $WHO $HOW") == ("me so\n", 0)
    assert set_option(pool, "timeout", "5") == errno.EBUSY and set_option(pool, "max", "5") == 0


# sharing

@pytest.mark.modal
@pytest.mark.exact
@pytest.mark.limit(60)
def test_three_images_in_one_mount(mount, calm):
    """20 leases of each at once in 8 environments: each runs in its image, all end, and there are never more than 8."""
    calm.reset(keep=["faults"])
    mp = mount(max=8, max_total=8)
    images = {"one": "debian:bookworm", "two": "python:3.12-slim", "three": "node:22"}
    for name, image in images.items():
        make(mp, name, f"image {image}")
    script = " & ".join(
        f"for t in $(seq 20); do (mkdir @{name}/t$t && echo 'echo {name}' > @{name}/t$t/cmd && cat @{name}/t$t/output"
        f" && cat @{name}/t$t/environment && rmdir @{name}/t$t) & done" for name in images)
    lines = mp.sh(f"{script}; wait").stdout.split()
    assert [lines.count(name) for name in images] == [20, 20, 20]
    used = {}
    for name, environment in zip(lines, lines[1:]):
        if name in images and environment.startswith("sb-"):
            used.setdefault(environment, set()).add(name)
    image_of = {one["id"]: one["definition"]["image_id"] for one in calm.sandboxes()}
    found = {name: {image_of[one] for one, names_ in used.items() if names_ == {name}} for name in images}
    assert all(len(ids) == 1 for ids in found.values()) and len(set.union(*found.values())) == 3
    assert calm.stats()["most"]["sandboxes"] <= 8
    text = (mp / ".pool/metrics").read_text()
    for name in images:
        stats = json.loads((mp / f"@{name}/.pool/stats").read_text())
        assert stats["leases_granted_total"] == 20 and stats["leases"] == 0
        assert f'modalpool_leases_granted_total{{pool="{name}"}} 20\n' in text
        assert stats["environments_created_total"] >= 1


@pytest.mark.modal
@pytest.mark.exact
def test_an_image_that_cannot_be_built(mount, calm):
    """Its own pool fails, with the reason; once the image is another one, it works."""
    mp = mount(max=2)
    pool = make(mp, "bad", "image unknown/image")
    lease, own = lease_in(mp, "bad"), mp.lease()
    lease.submit("echo never")
    fails(errno.EIO, lease.read, "exit_code")
    assert "image unknown/image cannot be built: manifest for unknown/image not found" in lease.read("error")
    assert "cannot be built" in (pool / ".pool/status").read_text()
    assert any("manifest for unknown/image not found" in e.get("reason", "") and e["state"] == "notice" for e in events(pool))
    assert own.run("echo fine") == ("fine\n", 0) and "cannot be built" not in (mp / ".pool/stats").read_text().split('"pools"')[0]
    assert set_option(pool, "image", "debian:bookworm") == 0
    lease.write("ctl", "renew")
    assert lease.run("echo now") == ("now\n", 0)


@pytest.mark.modal
@pytest.mark.exact
@pytest.mark.limit(60)
def test_a_restart_keeps_environments_and_running_jobs(mount, calm):
    mp = mount(max=2)
    for name in "a", "b":
        make(mp, name, f"env POOL={name}")
    leases = {name: lease_in(mp, name) for name in ("a", "b")}
    held = {}
    for name, lease in leases.items():
        lease.submit("trap go=1 CONT; echo begun $POOL; until [ $go ]; do sleep 0.1; done; echo over; exit 4")
        lease.submit("echo next $POOL")
        with open(lease / "jobs/1/output", "rb", buffering=0) as output:
            assert output.read(7) == b"begun " + name.encode()
        held[name] = lease.read("environment")
    idle = lease_in(mp, "a", "idle")
    idle.read("environment")
    idle.release()
    mp.crash()
    mp.start()
    for name, lease in leases.items():
        assert lease.read("environment") == held[name]
        lease.until_running = None
        while lease.status("jobs/1/status")["state"] != "running":
            lease.read("status")
        lease.write("ctl", "signal CONT")
        assert lease.read("jobs/1/output") == f"begun {name}\nover\n" and lease.read("jobs/1/exit_code") == "4\n"
        assert lease.read("jobs/2/output") == f"next {name}\n"
    for name in held:
        stats = json.loads((mp / f"@{name}/.pool/stats").read_text())
        assert stats["environments_created_total"] == 0 and stats["environments_adopted_total"] == (2 if name == "a" else 1)
    subprocess.run(["rm", "-r", mp / "@a", mp / "@b"], check=True, stdin=subprocess.DEVNULL)
    mp.until(lambda: not mp.sandboxes())


@pytest.mark.modal
@pytest.mark.exact
@pytest.mark.many
@pytest.mark.limit(300)
def test_500_pools(mount, calm):
    """One lease each, as evaluations have an image for each task."""
    calm.reset(keep=["faults"])
    mp = mount(max_total=40)

    def resident():
        with open(f"/proc/{mp.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    # What so many sandboxes at one time take, whichever pools they are of, is there before.
    mp.ctl("max 40")
    mp.sh("for i in $(seq 40); do mkdir t$i; echo echo $i > t$i/cmd; done; cat t*/output; rmdir t*")
    before = resident()
    mp.sh("for i in $(seq 500); do mkdir @p$i; echo image debian:$i > @p$i/.pool/ctl; done")
    made = resident()
    took, listed = min(harness.seconds(lambda: os.listdir(mp.path)) for _ in range(3))
    assert len(listed) == 501 and took < 0.02 * mp.settings.slow
    mp.sh("for i in $(seq 500); do mkdir @p$i/t; echo echo $i > @p$i/t/cmd; done")
    out = mp.sh("for i in $(seq 500); do cat @p$i/t/output; rmdir @p$i/t; done").stdout.split()
    assert out == [str(i) for i in range(1, 501)]
    after = resident()
    print(f"KiB: {before} before, {made} with 500 pools, {after} after a lease in each")
    assert after - before < 500 * 16
    most = calm.stats()["most"]
    assert most["sandboxes"] <= 40 and most["builds"] <= 4
    mp.sh("rm -r @*")
    assert os.listdir(mp.path) == [".pool"]


# the configuration file

def write_config(tmp_path, **options):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(options))
    return path


def test_pools_of_the_configuration_file(mount, tmp_path):
    file = write_config(tmp_path, max=3, pools={"py": {"env": "WHO=me", "max": 2, "timeout": 0.5}, "net": {"network": True}})
    mp = mount(config=file, timeout=50)
    assert sorted(os.listdir(mp.path)) == [".pool", "@net", "@py"]
    pool = mp / "@py"
    here = pool.stat()
    assert (here.st_uid, here.st_gid, here.st_mode & 0o7777) == (os.geteuid(), os.getegid(), 0o700)
    config = all_options(pool)
    assert config["max"] == {"value": 2, "source": "file"} and config["timeout"] == {"value": 0.5, "source": "file"}
    assert config["wait"]["source"] == "mount" and all_options(mp / "@net")["network"]["value"] is True
    assert all_options(mp / "@net")["timeout"] == {"value": 50, "source": "mount"}
    lease = lease_in(mp, "py")
    assert lease.run("echo $WHO") == ("me\n", 0)
    # What ctl has set counts in the next run too; the rest is as the file says then.
    assert set_option(pool, "max", "1") == 0
    mp.crash()
    write_config(tmp_path, pools={"py": {"max": 9, "wait": 7, "env": "WHO=me"}})
    mp.start()
    config = all_options(pool)
    assert config["max"] == {"value": 1, "source": "ctl"} and config["wait"] == {"value": 7, "source": "file"}
    assert sorted(os.listdir(mp.path)) == [".pool", "@net", "@py"] and sorted(os.listdir(pool)) == [".pool", "t1"]
    subprocess.run(["rm", "-r", pool], check=True, stdin=subprocess.DEVNULL)
    assert sorted(os.listdir(mp.path)) == [".pool", "@net"]


@pytest.mark.small
def test_what_the_configuration_file_may_not_say(mount, tmp_path):
    """As by ctl: what is the mount's is refused, and the start with it."""
    refused = {name: "only for the whole mount, when it is mounted" for name in
               ("isolate", "server_url", "dockerfile", "cafile", "state", "shell", "base", "max_leases", "token_secret", "backend")}
    texts = [({"py": {name: "/x"}}, f"pools: py: option {name}: {text}") for name, text in refused.items()]
    texts += [({"py": {"config": "/x"}}, "pools: py: config is no option; modalpool -h lists them"),
              ({"py": {"max": 0}}, "pools: py: option max=0: expected a whole number from 1 to 100000"),
              ({"py": {"min": 9}}, "pools: py: option min=9: more than max=4"),
              ({".py": {}}, "pools: .py: a pool cannot have this name"), ({"py": 1}, "pools: expected an object"),
              ([], "pools: expected an object"), ({"py": {"max": []}}, "max: expected a string, a number, true or false")]
    mp = mount(start=False)
    known = subprocess.run([mp.settings.program, "-h"], capture_output=True, text=True).stdout
    for pools, expected in texts:
        if "only for the whole mount" in expected and f"  {expected.split()[3].rstrip(':')}=" not in known:
            continue
        file = write_config(tmp_path, pools=pools)
        done = subprocess.run([mp.settings.program, "-f", "-o", f"config={file},state={mp.state}", mp.settings.provider, mp.path],
                              capture_output=True, text=True, env=mp.environment, timeout=20, stdin=subprocess.DEVNULL)
        assert done.returncode == 1 and expected in done.stderr, (pools, done.stderr)
