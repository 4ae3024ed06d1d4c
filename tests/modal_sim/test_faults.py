"""Each fault really happens, as seen by a plain gRPC client that retries nothing."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from modal_proto import api_pb2, task_command_router_pb2 as pb

from .client import STDOUT, Client
from .conftest import Refused, eventually

HELLO = ("AppGetOrCreate", api_pb2.AppGetOrCreateRequest(
    app_name="test", object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING))


def test_latency(client, sim):
    client.call(*HELLO)
    sim.faults({"kind": "latency", "method": "App*", "ms": 300})
    began = time.monotonic()
    client.call(*HELLO)
    assert time.monotonic() - began >= 0.3


def test_late_and_nobody_waits(client, sim, refused):
    request = client.create_request({"color": "red"})
    sim.faults({"kind": "late", "method": "SandboxCreate", "ms": 1000, "count": 1})
    with refused("DEADLINE_EXCEEDED"):
        client.call("SandboxCreate", request, timeout=0.3)
    assert sim.sandboxes(color="red") == []
    eventually(lambda: sim.sandboxes(color="red"))
    client.call("SandboxCreate", client.create_request({"color": "blue"}))
    assert [len(sim.sandboxes(**tags)) for tags in ({}, {"color": "red"}, {"color": "red", "size": "1"})] == [2, 1, 0]


def test_age(client, box, sim):
    sim.age_sandbox(box.id, 100)
    listed = client.call("SandboxList", api_pb2.SandboxListRequest(app_id=client.app())).sandboxes
    assert 99 < time.time() - listed[0].created_at < 120
    with pytest.raises(ValueError, match="no such sandbox"):
        sim.age_sandbox("sb-none", 100)


def test_status_before_leaves_no_trace(client, sim, refused):
    request = client.create_request()
    sim.faults({"kind": "status", "method": "SandboxCreate", "code": "INTERNAL", "message": "kaputt", "count": 1})
    with refused("INTERNAL") as r:
        client.call("SandboxCreate", request)
    assert r.error.details() == "kaputt"
    assert sim.stats()["sandboxes"]["created"] == 0
    client.call("SandboxCreate", request)
    assert sim.stats()["sandboxes"]["created"] == 1


def test_lost_reply_of_create_and_its_retry(client, sim, refused):
    request, key = client.create_request(), str(uuid.uuid4())
    sim.faults({"kind": "status", "method": "SandboxCreate", "when": "after", "count": 1})
    with refused("UNAVAILABLE"):
        client.call("SandboxCreate", request, key=key)
    assert sim.stats()["sandboxes"]["created"] == 1
    again = client.call("SandboxCreate", request, key=key).sandbox_id
    assert list(sim.stats()["sandboxes"]["live"]) == [again]
    client.call("SandboxCreate", request)
    assert sim.stats()["sandboxes"]["created"] == 2


def start_again(box, *argv, exec_id):
    """Once more, and again where the connection that was reset is still going down."""
    for _ in range(5):
        try:
            return box.start(*argv, exec_id=exec_id)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
    raise AssertionError("the router stays unavailable")


@pytest.mark.parametrize("fault", [
    {"kind": "status", "when": "after"}, {"kind": "reset", "when": "after"}, {"kind": "no_trailers"}],
    ids=["status", "reset", "no_trailers"])
def test_lost_reply_of_start_and_its_retry(box, sim, fault):
    exec_id = str(uuid.uuid4())
    sim.faults(dict(fault, method="TaskExecStart", count=1))
    argv = ["sh", "-c", "echo once >> /root/ran; cat /root/ran"]
    with Refused("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"):
        box.start(*argv, exec_id=exec_id)
    start_again(box, *argv, exec_id=exec_id)
    assert box.wait(exec_id) == 0
    assert box.read(exec_id) == b"once\n"
    assert sim.stats()["execs"][exec_id]["starts"] == 1


def test_reset_before(box, sim, refused):
    exec_id = str(uuid.uuid4())
    sim.faults({"kind": "reset", "method": "TaskExecStart", "count": 1})
    with refused("UNAVAILABLE") as r:
        box.start("true", exec_id=exec_id)
    assert "reset" in r.error.details().lower()
    assert "TaskExecStart" not in sim.stats()["rpcs"]


def test_goaway_before_is_not_executed(box, sim, refused):
    box.run("true")
    arrived = sim.stats()["rpcs"]["TaskExecStart"]
    sim.faults({"kind": "goaway", "method": "TaskExecStart", "count": 1})
    with refused("UNAVAILABLE") as r:
        box.run("true")
    assert "GOAWAY" in r.error.details()
    assert sim.stats()["rpcs"]["TaskExecStart"] == arrived
    box.run("true")
    stats = sim.stats()
    assert stats["faults"] == {"goaway TaskExecStart": 1}
    assert stats["rpcs"]["TaskExecStart"] == arrived + 1
    assert stats["wire"]["router connections"] == 2


def test_goaway_after_serves_what_is_open(box, sim):
    slow = box.start("sh", "-c", "read line; echo got $line")
    sim.faults({"kind": "goaway", "method": "TaskExecWait", "when": "after", "count": 1})
    future = box.stub.TaskExecWait.future(
        pb.TaskExecWaitRequest(task_id=box.task_id, exec_id=slow), timeout=20,
        metadata=[("authorization", f"Bearer {box.jwt}")])
    eventually(lambda: sim.stats()["faults"])
    box.write(slow, 0, b"it\n", eof=True)
    assert future.result().code == 0
    assert sim.stats()["wire"]["router connections"] == 2


def test_missing_trailers(client, sim, refused):
    client.call(*HELLO)
    sim.faults({"kind": "no_trailers", "method": "AppGetOrCreate", "count": 1})
    with refused("UNKNOWN", "INTERNAL", "UNAVAILABLE"):
        client.call(*HELLO)
    # The connection, and its header compression, are still in order.
    before = sim.stats()["wire"]["control connections"]
    for _ in range(5):
        client.call(*HELLO)
    assert sim.stats()["wire"]["control connections"] == before


@pytest.mark.parametrize("kind", ["garble", "twice"])
def test_answer_that_breaks_the_protocol(client, sim, refused, kind):
    client.call(*HELLO)
    sim.faults({"kind": kind, "method": "AppGetOrCreate", "count": 1})
    with refused("INTERNAL", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"):  # a second answer makes this client wait for ever
        client.call(*HELLO, timeout=1)
    client.call(*HELLO)


def read_until_error(box, exec_id, offset=0):
    """(bytes that came, code of the error or None)"""
    data = b""
    try:
        for part in box.call("TaskExecStdioRead", exec_id=exec_id, file_descriptor=STDOUT, offset=offset):
            data += part.data
    except grpc.RpcError as e:
        return data, e.code().name
    return data, None


@pytest.mark.parametrize("fault", [
    {"kind": "cut", "how": "reset"}, {"kind": "cut", "how": "rst_stream"}, {"kind": "cut", "how": "no_trailers"},
    {"kind": "status"}], ids=["reset", "rst_stream", "no_trailers", "status"])
def test_stream_cut_and_resumed(box, sim, fault):
    sim.config(chunk=65536)
    wanted = b"".join(b"%07d\n" % i for i in range(200000))
    exec_id = box.start("seq", "-f", "%07.0f", "0", "199999")
    sim.faults(dict(fault, method="TaskExecStdioRead", bytes=500000, count=1))
    data, code = read_until_error(box, exec_id)
    assert code in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED")
    assert 0 < len(data) < len(wanted)
    box.connect()  # anew: a client may not have noticed yet that its connection is gone
    rest, code = read_until_error(box, exec_id, len(data))
    assert code is None
    assert data + rest == wanted
    sim.config(chunk=262144)


def test_cuts_do_not_eat_the_window(box, sim):
    """Bytes held back must not stay counted against the connection for ever."""
    exec_id = box.start("head", "-c", "3000000", "/dev/zero")
    sim.faults({"kind": "cut", "how": "rst_stream", "method": "TaskExecStdioRead", "bytes": 1000, "count": 30})
    for _ in range(30):
        assert read_until_error(box, exec_id)[1] is not None
    assert read_until_error(box, exec_id) == (bytes(3000000), None)


def test_sandbox_dies(box, client, sim, refused):
    exec_id = box.start("sleep", "1000")
    sim.faults({"kind": "kill_sandbox", "method": "TaskExecPoll", "when": "after"})
    box.call("TaskExecPoll", exec_id=exec_id)
    with refused("NOT_FOUND"):
        box.wait(exec_id)
    result = client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=box.id, timeout=10)).result
    assert result.status == api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE


def test_killed_by_hand_while_it_streams(box, sim):
    exec_id = box.start("sh", "-c", "echo before; sleep 1000")
    stream = box.call("TaskExecStdioRead", exec_id=exec_id)
    assert next(stream).data == b"before\n"
    sim.kill_sandbox(box.id)
    with Refused("NOT_FOUND"):
        next(stream)
    assert sim.stats()["sandboxes"]["live"] == {}


def test_dead_sandbox_that_still_looks_alive(box, client, sim):
    sim.config(status_lag_secs=60)
    sim.kill_sandbox(box.id)
    answer = client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=box.id, timeout=0))
    assert not answer.result.status
    with Refused("NOT_FOUND"):
        box.run("true")
    sim.config(status_lag_secs=0)
    assert client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=box.id, timeout=0)).result.status


def test_throttling_carries_the_retry_policy(client, sim, refused):
    sim.faults({"kind": "throttle", "method": "App*", "retry_after_secs": 1.5, "count": 1})
    with refused("RESOURCE_EXHAUSTED") as r:
        client.call(*HELLO)
    trailers = dict(r.error.trailing_metadata())
    status = api_pb2.RPCStatus.FromString(trailers["grpc-status-details-bin"])
    assert status.details[0].type_url.endswith("/modal.client.RPCRetryPolicy")
    assert api_pb2.RPCRetryPolicy.FromString(status.details[0].value).retry_after_secs == 1.5


def test_slow_create(client, sim):
    client.create_request()
    sim.config(start_delay_secs=0.5)
    began = time.monotonic()
    with client.create() as box:
        assert time.monotonic() - began >= 0.5
        assert box.run("echo", "up")[:2] == (0, b"up\n")
    sim.config(start_delay_secs=0)


def test_task_id_not_yet_and_died_at_once(client, sim):
    sandbox_id = client.call("SandboxCreate", client.create_request()).sandbox_id
    sim.faults({"kind": "not_yet", "method": "SandboxGetTaskId", "count": 2},
               {"kind": "task_result", "method": "SandboxGetTaskId", "message": "no room", "skip": 1})
    ask = api_pb2.SandboxGetTaskIdRequest(sandbox_id=sandbox_id)
    for _ in range(2):
        answer = client.call("SandboxGetTaskId", ask)
        assert not answer.task_id and not answer.HasField("task_result")
    assert client.call("SandboxGetTaskId", ask).task_id
    answer = client.call("SandboxGetTaskId", ask)
    assert not answer.task_id and answer.task_result.exception == "no room"


def test_answers_that_say_something_else(client, box, sim):
    sim.faults({"kind": "answer", "method": "SandboxGetTaskId", "fields": {"task_id": "ta\n1"}},
               {"kind": "answer", "method": "TaskExecStdioRead", "fields": {"data": "Zm9yZ2Vk"}})
    assert client.call("SandboxGetTaskId", api_pb2.SandboxGetTaskIdRequest(sandbox_id=box.id)).task_id == "ta\n1"
    assert box.run("echo", "true") == (0, b"forged", b"")
    sim.faults()
    assert box.run("echo", "true") == (0, b"true\n", b"")


def test_flood(box, sim):
    exec_id = box.start("echo", "true")
    sim.faults({"kind": "flood", "method": "TaskExecStdioRead", "messages": 5000, "count": 1})
    assert [message.data for message in box.call("TaskExecStdioRead", exec_id=exec_id)] == [b""] * 5000 + [b"true\n"]
    assert box.read(exec_id) == b"true\n"


def test_hang(client, sim, refused):
    client.call(*HELLO)
    sim.faults({"kind": "hang", "method": "App*"})
    with refused("DEADLINE_EXCEEDED"):
        client.call(*HELLO, timeout=0.5)


def test_stall(client, sim, refused):
    client.call(*HELLO)
    sim.faults({"kind": "stall", "method": "App*", "count": 1})
    with refused("DEADLINE_EXCEEDED"):
        client.call(*HELLO, timeout=0.5)
    with refused("DEADLINE_EXCEEDED"):  # the whole connection is dead, without a word
        client.call(*HELLO, timeout=0.5)
    with Client(sim) as other:
        other.call(*HELLO)


def test_router_moves(box, sim, refused):
    exec_id = box.start("sh", "-c", "echo one; read x; echo two")
    stream = box.call("TaskExecStdioRead", exec_id=exec_id)
    assert next(stream).data == b"one\n"
    moved = sim.move_router()
    assert moved["old_url"] == box.url != moved["url"]
    with refused("UNAVAILABLE"):
        next(stream)
    with refused("UNAVAILABLE"):
        box.call("TaskExecPoll", exec_id=exec_id)
    box.connect()
    assert box.url == moved["url"]
    box.write(exec_id, 0, b"go\n")
    assert box.read(exec_id, offset=4) == b"two\n"


def test_tokens_expire(box, sim, refused):
    exec_id = box.start("sh", "-c", "echo one; read x; echo two")
    stream = box.call("TaskExecStdioRead", exec_id=exec_id)
    assert next(stream).data == b"one\n"
    sim.expire_jwt(cut=True)
    with refused("UNAUTHENTICATED"):
        next(stream)
    with refused("UNAUTHENTICATED"):
        box.call("TaskExecPoll", exec_id=exec_id)
    box.connect()
    box.write(exec_id, 0, b"go\n")
    assert box.read(exec_id, offset=4) == b"two\n"


def test_token_lifetime(box, sim, refused):
    sim.config(jwt_lifetime=0.2)
    box.connect()
    deadline = time.monotonic() + 10
    with refused("UNAUTHENTICATED") as r:
        while time.monotonic() < deadline:
            box.run("true")
    assert "expired" in r.error.details()
    sim.config(jwt_lifetime=3600)


def test_same_seed_same_faults(client, sim):
    def strikes(seed):
        sim.faults({"kind": "status", "method": "App*", "rate": 0.3}, seed=seed)
        said = []
        for _ in range(60):
            try:
                client.call(*HELLO)
                said.append(True)
            except grpc.RpcError:
                said.append(False)
        return said
    first = strikes(1)
    assert 5 < first.count(False) < 35
    assert strikes(1) == first
    assert strikes(2) != first


@pytest.mark.parametrize("rule, word", [
    ({"kind": "rain"}, "rain"), ({"kind": "status", "code": "OK"}, "OK"), ({"kind": "cut"}, "bytes"),
    ({"kind": "status", "metod": "x"}, "metod"), ({"kind": "hang", "rate": 2}, "rate")])
def test_bad_rules_are_refused(sim, rule, word):
    with pytest.raises(ValueError, match=word):
        sim.faults(rule)


EVERYTHING = [
    {"kind": "latency", "ms": [1, 30]}, {"kind": "status"}, {"kind": "status", "when": "after"},
    {"kind": "status", "bytes": 3000, "method": "TaskExecStdioRead"}, {"kind": "throttle", "retry_after_secs": 0.01},
    {"kind": "reset"}, {"kind": "reset", "when": "after"}, {"kind": "goaway"}, {"kind": "goaway", "when": "after"},
    {"kind": "no_trailers"}, {"kind": "garble"}, {"kind": "cut", "bytes": 2500}, {"kind": "cut", "bytes": 1, "how": "rst_stream"},
    {"kind": "cut", "bytes": 4096, "how": "no_trailers"}]


def persist(box, step):
    """Does it until it is done; every error is one that a client may meet."""
    for _ in range(100):
        try:
            return step()
        except grpc.RpcError as e:
            assert e.code().name in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "RESOURCE_EXHAUSTED"), e
            box.until_connected()
    raise AssertionError("a hundred failures in a row")


def job(box, number):
    """One job by a client that retries with the same exec_id and resumes by offset."""
    exec_id, data, done = str(uuid.uuid4()), b"", False
    argv = ["sh", "-c", f"echo {number} >> /root/ran; seq {number} {number + 1500}; exit {number % 100}"]
    persist(box, lambda: box.start(*argv, exec_id=exec_id))
    while not done:
        more, code = read_until_error(box, exec_id, len(data))
        data, done = data + more, code is None
    assert data == b"".join(b"%d\n" % i for i in range(number, number + 1501))
    assert persist(box, lambda: box.wait(exec_id)) == number % 100
    return exec_id


def test_a_hundred_jobs_under_everything_at_once(box, sim):
    sim.faults(*[dict(rule, rate=0.05) for rule in EVERYTHING], seed=3)
    with ThreadPoolExecutor(8) as pool:
        exec_ids = list(pool.map(lambda n: job(box, n), range(100)))
    struck = sim.stats()["faults"]
    sim.faults()
    assert {name.split()[0] for name in struck} == {rule["kind"] for rule in EVERYTHING}
    ran = box.run("sh", "-c", "sort -n /root/ran")[1]
    assert ran == b"".join(b"%d\n" % i for i in range(100))
    stats = sim.stats()
    assert [stats["execs"][e]["starts"] for e in exec_ids] == [1] * 100
    eventually(lambda: sim.stats()["open_calls"] == {})
