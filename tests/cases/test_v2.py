# SPDX-License-Identifier: MIT
"""Modal's two kinds of sandbox, V1 and V2: what each costs, which is chosen, and a pool that has both."""

import contextlib
import errno

import pytest

from test_daemon import modalpool, one_line  # noqa: F401
from test_lease import fails
from test_modal import plain_environment

pytestmark = [pytest.mark.modal, pytest.mark.exact]


@contextlib.contextmanager
def configured(sim, **settings):
    before = sim.ask("/config")
    sim.config(**settings)
    try:
        yield
    finally:
        sim.config(**{name: before[name] for name in settings})


def calls(sim, *methods):
    rpcs = sim.stats()["rpcs"]
    return tuple(rpcs.get(method, 0) for method in methods)


# A create


def control_calls(calm, create):
    """What a create asks of the control plane, without polls of the sandbox's end."""
    before = calm.stats()["rpcs"]
    create()
    after = calm.stats()["rpcs"]
    counts = {method: n - before.get(method, 0) for method, n in after.items()}
    return {method: n for method, n in counts.items() if n and not method.startswith(("TaskExec", "SandboxWait"))}


@pytest.mark.parametrize("how, expected", [
    ("v2", {"SandboxCreateV2": 1}),
    ("v2 without access", {"SandboxCreateV2": 1, "SandboxGetCommandRouterAccess": 1}),
    ("v2 without task", {"SandboxCreateV2": 1, "SandboxGetTaskIdV2": 1}),
    ("v1", {"SandboxCreate": 1, "SandboxGetTaskId": 1, "TaskGetCommandRouterAccess": 1})])
def test_calls_of_a_create(mount, calm, how, expected):
    mp = mount(max=2, sandbox="v1" if how == "v1" else "auto")
    mp.lease().run("true")  # the token is there
    assert mp.hears("SandboxListV2: OK")
    if how == "v2 without task":
        calm.faults({"kind": "answer", "method": "SandboxCreateV2", "fields": {"task_id": ""}})
    with configured(calm, access_at_create=how != "v2 without access"):
        assert control_calls(calm, lambda: mp.lease("t2").run("true")) == expected
    assert [one["version"] for one in calm.sandboxes()] == [1, 1] if how == "v1" else [2, 2]


def test_the_token_of_a_sandbox_goes_with_its_calls(mount, calm):
    """Also with those of the next run, which has it from the journal."""
    with configured(calm, sandbox_token="demand", access_at_create=False):
        mp = mount(max=2, sandbox="v2")
        one, two = mp.lease("one"), mp.lease("two")
        one.run("echo kept > file")
        two.run("true")
        mp.crash()
        mp.start()
        assert one.run("cat file") == ("kept\n", 0)
        calm.kill_sandbox(two.read("environment").strip())
        mp.until(lambda: two.status()["state"] == "lost")
        mp.crash()
        mp.stop()  # by reap
        sent = calm.stats()["sandbox_tokens"]
        assert not [method for method in sent if method.startswith("missing")], sent
        assert {"sent SandboxWaitV2", "sent SandboxTerminateV2", "sent SandboxGetCommandRouterAccess"} <= set(sent)


@pytest.mark.parametrize("token", ["two words", "x\ny", "\u2028", "x" * 8193], ids=["blank", "newline", "unicode", "long"])
def test_a_sandbox_token_that_is_none(mount, calm, token):
    mp = mount(max=1, sandbox="v2")
    calm.faults({"kind": "answer", "method": "SandboxCreateV2", "fields": {"sandbox_token": token}, "count": 1})
    assert mp.lease().run("echo on") == ("on\n", 0)
    assert "an answer to SandboxCreateV2 that cannot be taken" in mp.log()
    mp.until(lambda: mp.environments()["ending"] == 0)
    assert len(mp.sandboxes()) == 1 and calm.stats()["sandboxes"]["created"] == 2


def test_one_that_dies_before_it_is_up(mount, calm):
    """The cause is told, and the lease gets another one."""
    calm.faults({"kind": "kill_sandbox", "method": "TaskExecStart", "status": "INIT_FAILURE", "exitcode": 7, "count": 1})
    mp = mount(max=1, sandbox="v2")
    lease = mp.lease()
    assert mp.hears("it could not be started (init_failure, exit code 7)")
    assert lease.run("echo on") == ("on\n", 0)
    assert calm.stats()["sandboxes"]["created"] == 2


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_secrets(mount, calm, kind):
    """The first kind has them by its definition, the second as sources beside it."""
    calm.secret("keys", KEY="k1", OTHER="o1")
    calm.secret("more", KEY="k2")
    mp = mount(max=1, secrets="keys+more", sandbox=kind)
    assert mp.lease().run("echo $KEY $OTHER") == ("k2 o1\n", 0)


# Which kind


def versions(calm):
    return [one["version"] for one in calm.sandboxes()]


def test_v1_where_a_gpu_is_asked_for(mount, calm):
    mp = mount(max=1, gpu="T4", sandbox="auto")
    assert mp.lease().run("echo hi") == ("hi\n", 0)
    assert versions(calm) == [1] and calls(calm, "SandboxCreateV2") == (0,)


def test_no_v2_with_a_gpu(modalpool, settings, sim, tmp_path):  # noqa: F811
    (tmp_path / "mnt").mkdir()
    done = modalpool("-o", f"state={tmp_path}/state,gpu=T4,sandbox=v2", "modal", tmp_path / "mnt",
                     env=plain_environment(settings, tmp_path, **settings.environment))
    one_line(done, "option sandbox=v2: sandboxes of this kind have no gpu")


@pytest.mark.parametrize("what", ["all calls", "the create", "the token"])
def test_v1_where_the_server_has_no_v2(mount, calm, what):
    """With one line in the log, and without trying again for each sandbox."""
    if what != "all calls":
        calm.faults({"kind": "status", "code": "UNIMPLEMENTED",
                     "method": "SandboxCreateV2" if what == "the create" else "AuthTokenGet"})
    with configured(calm, v2=what != "all calls"):
        mp = mount(max=3, sandbox="auto")
        for i in range(3):
            assert mp.lease(f"t{i}").run("echo hi") == ("hi\n", 0)
        assert versions(calm) == [1, 1, 1]
        assert len([line for line in mp.lines if "has no V2 sandboxes" in line]) == 1
        assert sum(calls(calm, "SandboxCreateV2", "SandboxListV2")) <= 3
        mp.stop()


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION"])
def test_v1_where_v2_refuses_and_v1_does_not(mount, calm, code):
    calm.faults({"kind": "status", "code": code, "method": "SandboxCreateV2", "message": "not that as V2, eyJ.secret"})
    mp = mount(max=3, sandbox="auto")
    for i in range(3):
        assert mp.lease(f"t{i}").run("echo hi") == ("hi\n", 0)
    assert versions(calm) == [1, 1, 1] and calls(calm, "SandboxCreateV2") == (1,)
    said, = [line for line in mp.lines if "as V2 refuses them: Modal says: not that as V2, **********" in line]


def refused(mount, calm, sandbox, code, method):
    """How many creates of each kind there are until a lease fails, because Modal refuses those of @method."""
    calm.faults({"kind": "status", "code": code, "method": method, "message": "never"})
    mp = mount(max=1, sandbox=sandbox)
    lease = mp.lease()
    mp.until(lambda: lease.status()["state"] == "failed")
    assert "not created: Modal says: never" in lease.read("error")
    made = calls(calm, "SandboxCreateV2", "SandboxCreate")
    calm.faults()
    return made


def test_refused_by_both(mount, calm):
    """Each create is two calls and no more, and after three there are none."""
    assert refused(mount, calm, "auto", "INVALID_ARGUMENT", "SandboxCreate*") == (3, 3)


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNIMPLEMENTED"])
def test_v2_and_no_other(mount, calm, code):
    assert refused(mount, calm, "v2", code, "SandboxCreateV2") == (3, 0)


def test_no_capacity(mount, calm):
    """It is no refusal for good: the lease waits, is told why, and has its sandbox when there is room."""
    with configured(calm, capacity=1):
        mp = mount(max=2, sandbox="v2")
        one = mp.lease("one")
        one.read("environment")
        two = mp.lease("two")
        calm.until(lambda stats: stats["statuses"]["SandboxCreateV2"].get("RESOURCE_EXHAUSTED", 0) >= 4)
        status = two.status()
        assert status["state"] == "waiting"
        assert "not created, for lack of capacity: Modal says: Insufficient capacity" in status["error"]
        assert status["error"] in two.read("error") and "for lack of capacity" in mp.stats()["trouble"]
        calm.config(capacity=2)
        assert two.run("echo at last") == ("at last\n", 0)
        assert "no more for now" not in mp.log()


# A pool that has both


@pytest.mark.limit(60)
def test_a_pool_whose_kind_changes(mount, calm):
    """From V1 to V2 and back, killed each time: leases go on with the sandbox they have, and orphans of both kinds end."""
    mp = mount(max=2, sandbox="v1")
    first = mp.lease("first")
    first.run("echo kept > file")
    first.submit("echo begun; sleep 1000")
    calm.faults({"kind": "hang", "method": "SandboxCreate", "when": "after"})
    waits = mp.lease("waits")
    waits.submit("echo at last")
    calm.until(lambda stats: stats["sandboxes"]["created"] == 2)
    mp.crash()

    mp.options["sandbox"] = "v2"
    calm.faults({"kind": "hang", "method": "SandboxCreateV2", "when": "after"})
    mp.start()
    calm.until(lambda stats: stats["sandboxes"]["created"] == 3 and stats["sandboxes"]["ended"] == {"terminated": 1})
    assert sorted(versions(calm)) == [1, 1, 2] and first.status()["running"] == "2"
    mp.crash()

    calm.faults()
    mp.start()
    assert waits.read("jobs/1/output") == "at last\n"
    mp.until(lambda: mp.environments()["ending"] == 0)
    assert calm.stats()["sandboxes"]["ended"] == {"terminated": 2}
    mp.crash()

    mp.options["sandbox"] = "v1"
    mp.start()
    first.write("ctl", "kill")
    assert first.read("jobs/2/output") == "begun\n" and first.read("jobs/2/exit_code") == "137\n"
    assert first.run("cat file") == ("kept\n", 0)
    assert waits.run("echo and on") == ("and on\n", 0)
    live = {one["id"]: one["version"] for one in calm.sandboxes() if one["id"] in mp.sandboxes()}
    assert live == {first.read("environment").strip(): 1, waits.read("environment").strip(): 2}
    # The death of either kind is noticed, without a job that runs there.
    for one in live:
        calm.kill_sandbox(one)
    mp.until(lambda: first.status()["state"] == waits.status()["state"] == "lost")
    fails(errno.ENODEV, first.submit, "true")


@pytest.mark.parametrize("then", ["v1", "v2"])
def test_reap_ends_both(mount, calm, then):
    mp = mount(max=2, sandbox="v1")
    mp.lease("one").run("true")
    mp.crash()
    mp.options["sandbox"] = "v2"
    mp.start()
    mp.lease("two").run("true")
    assert sorted(versions(calm)) == [1, 2] and len(mp.sandboxes()) == 2
    mp.crash()
    mp.options["sandbox"] = then
    mp.end_what_crashed()
    assert calm.stats()["sandboxes"] == {"created": 2, "ended": {"terminated": 2}, "live": {}}
