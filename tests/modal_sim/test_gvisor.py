"""Sandboxes that runsc makes. They run with -m gvisor, because building runsc takes some minutes."""

import json
import os
import signal
import subprocess
import sys
import uuid

import pytest
from modal_proto import api_pb2, task_command_router_pb2 as pb

from . import gvisor
from .client import Client
from .conftest import eventually, leftovers
from .simulator import Simulator

pytestmark = pytest.mark.gvisor


@pytest.fixture(scope="module")
def runsc():
    try:
        return gvisor.runsc()
    except RuntimeError as e:
        pytest.skip(str(e))


@pytest.fixture(scope="module")
def sim(runsc, tmp_path_factory):
    directory = tmp_path_factory.mktemp("g")
    with Simulator(directory=directory, sandbox="gvisor") as simulator:
        yield simulator
    assert os.listdir(directory) == []
    assert leftovers(str(directory)) == []


def test_its_processes_can_be_asked_for(box, sim):
    box.start("sleep", "6666")
    assert [box.id, "6666"] in [[one[0], one[2].split()[-1]] for one in sim.processes()]


def processes(box):
    return box.run("ps", "ax", "-o", "stat=,args=")[1].decode()


def test_the_kernel_is_gvisor(box):
    code, out, _ = box.run("sh", "-c", "uname -r; id -u; pwd; hostname")
    assert (code, out.decode().split()) == (0, ["4.19.0-gvisor", "0", "/", "modal"])


def test_streams_and_ends(box):
    assert box.run("sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert box.run("sh", "-c", "kill -9 $$")[0] == 128 + 9
    assert box.run("sh", "-c", "exit 128") == (128, b"", b"")
    exec_id = box.start("sh", "-c", "cat; echo end")
    box.write(exec_id, 0, b"in\n", eof=True)
    assert (box.wait(exec_id), box.read(exec_id)) == (0, b"in\nend\n")


def test_what_cannot_be_started(box):
    code, out, err = box.run("no-such-program")
    assert (code, out) == (127, b"") and b"No such file or directory" in err and b"runsc" not in err
    assert box.run("/etc/passwd")[0] == 127
    code, out, err = box.run("true", workdir="/no/such/directory")
    assert (code, out) == (126, b"") and b"/no/such/directory" in err


def test_environment_and_workdir(client):
    with client.create(workdir="/srv/app") as box:
        secret = str(uuid.uuid4())
        code, out, _ = box.run("env", env={"A": secret, "odd.name": "x=y z"})
        assert code == 0 and {f"A={secret}", "odd.name=x=y z"} <= set(out.decode().splitlines())
        assert box.run("pwd")[1] == b"/srv/app\n"
        exec_id = box.start("cat", env={"A": secret})
        assert leftovers(secret) == []  # in no command line of this machine
        box.write(exec_id, 0, b"", eof=True)
        assert box.wait(exec_id) == 0


def test_a_limit_of_time_ends_the_process_itself(box):
    assert box.wait(box.start("sleep", "7777", timeout_secs=1)) == 137
    eventually(lambda: "7777" not in processes(box))


def test_orphans_are_buried(box):
    box.run("sh", "-c", "(sleep 0.01 &); :")
    eventually(lambda: "sleep 0.01" not in processes(box) and "defunct" not in processes(box))


def test_the_entrypoint_ends_the_sandbox(client, refused):
    with client.create(entrypoint_args=["sh", "-c", "sleep 1; exit 5"]) as box:
        exec_id = box.start("sleep", "8888")
        result = client.call("SandboxWait", api_pb2.SandboxWaitRequest(sandbox_id=box.id, timeout=15)).result
        assert (result.status, result.exitcode) == (api_pb2.GenericResult.GENERIC_STATUS_FAILURE, 5)
        with refused("NOT_FOUND"):
            box.wait(exec_id)


def test_an_end_ends_everything(client, sim):
    before = leftovers("runsc-sandbox")
    with client.create() as box:
        box.start("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
        assert len(leftovers("runsc-sandbox")) == len(before) + 1
        sim.kill_sandbox(box.id)
    eventually(lambda: len(leftovers("runsc-sandbox")) == len(before))


def test_forty_at_once(box):
    ids = [box.start("sh", "-c", f"sleep 0.2; echo {i}; exit {i}") for i in range(40)]
    assert [(box.wait(i), box.read(i)) for i in ids] == [(i, b"%d\n" % i) for i in range(40)]


def until_ready(box, seconds):
    return box.stub.SandboxWaitUntilReady(pb.SandboxWaitUntilReadyTcrRequest(task_id=box.task_id, timeout=seconds), timeout=30,
                                          metadata=[("authorization", f"Bearer {box.jwt}")]).ready_at


def test_a_port_inside(client, refused):
    with client.create_v2(readiness_probe={"tcp_port": 8000}) as box:
        with refused("DEADLINE_EXCEEDED"):
            until_ready(box, 1)
        box.start("python3", "-m", "http.server", "--bind", "127.0.0.1", "8000")
        assert until_ready(box, 20) > 0


def test_a_snapshot(client, box):
    box.run("sh", "-c", "echo kept > /root/file")
    client.image_id = box.call("TaskSnapshotFilesystem", snapshot_id=str(uuid.uuid4()), ttl_seconds=-1).image_id
    with client.create() as second:
        assert second.run("cat", "/root/file")[1] == b"kept\n"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(runsc, tmp_path, end):
    """No process, no file and no mount, however the simulator ends."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [sys.executable, "-m", "modal_sim", "--sandbox=gvisor", "--directory", str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=root), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    sim = Simulator()
    sim.__dict__.update(json.loads(process.stdout.readline()))
    with Client(sim) as client, client.create() as box:
        box.start("sleep", "9999")
        assert leftovers(str(tmp_path))
        process.send_signal(end)
    process.wait()
    process.stdout.close()
    eventually(lambda: not leftovers(str(tmp_path)) and not os.listdir(tmp_path))
    with open("/proc/mounts") as f:
        assert str(tmp_path) not in f.read()
