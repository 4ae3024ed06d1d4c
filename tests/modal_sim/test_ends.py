"""How sandboxes end, and what goes along with answers: every status and exit code, and warnings."""

import urllib.parse

import pytest
from modal_proto import api_pb2

Status = api_pb2.GenericResult
EVERY = [s for s in Status.GenericStatus.values() if s]


def wait(client, box):
    method = "SandboxWaitV2" if box.task_id.endswith("V") else "SandboxWait"
    return client.call(method, api_pb2.SandboxWaitRequest(sandbox_id=box.id, timeout=10))


def test_every_status(client, sim):
    assert EVERY == list(range(1, 11))
    for status in EVERY:
        with client.create_v2() if status % 2 else client.create() as box:
            sim.kill_sandbox(box.id, status=status, exitcode=-15, exception="said\x1b[31m so")
            result = wait(client, box).result
            assert (result.status, result.exitcode, result.exception) == (status, -15, "said\x1b[31m so")
    with client.create() as box:
        with pytest.raises(ValueError):
            sim.kill_sandbox(box.id, status="tired")
        sim.kill_sandbox(box.id, status="idle_timeout")
        assert wait(client, box).result.status == Status.GENERIC_STATUS_IDLE_TIMEOUT


def test_a_call_that_kills(client, sim, box, refused):
    sim.faults({"kind": "kill_sandbox", "method": "TaskExecStart", "status": 9, "exitcode": 137})
    with refused("NOT_FOUND"):
        box.start("sleep", "100")
        box.run("true")
    result = wait(client, box).result
    assert (result.status, result.exitcode) == (9, 137)


def warnings(metadata):
    return [urllib.parse.unquote(v) for k, v in metadata or () if k == "x-modal-warning"]


def told(client, method, request):
    """The warnings of a call of the control plane that succeeds."""
    _, call = getattr(client.stub, method).with_call(request, timeout=10, metadata=[
        ("x-modal-client-type", "9"), ("x-modal-client-version", "1.0.0"), ("x-modal-token-id", client.sim.token_id),
        ("x-modal-token-secret", client.sim.token_secret)])
    return warnings(call.trailing_metadata())


def test_warnings(client, sim, box, refused):
    text = "old client: 100% of \"x\"\nand \x1b[31mred, ä"
    sim.faults({"kind": "warning", "method": "*", "message": text},
               {"kind": "warning", "method": "SandboxWait", "message": "second", "count": 1})
    poll = api_pb2.SandboxWaitRequest(sandbox_id=box.id)
    assert told(client, "SandboxWait", poll) == [text, "second"]
    assert told(client, "SandboxWait", poll) == [text]
    with refused("NOT_FOUND") as r:
        client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id="sb-none"))
    assert warnings(r.error.trailing_metadata()) == [text]
    with refused("NOT_FOUND") as r:
        box.call("TaskExecPoll", exec_id="none")
    assert warnings(r.error.trailing_metadata()) == [text]
    exec_id = box.start("echo", "x")
    stream = box.call("TaskExecStdioRead", exec_id=exec_id)
    assert b"".join(part.data for part in stream) == b"x\n" and warnings(stream.trailing_metadata()) == [text]


def test_warnings_with_other_faults(client, sim, box, refused):
    sim.faults({"kind": "warning", "message": "%zz%1", "encoded": True, "method": "SandboxWait"},
               {"kind": "throttle", "method": "SandboxWait"})
    with refused("RESOURCE_EXHAUSTED") as r:
        client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=box.id))
    trailers = dict(r.error.trailing_metadata())
    assert trailers["x-modal-warning"] == "%zz%1" and "grpc-status-details-bin" in trailers


def test_entrypoints_that_end_at_once(client, sim):
    """However little time there was between its start and its end."""
    request = client.create_request(entrypoint_args=["true"])
    ids = [client.call("SandboxCreate", request).sandbox_id for _ in range(20)]
    for sandbox_id in ids:
        answer = client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=sandbox_id, timeout=20))
        assert answer.result.status == Status.GENERIC_STATUS_SUCCESS
    assert sim.stats()["sandboxes"]["ended"] == {"success": 20}
