"""What the simulator refuses as Modal does, and what the SDKs expect of its answers' form."""

import base64
import json

import pytest
from modal_proto import api_pb2

from .client import Client
from .simulator import Simulator

ALLOWLIST = api_pb2.NetworkAccess.ALLOWLIST


def claims(jwt):
    part = jwt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_times_of_tokens_are_integers(client, box):
    auth = client.call("AuthTokenGet", api_pb2.AuthTokenGetRequest()).token
    for token in (box.jwt, auth):
        assert [type(claims(token)[k]) for k in ("exp", "iat")] == [int, int]


def test_an_https_url_for_those_who_take_no_other():
    """Go and JavaScript speak plain HTTP/2 to it; a client of another kind gets the scheme that is spoken."""
    with Simulator(tls=False) as sim, Client(sim) as client, client.create() as box:
        assert box.url.startswith("http://")
        request = api_pb2.TaskGetCommandRouterAccessRequest(task_id=box.task_id)
        for sdk in ("modal-go/0.11.1", "modal-js/0.11.1"):
            url = client.call("TaskGetCommandRouterAccess", request, x_modal_libmodal_version=sdk).url
            assert url == box.url.replace("http://", "https://")


def test_logs_from_the_first_entry(client):
    sandbox_id = client.call("SandboxCreate", client.create_request(
        entrypoint_args=["sh", "-c", "echo one; echo two"])).sandbox_id

    def logs(entry):
        return list(client.call("SandboxGetLogs", api_pb2.SandboxGetLogsRequest(
            sandbox_id=sandbox_id, file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT, last_entry_id=entry)))
    for entry in ("0-0", ""):
        batches = logs(entry)
        assert "".join(i.data for b in batches for i in b.items) == "one\ntwo\n" and batches[-1].eof
    assert [b.eof for b in logs(batches[-1].entry_id)] == [True]


@pytest.mark.parametrize("key, value", [("a b", "x"), ("a", "x y"), ("a", "ä"), ("a", ""), ("", "a"), ("a/b", "x"), ("a", "x\n")])
def test_tags(client, box, refused, key, value):
    with refused("INVALID_ARGUMENT"):
        client.call("SandboxCreate", client.create_request({key: value}))
    with refused("INVALID_ARGUMENT"):
        client.call("SandboxTagsSet", api_pb2.SandboxTagsSetRequest(
            sandbox_id=box.id, tags=[api_pb2.SandboxTag(tag_name=key, tag_value=value)]))


@pytest.mark.parametrize("cidr", ["not-an-ip/8", "10.0.0.1/8", "10.0.0.0", "::/0", "2001:db8::/32", "10.0.0.0/33",
                                  "10.0.0.0/255.0.0.0", " 10.0.0.0/8", ""])
def test_cidrs(client, refused, cidr):
    with refused("INVALID_ARGUMENT") as r:
        client.create(network_access=api_pb2.NetworkAccess(network_access_type=ALLOWLIST, allowed_cidrs=[cidr]))
    assert r.error.details() == f"Invalid CIDR (outbound IPv4): {cidr}"
    with refused("INVALID_ARGUMENT") as r:
        client.create(inbound_cidr_allowlist=[cidr])
    assert r.error.details() == f"Invalid CIDR (inbound IPv4): {cidr}"


def test_a_running_sandbox_gets_no_bad_cidr_either(box, sim, refused):
    with refused("INVALID_ARGUMENT"):
        box.call("TaskSetNetworkAccess", network_access=api_pb2.NetworkAccess(
            network_access_type=ALLOWLIST, allowed_cidrs=["10.0.0.1/8"]))
    with refused("INVALID_ARGUMENT"):
        box.call("TaskSetNetworkAccess", network_access=api_pb2.NetworkAccess(
            network_access_type=api_pb2.NetworkAccess.BLOCKED))
    box.call("TaskSetNetworkAccess", network_access=api_pb2.NetworkAccess(
        network_access_type=ALLOWLIST, allowed_cidrs=["10.0.0.0/8"], allowed_domains=["*.example.com"]))
    (facts,) = sim.sandboxes()
    assert facts["outbound"]["allowed_cidrs"] == ["10.0.0.0/8"]


@pytest.mark.parametrize("definition", [
    {"cloud_provider_str": "invalid-cloud"},
    {"scheduler_placement": api_pb2.SchedulerPlacement(regions=["invalid-region"])},
    {"workdir": "relative/path"},
    {"name": "a b"},
    {"name": "x" * 65},
    {"name": "ap-" + "A" * 22},
    {"entrypoint_args": ["x" * 65537]},
    {"network_access": api_pb2.NetworkAccess(network_access_type=ALLOWLIST, allowed_domains=["not a valid domain!"])},
    {"network_access": api_pb2.NetworkAccess(network_access_type=api_pb2.NetworkAccess.BLOCKED),
     "open_ports": api_pb2.PortSpecs(ports=[api_pb2.PortSpec(port=80)])},
    {"open_ports": api_pb2.PortSpecs(ports=[api_pb2.PortSpec(port=70000)])},
], ids=lambda d: "-".join(d))
def test_definitions(client, sim, refused, definition):
    with refused("INVALID_ARGUMENT"):
        client.create(**definition)
    assert sim.stats()["sandboxes"]["created"] == 0


def test_definitions_that_are_fine(client):
    client.create(cloud_provider_str="aws", workdir="/tmp", name="a.b_c-1",
                  scheduler_placement=api_pb2.SchedulerPlacement(regions=["us-east-1", "us-west", "eu"]),
                  inbound_cidr_allowlist=["127.0.0.0/8"],
                  network_access=api_pb2.NetworkAccess(network_access_type=ALLOWLIST, allowed_cidrs=["0.0.0.0/0"],
                                                       allowed_domains=["example.com", "*.github.com"]))
