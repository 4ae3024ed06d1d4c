"""The second kind of sandbox: its calls, its tokens, and what it does not have."""

import re

import pytest
from modal_proto import api_pb2, task_command_router_pb2 as pb

from .conftest import eventually

Status = api_pb2.GenericResult


@pytest.fixture
def box2(client):
    with client.create_v2() as sandbox:
        yield sandbox


def request(name, box, **fields):
    return getattr(api_pb2, name + "Request")(sandbox_id=box.id, **fields)


def env(**variables):
    return api_pb2.SecretSource(env=api_pb2.StringMap(contents=variables))


def test_one_call_gives_all_there_is_to_run_something(client, sim):
    client.image_id = client.image()
    client.auth()
    sim.reset(keep=["sandboxes"])
    with client.create_v2() as box:
        assert box.run("echo", "hello") == (0, b"hello\n", b"")
    assert not re.fullmatch("sb-[0-9A-Za-z]{22}", box.id) and box.id.startswith("sb-")
    assert re.fullmatch("ta-.*V", box.task_id)
    control = {m: n for m, n in sim.stats()["rpcs"].items() if not m.startswith("TaskExec")}
    assert control == {"SandboxCreateV2": 1}
    assert [s["version"] for s in sim.sandboxes()] == [2]


def test_the_family(client, sim, box2):
    task = client.call("SandboxGetTaskIdV2", request("SandboxGetTaskId", box2))
    assert task.task_id == box2.task_id
    for access in (client.call("SandboxGetCommandRouterAccess",
                               api_pb2.SandboxGetCommandRouterAccessRequest(task_id=box2.task_id)), box2.access()):
        assert access.jwt and access.url == box2.url
    tag = api_pb2.SandboxTag(tag_name="pool", tag_value="p")
    client.call("SandboxTagsSetV2", request("SandboxTagsSet", box2, tags=[tag]))
    assert list(client.call("SandboxTagsGetV2", request("SandboxTagsGet", box2)).tags) == [tag]
    assert client.call("SandboxWaitV2", request("SandboxWait", box2, timeout=0)).result.status == 0
    client.call("SandboxTerminateV2", request("SandboxTerminate", box2))
    result = client.call("SandboxWaitV2", request("SandboxWait", box2, timeout=10)).result
    assert result.status == Status.GENERIC_STATUS_TERMINATED
    assert sim.stats()["sandboxes"]["ended"] == {"terminated": 1}


def test_lists(client, box2):
    """The first kind's list does not show the second; the second's shows both."""
    with client.create({"pool": "p"}) as box:
        wanted = api_pb2.SandboxListRequest(app_id=client.app())
        assert [s.id for s in client.call("SandboxList", wanted).sandboxes] == [box.id]
        assert [s.id for s in client.call("SandboxListV2", wanted).sandboxes] == [box.id, box2.id]
        wanted.tags.add(tag_name="pool", tag_value="p")
        assert [s.id for s in client.call("SandboxListV2", wanted).sandboxes] == [box.id]


def test_each_kind_by_its_own_calls(client, box, box2, refused):
    for method, of in (("SandboxTerminate", box2), ("SandboxTerminateV2", box), ("SandboxWait", box2), ("SandboxWaitV2", box),
                       ("SandboxGetTaskId", box2), ("SandboxGetCommandRouterAccess", box), ("SandboxTagsGet", box2)):
        with refused("NOT_FOUND"):
            client.call(method, request(method.removesuffix("V2"), of))
    with refused("NOT_FOUND"):
        client.call("TaskGetCommandRouterAccess", api_pb2.TaskGetCommandRouterAccessRequest(task_id=box2.task_id))


def test_auth_token(client, sim, box2, refused):
    poll = request("SandboxWait", box2)
    for token in (None, "", "a.b.c", box2.jwt, box2.answer.sandbox_token):
        with refused("UNAUTHENTICATED"):
            client.call("SandboxWaitV2", poll, x_modal_auth_token=token)
    sim.expire_jwt()
    client.call("SandboxWaitV2", poll)
    sim.expire_jwt(of="auth")
    with refused("UNAUTHENTICATED") as r:
        client.call("SandboxWaitV2", poll)
    assert "expired" in r.error.details()
    client.auth_token = None
    client.call("SandboxWaitV2", poll)
    with pytest.raises(ValueError):
        sim.expire_jwt(of="colour")


def test_auth_token_lifetime(client, sim, box2, refused):
    sim.config(auth_token_lifetime=0.1)
    client.auth_token = None
    client.auth()

    def expired():
        try:
            client.call("SandboxWaitV2", request("SandboxWait", box2))
        except Exception as e:
            return e.code().name == "UNAUTHENTICATED"
    eventually(expired)
    sim.config(auth_token_lifetime=0.0)  # says no end, and has none
    client.auth_token = None
    client.call("SandboxWaitV2", request("SandboxWait", box2))
    sim.config(auth_token_lifetime=1200.0)


def test_sandbox_token(client, sim, box2, refused):
    poll = request("SandboxWait", box2)
    client.call("SandboxWaitV2", poll, x_modal_sandbox_token=None)
    with client.create_v2() as other, refused("UNAUTHENTICATED"):
        client.call("SandboxWaitV2", poll, x_modal_sandbox_token=other.answer.sandbox_token)
    sim.config(sandbox_token="demand")
    with refused("UNAUTHENTICATED"):
        client.call("SandboxWaitV2", poll, x_modal_sandbox_token=None)
    client.call("SandboxWaitV2", poll)
    assert sim.stats()["sandbox_tokens"] == {"sent SandboxWaitV2": 2, "missing SandboxWaitV2": 2}
    sim.config(sandbox_token="none")
    with client.create_v2() as box:
        assert box.answer.sandbox_token == ""
    sim.config(sandbox_token="give")


def test_an_answer_without_access(client, sim):
    sim.config(access_at_create=False)
    with client.create_v2() as box:
        assert not box.answer.HasField("command_router_access")
        assert box.run("true")[0] == 0
    sim.config(access_at_create=True)


def test_a_server_that_does_not_have_it(client, sim, refused):
    sim.config(v2=False)
    for method, message in (("SandboxCreateV2", client.create_request_v2()), ("SandboxListV2", api_pb2.SandboxListRequest()),
                            ("SandboxGetCommandRouterAccess", api_pb2.SandboxGetCommandRouterAccessRequest())):
        with refused("UNIMPLEMENTED"):
            client.call(method, message)
    with client.create() as box, refused("UNIMPLEMENTED"):
        next(box.call("SandboxStdioReadV2"))
    sim.config(v2=True)


def test_what_it_does_not_have(client, refused):
    for definition in ({"resources": api_pb2.Resources(gpu_config=api_pb2.GPUConfig(count=1, gpu_type="T4"))},
                       {"pty_info": api_pb2.PTYInfo(enabled=True)}, {"i6pn_enabled": True},
                       {"nfs_mounts": [api_pb2.SharedVolumeMount(mount_path="/m")]}):
        with refused("INVALID_ARGUMENT") as r:
            client.create_v2(**definition)
        assert "not supported by V2 Sandboxes" in r.error.details()
    client.create(resources=api_pb2.Resources(gpu_config=api_pb2.GPUConfig(count=1, gpu_type="T4")))


def test_capacity(client, sim, refused):
    """The second kind is refused when there is no room, and the first waits for it in its turn."""
    sim.config(capacity=1)
    held = client.create_v2()
    with refused("RESOURCE_EXHAUSTED") as r:
        client.create_v2()
    assert r.error.trailing_metadata() is None or "grpc-status-details-bin" not in dict(r.error.trailing_metadata())
    first, second = [client.call("SandboxCreate", client.create_request()).sandbox_id for _ in range(2)]

    def task(sandbox_id, seconds):
        return client.call("SandboxGetTaskId", api_pb2.SandboxGetTaskIdRequest(sandbox_id=sandbox_id, timeout=seconds))
    assert not task(first, 0.3).task_id and not task(second, 0).task_id
    client.call("SandboxTerminateV2", request("SandboxTerminate", held))
    assert task(first, 10).task_id and not task(second, 0).task_id
    client.call("SandboxTerminate", api_pb2.SandboxTerminateRequest(sandbox_id=second))  # while it waits
    result = task(second, 10)
    assert (result.task_id, result.task_result.status) == ("", Status.GENERIC_STATUS_TERMINATED)
    sim.config(capacity=2)
    client.create_v2()
    sim.config(capacity=0)


def test_create_is_idempotent_by_its_key(client, sim):
    asked = client.create_request_v2()
    ids = {client.call("SandboxCreateV2", asked, key="one").sandbox_id for _ in range(3)}
    assert len(ids) == 1 and sim.stats()["sandboxes"]["created"] == 1


def test_variables_in_their_order(client, sim, refused):
    sim.secret("keys", A="secret", B="secret")
    secret_id = client.call("SecretGetOrCreate", api_pb2.SecretGetOrCreateRequest(deployment_name="keys")).secret_id
    by_id = api_pb2.SecretSource(secret_id=secret_id)
    with client.create_v2(secret_sources=[env(A="inline", C="inline"), by_id, env(B="last")]) as box:
        show = ["sh", "-c", "echo $A $B $C"]
        assert box.run(*show)[1] == b"secret last inline\n"
        assert box.run(*show, secret_sources=[by_id, env(A="exec")])[1] == b"exec secret inline\n"
        assert box.run(*show, secret_sources=[env(A="exec"), by_id])[1] == b"secret secret inline\n"
        for bad in (env(**{"1A": "x"}), env(**{"A-B": "x"}), env(**{"": "x"})):
            with refused("INVALID_ARGUMENT"):
                box.start(*show, secret_sources=[bad])
        with refused("NOT_FOUND"):
            box.start(*show, secret_sources=[api_pb2.SecretSource(secret_id="st-none")])


def test_entrypoint_by_the_router(client):
    with client.create_v2(entrypoint_args=["sh", "-c", "read x; echo got $x; echo err >&2; exit 3"]) as box:
        box.call("SandboxStdinWriteV2", offset=0, data=b"li")
        box.call("SandboxStdinWriteV2", offset=1, data=b"ine\n", eof=True)
        for fd, wanted in ((pb.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT, b"got line\n"),
                           (pb.SANDBOX_STDIO_FILE_DESCRIPTOR_STDERR, b"err\n")):
            assert b"".join(p.data for p in box.call("SandboxStdioReadV2", file_descriptor=fd)) == wanted
        (part,) = box.call("SandboxStdioReadV2", file_descriptor=pb.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT, offset=4)
        assert (part.data, part.starting_offset) == (b"line\n", 4)
        assert client.call("SandboxWaitV2", request("SandboxWait", box, timeout=10)).result.exitcode == 3


def test_names(client, box2, refused):
    def named(name, app="test", **fields):
        return client.call("SandboxGetFromNameV2", api_pb2.SandboxGetFromNameRequest(
            sandbox_name=name, app_name=app, **fields)).sandbox_id

    def rename(box, name):
        client.call("SandboxSetName", api_pb2.SandboxSetNameRequest(sandbox_id=box.id, name=name))
    for _ in range(2):
        rename(box2, "box")
    assert named("box") == box2.id
    with refused("FAILED_PRECONDITION"):
        rename(box2, "other")
    with refused("INVALID_ARGUMENT"):
        rename(box2, "a b")
    with client.create_v2() as other, refused("ALREADY_EXISTS"):
        rename(other, "box")
    with refused("ALREADY_EXISTS"):
        client.create(name="box")
    with client.create(name="first") as first, refused("NOT_FOUND"):
        rename(first, "box")
    client.call("SandboxTerminateV2", request("SandboxTerminate", box2))
    with refused("NOT_FOUND"):
        named("box")
    assert named("box", include_terminated=True) == box2.id
    with client.create_v2(name="box") as again:
        assert named("box") == named("box", include_terminated=True) == again.id
