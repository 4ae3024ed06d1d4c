# SPDX-License-Identifier: MIT
"""Modal: how it starts and refuses, what a job costs, what faults nobody notices, what happens to the token."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import harness
import processes
from modal_sim.simulator import Simulator
from test_daemon import modalpool, one_line  # noqa: F401
from test_recovery import again

pytestmark = pytest.mark.modal

ROUTER = ("TaskExecStart", "TaskExecStdioRead", "TaskExecWait", "TaskExecPoll", "TaskExecStdinWrite", "TaskGetCommandRouterAccess",
          "SandboxGetCommandRouterAccess")


def memory(mp, key="VmHWM"):
    """In MiB; VmRSS or VmHWM."""
    text = processes.read(f"/proc/{mp.pid}/status")
    return int(re.search(key + r":\s*(\d+) kB", text)[1]) / 1024


# Starting


def test_which_backend_served(mp, sim):
    assert mp.stats()["backend"] == "modal"
    assert mp.lease().run("echo $MODAL_SANDBOX_ID") == (mp.sandboxes()[0] + "\n", 0)
    assert (mp / "t1/environment").read_text().strip() == mp.sandboxes()[0]
    assert [facts["starts"] for facts in sim.stats()["execs"].values()].count(1) >= 1


PROFILES = """# written by hand
[first]
token_id = "ak-wrong"
token_secret = "as-wrong"

[second]
server_url = "{url}"
token_id = '{token_id}'  # as they come
token_secret = "{token_secret}"
active = true
"""


def plain_environment(settings, home, **more):
    """An environment that holds nothing of Modal but the CA."""
    env = {key: value for key, value in settings.environment.items() if not key.startswith("MODAL_")}
    return {**{k: v for k, v in os.environ.items() if not k.startswith("MODAL_")}, **env, "HOME": str(home), **more}


def write_profiles(path, sim):
    path.write_text(PROFILES.format(url=sim.server_url, token_id=sim.token_id, token_secret=sim.token_secret))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("how", ["home", "MODAL_CONFIG_PATH", "MODAL_PROFILE", "profile="])
def test_credentials_of_a_file(mount, settings, sim, tmp_path, how):
    """The active profile, or that which is asked for; ~/.modal.toml, or another file."""
    options = {}
    path = write_profiles(tmp_path / ("other.toml" if how == "MODAL_CONFIG_PATH" else ".modal.toml"), sim)
    more = {"MODAL_CONFIG_PATH": str(path)} if how == "MODAL_CONFIG_PATH" else {}
    if how in ("MODAL_PROFILE", "profile="):
        path.write_text(path.read_text().replace("active = true", "").replace("[first]", "[first]\nactive = true"))
        more, options = ({"MODAL_PROFILE": "second"}, {}) if how == "MODAL_PROFILE" else ({}, {"profile": "second"})
    mp = mount(start=False, **options)
    mp.environment = plain_environment(settings, tmp_path, **more)
    mp.start()
    assert mp.lease().run("echo hi") == ("hi\n", 0)


def test_environment_over_file(mount, settings, sim, tmp_path):
    write_profiles(tmp_path / ".modal.toml", sim)
    mp = mount(start=False)
    mp.environment = plain_environment(settings, tmp_path, MODAL_PROFILE="first", MODAL_TOKEN_ID=sim.token_id,
                                       MODAL_TOKEN_SECRET=sim.token_secret, MODAL_SERVER_URL=sim.server_url)
    mp.start()
    assert mp.lease().run("echo hi") == ("hi\n", 0)


@contextlib.contextmanager
def listener():
    """A port of this machine where nobody listens: it is held, so that nobody else gets it."""
    import socket
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("flags", [["-f"], []], ids=["foreground", "background"])
@pytest.mark.parametrize("what", ["secret", "no token", "image", "refused", "certificate", "profile", "toml", "url", "http", "name"])
def test_refusals(modalpool, settings, calm, tmp_path, what, flags):  # noqa: F811
    """One clear line that names the cause, exit status 1, and nothing stays in the background."""
    (tmp_path / "mnt").mkdir()
    toml = tmp_path / ".modal.toml"
    good = {key: value for key, value in settings.environment.items() if key.startswith("MODAL_")}
    env, options, words = dict(good), "", []
    with listener() as port:
        if what == "secret":
            env["MODAL_TOKEN_SECRET"] = "as-wrong"
            words = ["token", "not valid", "MODAL_TOKEN_ID"]
        elif what == "no token":
            env = {"MODAL_SERVER_URL": calm.server_url}
            words = ["no Modal token", "MODAL_TOKEN_ID", str(toml)]
        elif what == "image":
            options = ",image=unknown/image"
            words = ["unknown/image", "not found"]
        elif what == "refused":
            env["MODAL_SERVER_URL"] = f"https://127.0.0.1:{port}"
            words = [f"127.0.0.1:{port}", "no connection", "refused"]
        elif what == "certificate":
            env["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
            if not os.path.exists(env["SSL_CERT_FILE"]):
                pytest.skip("this machine trusts no certificates")
            words = ["certificate", calm.server_url, "cafile="]
        elif what == "profile":
            write_profiles(toml, calm)
            env = {"MODAL_PROFILE": "third"}
            words = ["third", str(toml)]
        elif what == "toml":
            toml.write_text('[x]\ntoken_id = "ak-1"\ntoken_secret = nothing\n')
            env = {}
            words = [str(toml), "3"]
        elif what == "url":
            env["MODAL_SERVER_URL"] = "ftp://127.0.0.1"
            words = ["ftp://127.0.0.1"]
        elif what == "http":
            env["MODAL_SERVER_URL"] = "http://192.0.2.1:80"
            words = ["http://192.0.2.1:80", "https"]
        elif what == "name":
            env["MODAL_SERVER_URL"] = f"http://127.0.0.1.example.com:{port}"  # it begins like this machine
            words = [f"http://127.0.0.1.example.com:{port}", "https"]
        before = processes.descendants()
        done = modalpool(*flags, "-o", f"state={tmp_path}/state{options}", "modal", tmp_path / "mnt",
                         env=plain_environment(settings, tmp_path, **env))
    one_line(done, *words)
    assert settings.simulator.token_secret not in done.stderr and "as-wrong" not in done.stderr
    assert processes.gone([pid for pid in processes.descendants() if pid not in before], 2) == []
    assert not harness.mounted(tmp_path / "mnt") and list((tmp_path / "mnt").iterdir()) == []
    assert calm.stats()["sandboxes"]["created"] == 0


def start_of(program, arguments, watched, **more):
    """What the daemon says from its start until it is mounted, or has failed: on a terminal, or to a pipe."""
    ours, its = os.openpty() if watched else os.pipe()
    with os.fdopen(ours, "rb", 0) as ours:
        process = subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stderr=its, **more)
        os.close(its)
        said = b""
        with contextlib.suppress(OSError):  # a terminal that nobody holds any more
            while b"mounted at" not in said and (piece := ours.read(4096)):
                said += piece
    return process, said.decode().replace("\r", "").splitlines()


@pytest.fixture
def streams_end_late(calm):
    """A stream of output ends when nobody holds it open, not when its shell ends."""
    calm.config(stdio_end="eof")
    yield
    calm.config(stdio_end="exit")


@pytest.mark.plain
def test_background_writer_past_the_timeout(mount, streams_end_late):
    """It holds its job open, but not for ever; what the shell said counts."""
    lease = mount(max=1).lease()
    lease.write("timeout", "1\n")
    assert lease.run("(while :; do echo more; sleep 0.2; done) & echo main; exit 3")[1] == 3
    assert "held its output open" in lease.read("error")
    assert lease.run("echo next") == ("next\n", 0)


def definition(mp, calm):
    """What Modal was asked for when the newest sandbox of this mount was made."""
    made = mp.lease().read("environment").strip()
    return {one["id"]: one["definition"] for one in calm.sandboxes()}[made]


def test_resources(mount, calm):
    """They arrive as Modal counts them; who asks for none says nothing of them."""
    assert definition(mount(), calm)["resources"] == {}
    asked = definition(mount(cpu="0.5", cpu_max=2, memory="256M", memory_max="1G", ephemeral_disk="20G"), calm)["resources"]
    assert asked == {"milli_cpu": 500, "milli_cpu_max": 2000, "memory_mb": 256, "memory_mb_max": 1024,
                     "ephemeral_disk_mb": 20480}


def test_a_sandbox_that_does_not_come_up(mount, calm):
    """After create_timeout it is terminated, and the lease gets another one."""
    calm.config(start_delay_secs=60.0)
    try:
        mp = mount(max=1, create_timeout=1)
        lease = mp.lease()
        mp.until(lambda: "did not come up in 1 s (create_timeout)" in lease.read("error"))
    finally:
        calm.config(start_delay_secs=0.0)
    assert lease.run("echo there") == ("there\n", 0)
    calm.until(lambda stats: sum(one["running"] for one in calm.sandboxes()) == 1)
    assert len(calm.sandboxes()) > 1


def until_asked(sim):
    """A sandbox is up, and was asked whether it is ready: that sandbox."""
    sim.until(lambda stats: stats["open_calls"].get("SandboxWaitUntilReady") == 1 and any(one["running"] for one in sim.sandboxes()))
    return next(one for one in sim.sandboxes() if one["running"])


@pytest.mark.parametrize("kind", ["v2", "v1"])
@pytest.mark.parametrize("option,probe,command", [
    ("tcp:8765", {"tcp_port": 8765}, "exec python3 -m http.server -b 127.0.0.1 8765 > /dev/null 2>&1 &"),
    ("test -e /srv/up && [ '$1, as it is' ]", {"exec_command": {"argv": ["/bin/sh", "-c", "test -e /srv/up && [ '$1, as it is' ]"]}},
     "mkdir -p /srv && touch /srv/up"),
], ids=["port", "command"])
def test_ready(mount, calm, option, probe, command, kind):
    """An environment is lent once its probe succeeds. A server that it waits for is the sandbox's own, and survives clean-ups."""
    mp = mount(max=1, ready=option, sandbox=kind)
    lease = mp.lease()
    lease.submit("true")
    sandbox = until_asked(calm)
    assert sandbox["definition"]["readiness_probe"] == probe
    assert lease.status()["state"] == "waiting" and mp.environments()["creating"] == 1
    assert "TaskExecStart" not in calm.stats()["by_sandbox"][sandbox["id"]]
    assert calm.run(sandbox["id"], "sh", "-c", command) == 0
    assert lease.read("exit_code") == "0\n" and lease.read("environment").strip() == sandbox["id"]
    lease.release()
    mp.until(lambda: mp.environments()["idle"] == 1)
    assert bool(mp.alive("python3")) == ("tcp_port" in probe)


@pytest.mark.parametrize("kind", ["v2", "v1"])
def test_never_ready(mount, calm, kind):
    """The error names the option, and the sandbox is terminated."""
    mp = mount(max=1, ready="false", create_timeout=2, sandbox=kind)
    lease = mp.lease()
    mp.until(lambda: "was not ready in 2 s (create_timeout): option ready=false" in lease.read("error"))
    assert lease.status()["state"] == "waiting"
    lease.release()
    calm.until(lambda stats: not any(one["running"] for one in calm.sandboxes()))


def test_ended_before_it_was_ready(mount, calm):
    mp = mount(max=1, ready="false")
    lease = mp.lease()
    calm.kill_sandbox(until_asked(calm)["id"])
    mp.until(lambda: "by option ready" in lease.read("error"))
    calm.until(lambda stats: stats["rpcs"]["SandboxWaitUntilReady"] >= 2)  # and of another


def test_ready_once(mount, calm):
    """One that an earlier run left was ready already."""
    mp = mount(max=1, ready="true")
    mp.lease().run("true")
    sandbox = mp.sandboxes()
    again(mp)
    assert (mp / "t1/environment").read_text().strip() == sandbox[0]
    assert calm.stats()["rpcs"]["SandboxWaitUntilReady"] == 1


def test_network_lists(mount, calm):
    """Of outbound networks, of domains, or of both; and who may come in."""
    cidrs, domains = "10.0.0.0/8+192.0.2.7/32+0.0.0.0/0", "pypi.org+*.pythonhosted.org"
    listed = {"allowed_cidrs": cidrs.split("+")}, {"allowed_domains": domains.split("+")}
    for options, expected in ((dict(cidr_allowlist=cidrs), listed[0]), (dict(outbound_domain_allowlist=domains), listed[1]),
                              (dict(cidr_allowlist=cidrs, outbound_domain_allowlist=domains), {**listed[0], **listed[1]})):
        assert definition(mount(**options), calm)["network_access"] == {"network_access_type": "ALLOWLIST", **expected}
    asked = definition(mount(inbound_cidr_allowlist=cidrs), calm)
    assert asked["inbound_cidr_allowlist"] == cidrs.split("+")
    assert asked["network_access"] == {"network_access_type": "OPEN"}


@pytest.mark.parametrize("options,words", [
    ("memory=1K", "option memory=1024: expected at least 1M"),
    ("memory=1G,memory_max=512M", "option memory_max: less than memory"),
    ("create_timeout=0.5", "option create_timeout=0.5: expected seconds, at least 1"),
    ("ready=tcp:", "option ready=tcp:: expected tcp:PORT with a port from 1 to 65535, or a command"),
    ("ready=tcp:65536", "option ready=tcp:65536: expected tcp:PORT with a port from 1 to 65535, or a command"),
    ("cpu=2,cpu_max=1.5", "option cpu_max: less than cpu"),
    ("cpu_max=many", "option cpu_max=many: expected cores, such as 0.5 or 4"),
    ("ephemeral_disk=5K", "option ephemeral_disk=5120: expected at least 1M"),
    ("block_network,cidr_allowlist=10.0.0.0/8", "options block_network and cidr_allowlist exclude each other"),
    ("block_network,outbound_domain_allowlist=a.b", "options block_network and outbound_domain_allowlist exclude each other"),
    *[(f"{name}={entry}", f"option {name}={entry}: expected IPv4 networks such as 10.0.0.0/8, with no bits behind the prefix")
      for name in ("cidr_allowlist", "inbound_cidr_allowlist")
      for entry in ("10.0.0.1/8", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "10.0.0/8", "10.0.0.0/", "010.0.0.0/8", "::/0",
                    "10.0.0.0/8+10.0.0.0/7x")],
    *[(f"outbound_domain_allowlist={entry}", f"option outbound_domain_allowlist={entry}: expected domains such as example.com")
      for entry in ("https://a.b", "a..b", "*", "*.", "a.*.b", "-a.b", "a-.b", "a_b", ".a", f"{'x' * 64}.b")],
])
def test_settings_that_modal_would_refuse(modalpool, settings, calm, tmp_path, options, words):  # noqa: F811
    """Before anybody is asked, in one line."""
    (tmp_path / "mnt").mkdir()
    asked = len(calm.trace())
    done = modalpool("-o", f"state={tmp_path}/state,{options}", "modal", tmp_path / "mnt",
                     env=plain_environment(settings, tmp_path, **settings.environment))
    one_line(done, words)
    assert len(calm.trace()) == asked


@pytest.mark.parametrize("how", ["background", "terminal", "foreground"])
def test_a_long_build_says_so(settings, calm, tmp_path, how):
    """One line after a second; a terminal shows the rest of the log. An image that exists is not mentioned."""
    mountpoint, dockerfile = tmp_path / "mnt", tmp_path / "dockerfile"
    mountpoint.mkdir()
    dockerfile.write_text("".join(f"ENV {how}{i}=1\n" for i in range(9)))
    where = [*(["-f"] if how == "foreground" else []), "-o", f"state={tmp_path}/state,image=slow,dockerfile={dockerfile}",
             "modal", str(mountpoint)]
    more = {"env": plain_environment(settings, tmp_path, **settings.environment)}
    before = processes.descendants()
    calm.config(build_secs=2.0)
    for slow in (True, False):
        process, said = start_of(settings.program, where, how == "terminal", **more)
        try:
            assert [line for line in said if "still starting" in line] == ["modalpool: still starting: building image slow"] * slow
            steps = [line for line in said if line.startswith("modalpool: modal: Step ")]
            assert bool(steps) == (slow and how != "background")
            assert "modalpool: modal: Step 10/10: ENV %s8=1" % how in steps or not steps
            assert all("still starting" in line or line in steps or "modal: Built image" in line or "mounted at" in line
                       for line in said), said
            assert harness.mounted(mountpoint)
        finally:
            calm.config(build_secs=0.05)
            if harness.mounted(mountpoint):
                subprocess.run(["fusermount3", "-u", mountpoint], check=True)
            assert process.wait() == 0
            assert processes.gone([pid for pid in processes.descendants() if pid not in before], 10) == []


def test_a_failed_build_names_the_cause(modalpool, settings, calm, tmp_path):  # noqa: F811
    """What Modal says of it is no more than that it failed; the last line of the log says why."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "dockerfile").write_text("RUN exit 7\n")
    done = modalpool("-o", f"state={tmp_path}/state,image=base,dockerfile={tmp_path}/dockerfile", "modal", tmp_path / "mnt",
                     env=plain_environment(settings, tmp_path, **settings.environment))
    one_line(done, "image base cannot be built", "command 2 ended with 7", "its log ends with: sh: this is why")


@pytest.mark.parametrize("kind, more", [("garble", ["ImageJoinStreaming", "TaskExecStdioRead"]),
                                        ("twice", ["ImageGetOrCreate"])])
def test_answers_that_break_the_protocol(mount, calm, settings, kind, more):
    """Each call is tried again, as after a broken connection: of the start, of a sandbox, of a job."""
    create = ["AuthTokenGet", "SandboxCreateV2"] if settings.v2 else [
        "SandboxCreate", "SandboxGetTaskId", "TaskGetCommandRouterAccess"]
    methods = ["EnvironmentGetOrCreate", "AppGetOrCreate", *create, "TaskExecStart", "TaskExecWait", *more]
    calm.faults(*[{"kind": kind, "method": method, "count": 2} for method in methods])
    mp = mount(max=1, image=f"broken-{kind}")
    lease = mp.lease()
    assert lease.run("echo out; exit 7") == ("out\n", 7)
    assert calm.stats()["faults"] == {f"{kind} {method}": 2 for method in methods}
    assert len(calm.stats()["sandboxes"]["live"]) == 1


def test_plain_http(mount, settings):
    """Without TLS, to this machine only."""
    with Simulator(tls=False) as plain:
        mp = mount(start=False)
        mp.environment.update(plain.env({}))
        mp.start()
        lease = mp.lease()
        assert lease.run("echo hi") == ("hi\n", 0)
        assert plain.stats()["sandboxes"]["created"] == 1
        mp.elsewhere = True
        mp.stop()
        assert plain.stats()["sandboxes"]["live"] == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://127.0.0.1.example.com:{port}", "https://127.0.0.1:{port}/v2",
                                 "https://127.0.0.1:{port}?x=", "https://127.0.0.1:{port}#", "https://user@127.0.0.1:{port}"])
@pytest.mark.parametrize("how", ["asked for", "with the create"])
def test_a_router_address_that_is_none(mount, calm, settings, rpc, how, url):
    """Its token goes nowhere: not in the clear where the server is spoken to by TLS, and to nothing but a host and a port."""
    url = url.format(port=calm.router_url.rpartition(":")[2])
    if how == "with the create" and not settings.v2:
        pytest.skip("only of the second kind")
    mp = mount(max=1)
    calm.config(access_at_create=how == "with the create")
    calm.faults({"kind": "answer", "method": "SandboxCreateV2", "fields": {"command_router_access": {"url": url}}}
                if how == "with the create" else
                {"kind": "answer", "method": rpc("TaskGetCommandRouterAccess"), "fields": {"url": url}})
    before = calm.stats()["wire"].get("router connections", 0)
    mp.lease()
    mp.until(lambda: mp.stats()["trouble"] or mp.environments()["leased"])
    calm.config(access_at_create=True)
    assert "the router's address: " + url + ": " in mp.stats()["trouble"]
    assert calm.stats()["wire"].get("router connections", 0) == before


# What a job costs


def router_calls(sim):
    rpcs = sim.stats()["rpcs"]
    return {name: rpcs.get(name, 0) for name in ROUTER}


def check_calls_of_a_job(calm, lease, i):
    before = router_calls(calm)
    assert lease.run(f"echo {i}; exit {i}") == (f"{i}\n", i)
    after = router_calls(calm)
    assert {name: after[name] - before[name] for name in ROUTER} == {
        "TaskExecStart": 1, "TaskExecStdioRead": 2, "TaskExecWait": 1, "TaskExecPoll": 0, "TaskExecStdinWrite": 0,
        "TaskGetCommandRouterAccess": 0, "SandboxGetCommandRouterAccess": 0}


@pytest.mark.plain
def test_round_trips_of_a_job(mount, calm):
    """Two: the start; then both streams and the end at once. Counted by the simulator."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("true")
    for i in range(10):
        seen = len(calm.trace())
        check_calls_of_a_job(calm, lease, i)
        # Nothing else was asked, of anybody. The three that follow the start follow it at once, not each other.
        calls = {call["method"]: call for call in calm.trace()[seen:]}
        assert sorted(calls) == ["TaskExecStart", "TaskExecStdioRead", "TaskExecWait"]
    slow = router_calls(calm)
    lease.submit("mkfifo go; echo begun; read x < go")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(6) == b"begun\n"
    # The wait goes out while the streams are open: the job does not end before that is seen.
    while (during := router_calls(calm))["TaskExecWait"] == slow["TaskExecWait"]:
        pass
    assert during["TaskExecWait"] == slow["TaskExecWait"] + 1 and during["TaskExecStdioRead"] == slow["TaskExecStdioRead"] + 2
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n"


@pytest.fixture
def router(calm):
    """Sets what the router does with calls for an exec that is not there (yet)."""
    yield lambda what: calm.config(unknown_exec=what)
    calm.config(unknown_exec="refuse")


@pytest.mark.plain
@pytest.mark.parametrize("what", ["refuse", "hold", "end"])
def test_starts_come_first(mount, calm, router, what):
    """Whatever the router would say of an exec that is not there: one might tell the end of an output that has not begun."""
    router(what)
    lease = mount(max=1).lease()
    lease.run("true")
    for i in range(5):
        seen = len(calm.trace())
        calm.faults({"kind": "latency", "when": "after", "method": "TaskExecStart", "ms": 200})
        assert lease.run(f"echo {i}") == (f"{i}\n", 0)
        calm.faults()
        calls = calm.trace()[seen:]
        started = next(c["at"] + c["ms"] / 1000 for c in calls if c["method"] == "TaskExecStart")
        assert len(calls) == 4 and all(c["at"] >= started - 0.01 for c in calls if c["method"] != "TaskExecStart")


def test_warm_mkdir_asks_nobody(mount, calm, rpc, settings):
    """No call is made for it, and it is answered while no call is."""
    mp = mount(max=2, min=2)
    mp.until(lambda: mp.environments()["idle"] == 2)
    # Each has run its first command. A helper is uploaded, and notes how it is: that is an exec each.
    reads = 2 + (8 if settings.helper else 0)
    before = calm.until(lambda stats: stats["rpcs"]["TaskExecStdioRead"] == reads)["rpcs"]
    calm.faults({"kind": "hang"})
    for name in ("one", "two"):
        assert mp.lease(name).read("environment") != ""
    after = calm.stats()["rpcs"]
    changed = {name for name in after if after[name] != before.get(name, 0)}
    # Nobody's mkdir are: a wait for a sandbox's end that is renewed, and the word to a helper that its note has come.
    assert not changed - {rpc("SandboxWait")} - ({"TaskExecStdinWrite"} if settings.helper else set()), changed


# Faults


@pytest.mark.limit(240)
def test_a_thousand_jobs_under_faults(mount, calm, settings, pytestconfig):
    """Each runs exactly once: as the sandbox counts, and the simulator. Each byte and each exit code is right."""
    jobs, leases = 1000 if settings.slow == 1 else 200, 8
    mp = mount(max=leases, history=jobs)
    taken = [mp.lease(f"t{i}") for i in range(leases)]
    for lease in taken:
        lease.run("true")
    calm.faults(*harness.MODAL_FAULTS, seed=int(pytestconfig.getoption("--fault-seed")))
    before = set(calm.stats()["execs"])

    def user(k):
        wrong = []
        for i in range(k, jobs, leases):
            if settings.helper and i % 20 == 0:
                calm.reset_connections()  # else its streams would stay open: now they are asked for again, and may be cut
            text = f"{i}-" * (1 + i * 37 % 3000)
            # In /tmp, for the workdir is its own. 2 out of 3 jobs write to both streams, each in one piece.
            script = f"echo {i} >> /tmp/ran; printf '%s' '{text}'; [ {i % 3} = 0 ] || printf 'e%s' {i} >&2; exit {i % 200}"
            try:
                with open(taken[k] / "cmd", "r+b", buffering=0) as cmd:
                    for at in range(0, len(script), 1 << 16):
                        cmd.write(script[at:at + (1 << 16)].encode())
                    while cmd.read(1 << 16):
                        pass
                number = taken[k].status()["newest"]
                got = (taken[k].read(f"jobs/{number}/stdout"), taken[k].read(f"jobs/{number}/stderr"),
                       int(taken[k].read(f"jobs/{number}/exit_code")))
                if got != (text, f"e{i}" if i % 3 else "", i % 200):
                    wrong.append((i, len(got[0]), len(text), got[1], got[2]))
            except OSError as e:
                wrong.append((i, str(e), taken[k].read("error")))
        return wrong

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(leases) as pool:
        wrong = [one for found in pool.map(user, range(leases)) for one in found]
    took = time.monotonic() - began
    faults = calm.stats()["faults"]
    print(f"{jobs} jobs in {took:.1f} s, {sum(faults.values())} faults: {faults}")
    calm.faults()
    ran = []
    for lease in taken:
        output, code = lease.run("cat /tmp/ran")
        assert code == 0
        ran += [int(line) for line in output.split()]
    assert wrong == []
    assert sorted(ran) == list(range(jobs)), "in the sandboxes"
    execs = calm.stats()["execs"]
    assert {facts["starts"] for facts in execs.values()} == {1}
    made = len(set(execs) - before)
    assert made < jobs if settings.helper else made == jobs + leases, "at the simulator"
    for kind in ("latency", "status", "throttle", "reset", "goaway", "no_trailers", "cut"):
        assert any(name.startswith(kind + " TaskExec") for name in faults), kind


@pytest.mark.limit(240)
def test_silent_faults(mount, calm, settings, pytestconfig):
    """5 % of the calls are never answered, of each kind, and connections go silent: noticed by deadlines, and made good."""
    jobs = 100 if settings.slow == 1 else 20
    mp = mount(max=jobs)
    leases = [mp.lease(f"t{i}") for i in range(jobs)]
    for lease in leases:
        lease.run("true")
    methods = ["TaskExecStdinWrite"] if settings.helper else ["TaskExecStart", "TaskExecStdioRead", "TaskExecWait"]
    calm.faults(*harness.silent_faults(methods), seed=int(pytestconfig.getoption("--fault-seed")))
    began = time.monotonic()
    for i, lease in enumerate(leases):
        lease.submit(f"echo {i} >> ran; echo out{i}; echo err{i} >&2; exit {i}")
    for i, lease in enumerate(leases):
        assert (lease.read("stdout"), lease.read("stderr"), lease.read("exit_code")) == (f"out{i}\n", f"err{i}\n", f"{i}\n")
    faults = calm.stats()["faults"]
    print(f"{jobs} jobs in {time.monotonic() - began:.1f} s, faults: {faults}")
    calm.faults()
    assert set(faults) >= {f"stall {method}" for method in methods} and any(name.startswith("hang Task") for name in faults)
    assert set(faults) >= {f"hang {method}" for method in methods} or settings.slow > 1
    for i, lease in enumerate(leases):
        assert lease.run("cat ran") == (f"{i}\n", 0)


class Counter:
    """`seq`-like output over seconds, read as it comes."""

    script = "i=0; while [ $i -lt 400 ]; do printf '%07d\\n' $i $((i+1)) $((i+2)) $((i+3)); i=$((i+4)); sleep 0.03; done; exit 9"
    wanted = b"".join(b"%07d\n" % i for i in range(400))

    def __init__(self, lease):
        lease.submit(self.script)
        self.lease = lease
        self.data = b""
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        with open(self.lease / "output", "rb", buffering=0) as output:
            while piece := output.read(4096):
                self.data += piece

    def until(self, n):
        while len(self.data) < n and self.thread.is_alive():
            time.sleep(0.005)

    def check(self):
        self.thread.join()
        assert self.data == self.wanted
        assert self.lease.read("exit_code") == "9\n" and self.lease.read("error") == "ok\n"


def test_token_expires_in_mid_stream(mount, calm, rpc):
    lease = mount().lease()
    lease.run("true")
    counter = Counter(lease)
    for i in range(1, 4):
        counter.until(i * 800)
        calm.expire_jwt(cut=True)
    counter.check()
    stats = calm.stats()
    assert stats["statuses"]["TaskExecStdioRead"].get("UNAUTHENTICATED", 0) >= 1
    assert stats["rpcs"][rpc("TaskGetCommandRouterAccess")] >= 3
    assert lease.run("echo after") == ("after\n", 0)


def test_short_lived_tokens(mount, calm):
    """Each token of a router lives for one second."""
    calm.config(jwt_lifetime=1.0)
    try:
        lease = mount().lease()
        for _ in range(2):
            counter = Counter(lease)
            counter.check()
    finally:
        calm.config(jwt_lifetime=3600.0)


def test_router_moves_in_mid_stream(mount, calm):
    mp = mount()
    lease = mp.lease()
    lease.run("true")
    counter = Counter(lease)
    for i in range(1, 3):
        counter.until(i * 800)
        calm.move_router()
    counter.check()
    assert mp.hears("router is now at")
    assert lease.run("echo after") == ("after\n", 0)


def test_connections_reset_in_mid_stream(mount, calm):
    lease = mount().lease()
    lease.run("true")
    counter = Counter(lease)
    for i in range(1, 6):
        counter.until(i * 500)
        calm.reset_connections()
    counter.check()


# The token


CANARY_ID, CANARY_SECRET = "ak-canary0123456789", "as-Canary9876543210x"


@pytest.fixture
def canary(tmp_path):
    with Simulator(token_id=CANARY_ID, token_secret=CANARY_SECRET) as made:
        yield made


def spelled(text):
    """A secret, and its encodings."""
    import base64
    raw = text.encode()
    return [raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode(), raw[::-1], raw[3:]]


@pytest.mark.parametrize("source", ["environment", "file"])
def test_token_is_found_nowhere(mount, settings, canary, tmp_path, source):
    """Not in logs, /proc, files of the mount, state directory, core or errors; neither is a token that Modal gave us."""
    needles = spelled(CANARY_SECRET) + spelled(CANARY_ID) + [b"eyJ"]

    def clean(where, data):
        for needle in needles:
            assert needle not in data, f"{needle} in {where}"

    mp = mount(start=False, log="debug", max=2)
    if source == "environment":
        mp.environment.update(canary.env({}))
    else:
        toml = tmp_path / "secret.toml"
        toml.write_text(f'[default]\ntoken_id = "{CANARY_ID}"\ntoken_secret = "{CANARY_SECRET}"\n')
        toml.chmod(0o600)
        mp.environment = plain_environment(settings, tmp_path, MODAL_CONFIG_PATH=str(toml),
                                           MODAL_SERVER_URL=canary.server_url, SSL_CERT_FILE=canary.ca)
    mp.elsewhere = True
    mp.start()
    lease = mp.lease()
    output, _ = lease.run("env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null; ps axe 2>/dev/null; true")
    clean("the job", output.replace("eyJ", "").encode("utf-8", "surrogateescape"))
    # Errors of all calls, and those in which a server repeats the token.
    for message in ("kaputt", f"refused: {CANARY_ID} / {CANARY_SECRET}", f"x{CANARY_SECRET}y", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc-_"):
        canary.faults({"kind": "status", "code": "PERMISSION_DENIED", "method": "TaskExecStart", "message": message, "count": 1},
                      {"kind": "status", "code": "PERMISSION_DENIED", "method": "SandboxCreate*", "message": message, "count": 1})
        other = mp.lease("other")
        with contextlib.suppress(OSError):
            other.submit("true")
        with contextlib.suppress(OSError):
            other.read("exit_code")
        with contextlib.suppress(OSError):
            clean("error", other.read("error").encode())
            clean("error", other.read("jobs/1/error").encode())
        other.release()
        mp.until_settled()
    canary.faults()
    canary.expire_jwt(cut=True)
    lease.submit("echo again; sleep 1000")
    with contextlib.suppress(OSError):
        lease.until_running()

    for pid in [mp.pid, *processes.descendants(mp.pid)]:
        for name in ("cmdline", "environ", "comm"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                clean(f"/proc/{pid}/{name}", file.read())
    read = []
    for folder, _, names in os.walk(mp.path):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                try:
                    with contextlib.suppress(BlockingIOError):
                        while data := os.read(fd, 1 << 17):
                            clean(path, data)
                            read.append(path)
                finally:
                    os.close(fd)
    assert any(path.endswith(".pool/config") for path in read) and any(path.endswith(".pool/events") for path in read)
    tokens = 0
    for path in mp.state.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.name.startswith("journal"):  # has the tokens of V2 sandboxes, for the next run, and nobody else may read it
                assert path.stat().st_mode & 0o077 == 0
                tokens += data.count(b"eyJ")
                data = data.replace(b"eyJ", b"")
            clean(path, data)
    assert bool(tokens) == settings.v2
    config = json.loads((mp / ".pool/config").read_text())
    assert {config[name]["value"] for name in ("token_id", "token_secret")} <= {"***", ""}

    mp.stop()
    clean("the log", mp.log().encode())
    assert canary.stats()["sandboxes"]["live"] == {}


def killed_by(pid):
    """How a process ended that SIGABRT ends: CLD_DUMPED says that the kernel made a core of it, wherever that went."""
    os.kill(pid, signal.SIGABRT)
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_code


@pytest.mark.root
def test_no_core_and_no_look_into_memory(mount, settings, sim, tmp_path):
    """The user of the daemon cannot read its memory, trace it, or get a core dump of it."""
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("/dev/fuse is not for ordinary users here")
    import resource
    if not shutil.which("fusermount3") or not os.stat(shutil.which("fusermount3")).st_mode & 0o4000:
        pytest.skip("fusermount3 is not setuid here")
    user = {"user": 65534, "group": 65534, "extra_groups": [], "stdin": subprocess.DEVNULL, "capture_output": True}
    for path in [tmp_path, *tmp_path.parents]:
        if path.stat().st_uid == 0 and str(path) != "/":
            path.chmod(path.stat().st_mode | 0o011)
    program, ca = tmp_path / "modalpool", tmp_path / "ca.pem"
    shutil.copy(settings.program, program)
    shutil.copy(sim.ca, ca)
    ca.chmod(0o644)
    mp = mount(start=False)
    for path in (mp.directory, mp.path, mp.state):
        os.chown(path, 65534, 65534)
    words = mp.command("-f")
    words[words.index(settings.program)] = str(program)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        other = subprocess.Popen(["sleep", "1000"], cwd=tmp_path)
        mp.process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=mp.directory, user=65534, group=65534, extra_groups=[],
                                      env={**mp.environment, "SSL_CERT_FILE": str(ca), "HOME": str(mp.directory)})
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    for line in mp.process.stderr:
        if b"mounted at" in line:
            break
    for name in ("mem", "environ", "maps"):
        done = subprocess.run(["head", "-c1", f"/proc/{mp.pid}/{name}"], **user)
        assert done.returncode != 0 and b"denied" in done.stderr, (name, done)
    if gcore := shutil.which("gcore"):
        done = subprocess.run([gcore, "-o", str(mp.directory / "dump"), str(mp.pid)], **user)
        assert done.returncode != 0 and not list(mp.directory.glob("dump*"))
    dumps = killed_by(other.pid) == os.CLD_DUMPED
    other.wait()
    assert killed_by(mp.pid) == os.CLD_KILLED
    mp.process.stderr.close()
    mp.process.wait()
    mp.process = None
    print("a core of another process was made here:", dumps)


# Size


@pytest.mark.limit(240)
def test_two_hundred_leases_at_once(mount, calm, settings):
    """Or fifty, with a sanitizer."""
    n = 200 if settings.slow == 1 else 50
    mp = mount(max=n, wait=120 * settings.slow)
    leases = [mp.lease(f"t{i}") for i in range(n)]
    for i, lease in enumerate(leases):
        lease.submit(f"echo begun {i}; while [ ! -e go ]; do sleep 0.2; done; echo end {i}; exit {i % 100}")
    streams = [open(lease / "output", "rb", buffering=0) for lease in leases]
    for i, stream in enumerate(streams):
        line = b"begun %d\n" % i
        assert stream.read(len(line)) == line
    # All at once. A first line may be here before the simulator has taken up the last of the calls.
    all_at_once = {"TaskExecWait": n, "TaskExecStdioRead": 2 * n}
    stats = calm.until(lambda stats: all_at_once.items() <= stats["open_calls"].items())
    assert len(stats["sandboxes"]["live"]) == n
    assert mp.environments()["leased"] == n
    assert len(os.listdir(f"/proc/{mp.pid}/task")) <= 12
    print(f"connections {stats['wire']}, threads {len(os.listdir(f'/proc/{mp.pid}/task'))}, VmHWM {memory(mp):.1f} MiB")
    began = time.monotonic()
    for lease in leases:  # each kill is a command in its sandbox
        lease.write("ctl", "kill\n")
    assert [lease.read("exit_code") for lease in leases] == ["137\n"] * n
    print(f"killed in {time.monotonic() - began:.1f} s")
    for stream in streams:
        assert stream.read() == b""
        stream.close()


@pytest.mark.limit(120)
def test_more_sandboxes_than_are_looked_after_at_once(mount, calm, rpc):
    """32 ends are waited for at one time. The others have their turn, and the death of each is noticed."""
    wait = rpc("SandboxWait")
    n = 40
    mp = mount(max=n)
    leases = [mp.lease(f"t{i}") for i in range(n)]
    sandboxes = [lease.read("environment").strip() for lease in leases]
    asked = calm.until(lambda stats: stats["open_calls"].get(wait) == 32)["by_sandbox"]
    unasked = [i for i, one in enumerate(sandboxes) if wait not in asked[one]]
    assert len(unasked) == 8
    calm.reset_connections()  # those are asked again, and now that others wait, for seconds only
    for i in (0, unasked[0], unasked[-1]):
        calm.kill_sandbox(sandboxes[i])
    mp.until(lambda: all(leases[i].status()["state"] == "lost" for i in (0, unasked[0], unasked[-1])))
    assert mp.environments()["leased"] == n - 3
    assert calm.stats()["open_calls"][wait] <= 32


def test_released_while_its_job_is_being_started(mount, calm):
    """What reaches the helper late is cleaned away too."""
    mp = mount(max=1, helper=True)
    lease = mp.lease()
    lease.run("true")
    execs = len(calm.stats()["execs"])
    calm.faults({"kind": "late", "method": "TaskExecStdinWrite", "ms": 1000, "count": 1})
    lease.submit("sleep 1000 & sleep 1000")
    calm.until(lambda stats: sum(stats["faults"].values()) == 1)
    lease.release()
    mp.until_settled()
    assert len(calm.stats()["execs"]) == execs, "over the stream that was open"
    assert not mp.alive("sleep")
    assert mp.environments()["idle"] == 1
    assert mp.lease().run("ls -A") == ("", 0)


@pytest.mark.plain
def test_released_while_its_exec_is_being_started(mount, calm):
    """What starts late is cleaned away too."""
    mp = mount(max=1)
    lease = mp.lease()
    lease.run("true")
    before = len(calm.stats()["execs"])
    calm.faults({"kind": "late", "method": "TaskExecStart", "ms": 1000, "count": 1})
    lease.submit("sleep 1000 & sleep 1000")
    calm.until(lambda stats: sum(stats["faults"].values()) == 1)
    lease.release()
    calm.until(lambda stats: len(stats["execs"]) == before + 2)  # the job, and the clean-up
    mp.until_settled()
    start, clean = calm.trace(method="TaskExecStart")[-2:]
    assert start["status"] == "OK" and clean["at"] >= start["at"] + start["ms"] / 1000 - 0.01, "first the one, then the other"
    assert not mp.alive("sleep")
    assert mp.environments()["idle"] == 1
    assert mp.lease().run("ls -A") == ("", 0)


@pytest.mark.exact
def test_a_sandbox_waits_without_children(mount, calm):
    """A job that ends all it finds finds nothing that its sandbox would start again, to be cleaned away for ever."""
    mp = mount(max=1)
    seen = set()
    for _ in range(3):
        lease = mp.lease()
        seen.add(lease.read("environment"))
        assert lease.run("pkill -9 sleep; grep -ls ^sleep /proc/[0-9]*/comm")[0] == ""
        lease.release()
    mp.until(lambda: mp.stats()["environments_cleaned_total"] == 3)
    assert len(seen) == 1


@pytest.mark.limit(240)
def test_memory_is_flat_while_a_gibibyte_streams(mount, calm, settings):
    """1 GiB that no compression and no luck gets right, checked by its sum on both sides. With a sanitizer, a part of it."""
    mib = 1024 if settings.slow == 1 else 64
    mp = mount(log="info", output_max="2G")
    lease = mp.lease()
    lease.write("timeout", "0")
    lease.run("true")
    before = memory(mp)
    # A block that nobody could guess, over and over with a number before each.
    lease.submit("head -c 1048560 /dev/urandom > /tmp/block; mkfifo /tmp/sum; sha256sum < /tmp/sum > /tmp/was & "
                 f"i=0; while [ $i -lt {mib} ]; do printf '%016d' $i; cat /tmp/block; i=$((i+1)); done | tee /tmp/sum; wait")
    began, total, sum_, most = time.monotonic(), 0, hashlib.sha256(), 0
    with open(lease / "output", "rb", buffering=0) as output:
        while piece := output.read(1 << 17):
            total += len(piece)
            sum_.update(piece)
    took = time.monotonic() - began
    assert lease.read("exit_code") == "0\n"
    assert total == mib << 20
    assert lease.run("cat /tmp/was")[0].split()[0] == sum_.hexdigest()
    print(f"{mib} MiB in {took:.1f} s, {mib / took:.0f} MiB/s; VmHWM {before:.1f} MiB before, {memory(mp):.1f} MiB after")
    assert memory(mp) < 64 or settings.slow > 1  # a sanitizer keeps what is freed


# The end


@pytest.mark.limit(60)
def test_nothing_is_left(mount, sim):
    """Idle, leased, running, being created, being cleaned: SIGTERM ends them all."""
    mp = mount(max=6, min=2)
    leases = [mp.lease(f"t{i}") for i in range(5)]
    for lease in leases[:3]:
        lease.submit("sleep 1000 & sleep 1000")
    leases[0].until_running()
    leases[1].release()
    mp.lease("late")
    mp.stop()
    stats = sim.stats()["sandboxes"]
    assert stats["live"] == {} and stats["created"] == stats["ended"]["terminated"] >= 4


def test_kill_of_a_job_that_hides_proc(mount, settings):
    """The helper has a /proc of its own, and clears away what was mounted."""
    if settings.gvisor:
        pytest.skip("jobs may not mount anything there")
    mp = mount(max=1, helper=True)
    lease = mp.lease()
    used = lease.read("environment")
    lease.submit("mount -t tmpfs none /proc && echo hidden; exec env -i sleep 1000")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(7) == b"hidden\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n" and not mp.alive("sleep")
    assert lease.read("error") == "killed through ctl\n"
    lease.release()
    lease = mp.lease()
    assert lease.read("environment") == used and lease.run("cat /proc/self/comm") == ("cat\n", 0)


@pytest.mark.plain
def test_kill_of_what_cannot_be_found(mount, settings):
    """A job that hides /proc escapes, is named as such, and costs its lease nothing; only the next one gets another sandbox."""
    if settings.gvisor:
        pytest.skip("jobs may not mount anything there")
    mp = mount(max=1)
    lease = mp.lease()
    used = lease.read("environment")
    lease.submit("mount -t tmpfs none /proc && echo hidden; exec env -i sleep 1000")
    with open(lease / "output", "rb", buffering=0) as output:
        assert output.read(7) == b"hidden\n"
    lease.write("ctl", "kill\n")
    assert lease.read("exit_code") == "137\n"
    assert lease.read("error") == "killed through ctl; none of its processes was found\n"
    assert lease.status()["state"] == "leased" and lease.run("echo next") == ("next\n", 0)
    lease.release()
    assert mp.lease().read("environment") != used
