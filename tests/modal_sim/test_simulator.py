"""The simulator keeps Modal's rules, and is quick enough to be a workload's other side."""

import os
import signal
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from modal_proto import api_pb2, task_command_router_pb2 as pb

from . import simulator
from .client import STDERR, STDOUT, Client
from .conftest import eventually, leftovers
from .simulator import HERE, Simulator, interpreter

Status = api_pb2.GenericResult


def result(client, box, timeout=10):
    return client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=box.id, timeout=timeout)).result


def test_credentials(client, refused):
    hello = ("AppGetOrCreate", api_pb2.AppGetOrCreateRequest(app_name="test"))
    with refused("UNAUTHENTICATED") as r:
        client.call(*hello, x_modal_token_secret="wrong")
    assert r.error.details() == "token ID or token secret is not valid"
    with refused("UNAUTHENTICATED"):
        client.call(*hello, x_modal_token_id="")
    with refused("INVALID_ARGUMENT"):
        client.call(*hello, x_modal_client_version="")
    with refused("NOT_FOUND"):
        client.call(*hello)


def test_router_wants_the_token_of_the_task(client, box, refused):
    with client.create() as other, refused("UNAUTHENTICATED"):
        box.call("TaskExecPoll", exec_id="x", jwt=other.jwt)
    with refused("UNAUTHENTICATED"):
        box.call("TaskExecPoll", exec_id="x", jwt="a.b.c")
    with refused("UNAUTHENTICATED"):
        box.stub.TaskExecPoll(pb.TaskExecPollRequest(task_id=box.task_id, exec_id="x"), timeout=5)


def test_unknown_method(client, sim, refused):
    with refused("UNIMPLEMENTED"):
        client.call("QueueCreate" if hasattr(client.stub, "QueueCreate") else "QueueLen", api_pb2.QueueLenRequest())
    assert list(sim.stats()["unknown_methods"].values()) == [1]


def test_image_log_and_resume(client, sim, refused):
    image_id = client.image("FROM python:3.12", "ENV A=1 B='two words'", "WORKDIR /srv/app")
    assert client.log[0] == "Step 1/3: FROM python:3.12\n" and len(client.log) == 4
    again = list(client.call("ImageJoinStreaming", api_pb2.ImageJoinStreamingRequest(
        image_id=image_id, timeout=5, last_entry_id="2")))
    assert [e.data for part in again for e in part.task_logs] == client.log[2:]
    assert again[-1].result.status == Status.GENERIC_STATUS_SUCCESS
    client.image_id = image_id
    with client.create() as box:
        assert box.run("sh", "-c", "echo $A $B $PWD")[1] == b"1 two words /srv/app\n"
    sim.config(build_secs=30.0)
    response = client.call("ImageGetOrCreate", api_pb2.ImageGetOrCreateRequest(
        app_id=client.app(), image=api_pb2.Image(dockerfile_commands=["FROM slow", "RUN sleep"]),
        builder_version="2025.06"))
    parts = list(client.call("ImageJoinStreaming", api_pb2.ImageJoinStreamingRequest(
        image_id=response.image_id, timeout=0.2)))
    assert parts and not any(part.result.status for part in parts)
    sim.config(build_secs=0.05)
    with refused("FAILED_PRECONDITION"):
        client.image_id = response.image_id
        client.call("SandboxCreate", client.create_request())


def test_processes_are_real_and_apart(box, client):
    code, out, err = box.run("sh", "-c", "echo out; echo err >&2; id -u; test -w /usr; exit 5")
    assert (code, out, err) == (5, b"out\n0\n", b"err\n")
    box.run("sh", "-c", "echo mine > /root/file; echo 1 > /tmp/file; echo 1 > /file")
    with client.create() as other:
        assert other.run("sh", "-c", "ls /root /tmp /file 2>/dev/null")[1] == b"/root:\n\n/tmp:\n"
    assert box.run("cat", "/root/file")[1] == b"mine\n"
    assert box.run("sh", "-c", "ls /sys/class/net /proc/net/dev; ls /home")[0] != 0
    assert b"root:" not in box.run("cat", "/etc/shadow")[1]


def test_start_is_idempotent_also_at_the_same_moment(box, sim):
    exec_id = str(uuid.uuid4())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: box.start("sh", "-c", "echo x >> /root/ran", exec_id=exec_id), range(16)))
    assert box.wait(exec_id) == 0
    assert box.run("cat", "/root/ran")[1] == b"x\n"
    stats = sim.stats()
    assert stats["execs"][exec_id]["starts"] == 1
    assert stats["by_exec"][exec_id]["TaskExecStart"] == 16


def test_what_start_refuses(box, refused):
    box.run("true", "x" * (65536 - 4))
    for argv, fields in ((("true", "x" * (65537 - 4)), {}), ((), {}), (("true", "a\0b"), {}),
                         (("true",), {"env": {"a=b": "c"}})):
        with refused("INVALID_ARGUMENT"):
            box.start(*argv, **fields)
    with refused("INVALID_ARGUMENT"):
        box.call("TaskExecStart", exec_id="e", command_args=["true"],
                 stderr_config=pb.TASK_EXEC_STDERR_CONFIG_STDOUT)
    with refused("RESOURCE_EXHAUSTED"):
        box.write(box.start("cat"), 0, bytes(5 << 20))
    with refused("NOT_FOUND"):
        box.call("TaskExecPoll", exec_id="never started")


def test_a_command_that_is_not_there(box):
    assert box.run("no-such-program")[0] == 127
    assert box.run("true", workdir="/no/such/directory")[0] == 126


def test_env_workdir_secret_volume(client, sim, box):
    code, out, _ = box.run("sh", "-c", "echo $PWD $X $HOME", workdir="/tmp", env={"X": "ä b"})
    assert out.decode() == "/tmp ä b /root\n"
    sim.secret("keys", KEY="k1")
    secret_id = client.call("SecretGetOrCreate", api_pb2.SecretGetOrCreateRequest(deployment_name="keys")).secret_id
    volume_id = client.call("VolumeGetOrCreate", api_pb2.VolumeGetOrCreateRequest(
        deployment_name="data", object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING)).volume_id
    mount = [api_pb2.VolumeMount(volume_id=volume_id, mount_path="/data")]
    with client.create(secret_ids=[secret_id], volume_mounts=mount) as one:
        assert one.run("sh", "-c", "echo $KEY; echo $KEY > /data/file")[1] == b"k1\n"
        with client.create(volume_mounts=mount, workdir="/data") as two:
            assert two.run("cat", "file")[1] == b"k1\n"


def test_output_from_any_offset_by_many_readers(box):
    exec_id = box.start("sh", "-c", "echo 0123456789; read x; echo end; echo err >&2")
    with ThreadPoolExecutor(4) as pool:
        early = [pool.submit(box.read, exec_id, STDOUT, offset) for offset in (0, 5, 11)]
        box.write(exec_id, 0, b"\n")
        assert [f.result() for f in early] == [b"0123456789\nend\n", b"56789\nend\n", b"end\n"]
    assert box.read(exec_id, offset=14) == b"\n"
    assert box.read(exec_id, offset=15) == b""
    assert box.read(exec_id, STDERR) == b"err\n"


def test_stdin_by_offset(box, refused):
    exec_id = box.start("cat")
    box.write(exec_id, 0, b"abc")
    box.write(exec_id, 0, b"abc")      # a repeat
    box.write(exec_id, 1, b"bcdef")    # overlaps what is there
    with refused("OUT_OF_RANGE"):
        box.write(exec_id, 7, b"gap")
    box.write(exec_id, 6, b"!", eof=True)
    box.write(exec_id, 6, b"!", eof=True)
    assert (box.wait(exec_id), box.read(exec_id)) == (0, b"abcdef!")
    with refused("FAILED_PRECONDITION"):
        box.write(exec_id, 7, b"more")
    status = box.call("TaskExecStdinStatus", exec_id=exec_id)
    assert (status.num_bytes_written, status.closed) == (7, True)


def test_stdin_that_is_larger_than_any_buffer(box):
    exec_id = box.start("wc", "-c")
    piece = bytes(1 << 20)
    for i in range(20):
        box.write(exec_id, i * len(piece), piece)
    box.write(exec_id, 20 * len(piece), b"", eof=True)
    assert box.wait(exec_id) == 0
    assert int(box.read(exec_id)) == 20 << 20


def test_wait_poll_and_timeout(box, refused):
    exec_id = box.start("sleep", "1000", timeout_secs=1)
    assert box.call("TaskExecPoll", exec_id=exec_id).WhichOneof("exit_status") is None
    with refused("DEADLINE_EXCEEDED"):
        box.wait(exec_id, timeout=0.3)
    assert box.wait(exec_id) == 137
    assert box.wait(box.start("sh", "-c", "kill -15 $$")) == -15


def test_a_stopped_process_can_be_killed(box):
    exec_id = box.start("sh", "-c", "echo $$; kill -STOP $$")
    pid = next(box.call("TaskExecStdioRead", exec_id=exec_id)).data.decode().strip()
    assert box.run("kill", "-9", pid)[0] == 0
    assert box.wait(exec_id) == -9


def test_no_zombies_and_children_live_on(box):
    box.run("sh", "-c", "for i in 1 2 3; do (sleep 0.01 &) ; done")
    exec_id = box.start("sh", "-c", "(sleep 1000; echo late) & echo early")
    assert box.read(exec_id) == b"early\n"
    eventually(lambda: b"Z" not in box.run("sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3 | sort -u")[1])
    assert b"sleep\x001000" in box.run("sh", "-c", "cat /proc/[0-9]*/cmdline")[1]


def test_sandboxes_end_at_their_time(client):
    with client.create(timeout_secs=1) as short, client.create(idle_timeout_secs=1) as idle:
        busy = client.create(idle_timeout_secs=1)
        exec_id = busy.start("sleep", "1.5")
        assert result(client, short).status == Status.GENERIC_STATUS_TIMEOUT
        assert result(client, idle).status == Status.GENERIC_STATUS_IDLE_TIMEOUT
        assert busy.wait(exec_id) == 0
        assert result(client, busy).status == Status.GENERIC_STATUS_IDLE_TIMEOUT


def test_entrypoint(client, refused):
    sandbox_id = client.call("SandboxCreate", client.create_request(
        entrypoint_args=["sh", "-c", "echo hello; exit 3"])).sandbox_id
    answer = client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=sandbox_id, timeout=10))
    assert (answer.result.status, answer.result.exitcode) == (Status.GENERIC_STATUS_FAILURE, 3)
    logs = client.call("SandboxGetLogs", api_pb2.SandboxGetLogsRequest(
        sandbox_id=sandbox_id, file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT))
    assert "".join(item.data for batch in logs for item in batch.items) == "hello\n"


def test_create_refusals(client, sim, refused):
    for tags, definition in (({"a" * 64: "x"}, {}), ({"a": "x" * 64}, {}), ({}, {"timeout_secs": 86401})):
        with refused("INVALID_ARGUMENT"):
            client.create(tags, **definition)
    client.create(name="only")
    with refused("ALREADY_EXISTS"):
        client.create(name="only")
    sim.config(max_sandboxes=1)
    with refused("RESOURCE_EXHAUSTED"):
        client.create()
    sim.config(max_sandboxes=500)


def test_list_by_tag_in_pages(client, sim):
    sim.config(list_page=3)
    boxes = [client.create({"pool": "a" if i % 2 else "b", "n": str(i)}) for i in range(8)]

    def listed(**tags):
        found, before = [], 0
        while True:
            page = client.call("SandboxList", api_pb2.SandboxListRequest(
                app_id=client.app(), before_timestamp=before,
                tags=[api_pb2.SandboxTag(tag_name=k, tag_value=v) for k, v in tags.items()])).sandboxes
            if not page:
                return found
            assert len(page) <= 3
            found += [s.id for s in page]
            before = page[-1].created_at

    assert listed() == [b.id for b in reversed(boxes)]
    assert listed(pool="a") == [b.id for b in reversed(boxes[1::2])]
    assert listed(pool="a", n="2") == []
    client.call("SandboxTagsSet", api_pb2.SandboxTagsSetRequest(
        sandbox_id=boxes[0].id, tags=[api_pb2.SandboxTag(tag_name="pool", tag_value="c")]))
    assert listed(pool="c") == [boxes[0].id] and listed(n="0") == []
    terminate = api_pb2.SandboxTerminateRequest(sandbox_id=boxes[0].id)
    assert not client.call("SandboxTerminate", terminate).existing_result.status
    assert client.call("SandboxTerminate", terminate).existing_result.status == Status.GENERIC_STATUS_TERMINATED
    assert listed(pool="c") == []
    sim.config(list_page=20)


def test_network_settings_are_recorded(client, sim):
    access = api_pb2.NetworkAccess(network_access_type=api_pb2.NetworkAccess.ALLOWLIST, allowed_cidrs=["10.0.0.0/8"])
    client.create(network_access=access)
    (facts,) = sim.sandboxes()
    assert facts["definition"]["network_access"]["allowed_cidrs"] == ["10.0.0.0/8"]


def test_two_hundred_execs_at_once(box, sim):
    release = [box.start("sh", "-c", f"read x; echo {i} $x") for i in range(200)]
    with ThreadPoolExecutor(200) as pool:
        reads = [pool.submit(box.read, exec_id) for exec_id in release]
        waits = [pool.submit(box.wait, exec_id) for exec_id in release]
        eventually(lambda: sim.stats()["open_calls"].get("TaskExecStdioRead", 0) >= 100)
        for exec_id in release:
            box.write(exec_id, 0, b"go\n")
        assert [r.result() for r in reads] == [b"%d go\n" % i for i in range(200)]
        assert {w.result() for w in waits} == {0}


def test_forty_sandboxes_at_once(client, sim):
    request = client.create_request()
    ids = [client.call("SandboxCreate", request).sandbox_id for _ in range(40)]
    for sandbox_id in ids:
        assert client.call("SandboxGetTaskId", api_pb2.SandboxGetTaskIdRequest(sandbox_id=sandbox_id)).task_id
    for sandbox_id in ids:
        client.call("SandboxTerminate", api_pb2.SandboxTerminateRequest(sandbox_id=sandbox_id))
    assert sim.stats()["sandboxes"]["ended"] == {"terminated": 40}


def memory(pid, field):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field))


def test_a_gigabyte_of_output(box, sim):
    size = 1 << 30
    exec_id = box.start("head", "-c", str(size), "/dev/zero")
    before, got = memory(sim.pid, "VmRSS"), 0
    for part in box.call("TaskExecStdioRead", timeout=120, exec_id=exec_id):
        got += len(part.data)
    peak = memory(sim.pid, "VmHWM")
    print(f"1 GiB: at most {peak - before} kB more memory than before ({before} kB)")
    assert got == size
    assert peak - before < 128 << 10


def test_time_to_start_on_a_slow_machine(monkeypatch):
    monkeypatch.setattr(simulator, "START_SECS", 0.001)
    with pytest.raises(RuntimeError, match="did not start"):
        Simulator().start()
    monkeypatch.setattr(Simulator, "slow", 120_000)
    with Simulator() as sim:
        assert sim.sandboxes() == []


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL", "stdin", "spawner"])
def test_nothing_is_left(tmp_path, end):
    with Simulator(directory=tmp_path) as sim, Client(sim) as client:
        with client.create() as box:
            exec_id = box.start("sh", "-c", "sleep 1000 & sleep 1000 & wait")
            box.call("TaskExecPoll", exec_id=exec_id)
            assert os.listdir(tmp_path) and len(leftovers(str(tmp_path))) >= 2
            process = sim._process
            if end == "stdin":
                process.stdin.close()
            elif end == "spawner":
                with open(f"/proc/{sim.pid}/task/{sim.pid}/children") as f:
                    os.kill(int(f.read().split()[0]), signal.SIGKILL)
            else:
                process.send_signal(getattr(signal, end))
            process.wait(20)
        eventually(lambda: os.listdir(tmp_path) == [] and leftovers(str(tmp_path)) == [])
        eventually(lambda: box.task_id not in everything_running())


def everything_running():
    """The environment of every process: a sandbox's own carry its task id."""
    text = ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", errors="replace") as f:
                text += f.read()
        except OSError:
            continue
    return text


def test_it_listens_on_loopback_only(sim):
    listening = subprocess.run(["ss", "-Hltnp"], stdout=subprocess.PIPE, text=True).stdout
    addresses = [line.split()[3] for line in listening.splitlines() if f"pid={sim.pid}," in line]
    assert len(addresses) == 3 and all(a.startswith("127.0.0.1:") for a in addresses)


def test_tls_is_refused_without_the_ca(sim, refused):
    address = sim.server_url.removeprefix("https://")
    for credentials in (grpc.ssl_channel_credentials(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
                        None):
        channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
        with channel, refused("UNAVAILABLE"):
            channel.unary_unary("/modal.client.ModalClient/ClientHello")(b"", timeout=10)


def test_bad_command_line(tmp_path):
    done = subprocess.run([interpreter(), "-m", "modal_sim", "--set", "colour=1"], stderr=subprocess.PIPE, text=True,
                          env=dict(os.environ, PYTHONPATH=os.path.dirname(HERE)))
    assert done.returncode != 0 and "no setting is called 'colour'" in done.stderr
