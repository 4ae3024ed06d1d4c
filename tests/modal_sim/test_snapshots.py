"""Snapshots that sandboxes start from, mounts, and readiness."""

import uuid

import pytest
from modal_proto import api_pb2, task_command_router_pb2 as pb

from .conftest import eventually


def snapshot(box, **fields):
    return box.call("TaskSnapshotFilesystem", **{"snapshot_id": str(uuid.uuid4()), "ttl_seconds": -1, **fields}).image_id


def start(client, image_id, kind=1, **definition):
    client.image_id = image_id
    return (client.create_v2 if kind == 2 else client.create)(**definition)


@pytest.mark.parametrize("kind", [1, 2])
def test_a_sandbox_from_a_snapshot(client, sim, refused, kind):
    image = client.image("FROM x", "ENV COLOUR=green", "WORKDIR /srv/app")
    with start(client, image, kind) as box:
        box.run("sh", "-c", "echo one > /root/file; echo two > file; chmod 700 file; ln -s /root/file /tmp/link; mkdir -p /opt/ä/b;"
                            "echo mine > /etc/mine; touch -d @1000000000 /root/file; truncate -s 1G /tmp/hole")
        image = snapshot(box)
        box.run("rm", "/root/file")
    client.call("ImageFromId", api_pb2.ImageFromIdRequest(image_id=image))
    with start(client, image, kind) as first, start(client, image, kind) as second:
        show = ["sh", "-c", "pwd; echo $COLOUR; cat /tmp/link /etc/mine file; stat -c '%a %Y' file /root/file | cut -c1-15;"
                            "ls -d /opt/ä/b; stat -c %s /tmp/hole; cat /etc/passwd | wc -l; id -un"]
        out = first.run(*show)[1].decode().split("\n")
        assert out[:5] == ["/srv/app", "green", "one", "mine", "two"]
        assert out[5].startswith("700 ") and out[6] == "644 1000000000"[:15] and out[7:9] == ["/opt/ä/b", str(1 << 30)]
        assert out[10] == "root"
        first.run("sh", "-c", "echo changed > /root/file")
        assert second.run("cat", "/root/file")[1] == b"one\n"
    client.call("ImageDelete", api_pb2.ImageDeleteRequest(image_id=image))
    for method, message in (("SandboxCreate", client.create_request()),
                            ("ImageFromId", api_pb2.ImageFromIdRequest(image_id=image)),
                            ("ImageDelete", api_pb2.ImageDeleteRequest(image_id=image))):
        with refused("NOT_FOUND"):
            client.call(method, message)


def test_the_same_snapshot_id_is_the_same_image(box):
    box.run("touch", "/root/a")
    one = snapshot(box, snapshot_id="s1")
    box.run("touch", "/root/b")
    assert snapshot(box, snapshot_id="s1") == one != snapshot(box, snapshot_id="s2")


def test_snapshots_that_are_refused(client, box, refused):
    for fields in ({"ttl_seconds": 0}, {"ttl_seconds": -2}, {"snapshot_id": ""}, {"customer_supplied_encryption_key": b"short"}):
        with refused("INVALID_ARGUMENT"):
            snapshot(box, **fields)
    for path in (b"relative", b"a\0b"):
        with refused("INVALID_ARGUMENT"):
            box.call("TaskSnapshotDirectory", path=path, snapshot_id="s")
    with refused("FAILED_PRECONDITION"):
        box.call("TaskSnapshotDirectory", path=b"/none", snapshot_id="s")
    with refused("INVALID_ARGUMENT"):
        client.call("SandboxGetExitSnapshot", api_pb2.SandboxGetExitSnapshotRequest(sandbox_id=box.id))
    for method in ("TaskSnapshotMemory", "TaskContainerList"):
        with refused("UNIMPLEMENTED"):
            box.call(method)


def test_snapshots_expire(client, box, refused):
    image = snapshot(box, ttl_seconds=1)
    start(client, image)
    eventually(lambda: expired(client, image))


def expired(client, image):
    try:
        client.call("ImageFromId", api_pb2.ImageFromIdRequest(image_id=image))
    except Exception as e:
        return e.code().name == "NOT_FOUND"


def test_the_older_call(client, box):
    box.run("sh", "-c", "echo x > /root/old")
    answer = client.call("SandboxSnapshotFs", api_pb2.SandboxSnapshotFsRequest(sandbox_id=box.id, timeout=55))
    assert answer.result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
    with start(client, answer.image_id) as other:
        assert other.run("cat", "/root/old")[1] == b"x\n"


def test_volumes_and_mounts_are_no_part_of_it(client, sim):
    volume_id = sim.volume("data")["volume_id"]
    mounted = [api_pb2.VolumeMount(volume_id=volume_id, mount_path="/data", sub_path="a/b")]
    with client.create(volume_mounts=mounted) as box:
        box.run("sh", "-c", "echo v > /data/v; mkdir /root/m; echo below > /root/m/f")
        box.call("TaskMountDirectory", path=b"/root/m")
        box.run("touch", "/root/m/over")
        image = snapshot(box)
        box.call("TaskReloadVolumes")
    with start(client, image) as box:
        assert box.run("sh", "-c", "ls /data /root/m")[1] == b"/root/m:\n"
    with start(client, image, volume_mounts=[api_pb2.VolumeMount(volume_id=volume_id, mount_path="/data")]) as box:
        assert box.run("cat", "/data/a/b/v")[1] == b"v\n"


def test_directories_mounted_and_taken(client, box, refused):
    box.run("sh", "-c", "mkdir -p /mnt/data; echo own > /mnt/data/own")
    box.call("TaskMountDirectory", path=b"/mnt/data")
    assert box.run("ls", "/mnt/data")[1] == b""
    box.run("sh", "-c", "echo s > /mnt/data/s")
    key = b"a key of at least sixteen bytes"
    plain = box.call("TaskSnapshotDirectory", path=b"/mnt/data", snapshot_id="1").image_id
    locked = box.call("TaskSnapshotDirectory", path=b"/mnt/data/", snapshot_id="2", customer_supplied_encryption_key=key).image_id
    box.call("TaskUnmountDirectory", path=b"/mnt/data")
    assert box.run("ls", "/mnt/data")[1] == b"own\n"
    with refused("FAILED_PRECONDITION"):
        box.call("TaskUnmountDirectory", path=b"/mnt/data")
    with client.create() as other:
        other.run("mkdir", "-p", "/mnt/in")
        for image_id, fields in (plain, {}), (locked, {"customer_supplied_encryption_key": key}):
            other.call("TaskMountDirectory", path=b"/mnt/in", image_id=image_id, **fields)
            assert other.run("cat", "/mnt/in/s")[1] == b"s\n"
        with refused("INVALID_ARGUMENT"):
            other.call("TaskMountDirectory", path=b"/mnt/in", image_id=locked)
        with refused("NOT_FOUND"):
            other.call("TaskMountDirectory", path=b"/mnt/in", image_id="im-none")
        with refused("FAILED_PRECONDITION"):
            other.call("TaskMountDirectory", path=b"/mnt/none")


def ready(box, timeout):
    return box.stub.SandboxWaitUntilReady(pb.SandboxWaitUntilReadyTcrRequest(task_id=box.task_id, timeout=timeout), timeout=30,
                                          metadata=[("authorization", f"Bearer {box.jwt}")]).ready_at


@pytest.mark.parametrize("probe, act", [
    ({"exec_command": {"argv": ["test", "-e", "/tmp/up"]}}, ["touch", "/tmp/up"]),
    ({"tcp_port": 8000, "interval_ms": 20}, None),
], ids=["command", "port"])
def test_readiness(client, refused, probe, act):
    with client.create_v2(readiness_probe=probe) as box:
        with refused("DEADLINE_EXCEEDED"):
            ready(box, 0.3)
        box.start(*(act or ["python3", "-c", "import socket, time; s = socket.create_server(('127.0.0.1', 8000)); time.sleep(100)"]))
        assert ready(box, 20) > 0
        listed = client.call("SandboxListV2", api_pb2.SandboxListRequest(app_id=client.app())).sandboxes
        assert listed[0].ready_at > 0


def test_one_without_a_probe_is_ready_at_once(client, box):
    assert ready(box, 10) > 0
    assert client.call("SandboxWaitUntilReady", api_pb2.SandboxWaitUntilReadyRequest(sandbox_id=box.id, timeout=5)).ready_at > 0


def test_one_that_ends_before_it_is_ready(client, sim, refused):
    with client.create_v2(readiness_probe={"exec_command": {"argv": ["false"]}}) as box:
        sim.faults({"kind": "kill_sandbox", "method": "SandboxWaitUntilReady", "ms": 100})
        with refused("NOT_FOUND"):
            ready(box, 20)
