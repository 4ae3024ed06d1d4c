"""Tunnels and connect tokens lead to real servers inside sandboxes."""

import socket
import ssl
import urllib.error
import urllib.request

import pytest
from modal_proto import api_pb2

from .client import Client
from .conftest import eventually
from .simulator import Simulator

# Answers each connection with what it got until its end, turned round.
SERVER = """
import socket
with socket.create_server(("127.0.0.1", %d)) as s:
    print("up", flush=True)
    while True:
        with s.accept()[0] as c:
            data = b""
            while piece := c.recv(65536):
                data += piece
            c.sendall(data[::-1])
"""
WEB = """
import http.server
class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.headers.get("X-Verified-User-Data") or "nobody").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", %d), Web)
print("up", flush=True)
server.serve_forever()
"""


def serve(box, text, port):
    exec_id = box.start("python3", "-c", text % port)
    assert next(box.call("TaskExecStdioRead", exec_id=exec_id)).data == b"up\n"


def ports(*specs):
    return api_pb2.PortSpecs(ports=[api_pb2.PortSpec(port=p, unencrypted=u) for p, u in specs])


def tunnels(client, box, method="SandboxGetTunnels", timeout=10):
    answer = client.call(method, api_pb2.SandboxGetTunnelsRequest(sandbox_id=box.id, timeout=timeout))
    assert answer.result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
    return {t.container_port: t for t in answer.tunnels}


def talk(address, data):
    with socket.create_connection(address, timeout=10) as plain:
        plain.sendall(data)
        plain.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: plain.recv(65536), b""))


def test_unencrypted_tunnel(client):
    data = bytes(range(256)) * 4096
    with client.create(open_ports=ports((9000, True))) as box, client.create(open_ports=ports((9000, True))) as other:
        serve(box, SERVER, 9000)
        tunnel = tunnels(client, box)[9000]
        address = tunnel.unencrypted_host, tunnel.unencrypted_port
        assert talk(address, data) == data[::-1]
        # Nobody listens in the other one: its network is its own.
        there = tunnels(client, other)[9000]
        assert talk((there.unencrypted_host, there.unencrypted_port), b"") == b""
        client.call("SandboxTerminate", api_pb2.SandboxTerminateRequest(sandbox_id=box.id))
        with pytest.raises(OSError):
            talk(address, data)


def test_encrypted_tunnel_is_in_the_answer_of_v2(client, sim):
    with client.create_v2(open_ports=ports((9000, False), (9001, True))) as box:
        (first,) = box.answer.tunnels
        assert first.container_port == 9000 and not first.unencrypted_port
        assert set(tunnels(client, box, "SandboxGetTunnelsV2")) == {9000, 9001}
        serve(box, WEB, 9000)
        context = ssl.create_default_context(cafile=sim.ca)
        with urllib.request.urlopen(f"https://{first.host}:{first.port}/", context=context, timeout=10) as answer:
            assert answer.read() == b"nobody"


def test_tunnels_that_are_not_there_yet(client, sim):
    sim.config(start_delay_secs=60.0)
    sandbox_id = client.call("SandboxCreate", client.create_request(open_ports=ports((9000, True)))).sandbox_id
    answer = client.call("SandboxGetTunnels", api_pb2.SandboxGetTunnelsRequest(sandbox_id=sandbox_id, timeout=0.1))
    assert answer.result.status == api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT and not answer.tunnels
    sim.config(start_delay_secs=0.0)


def test_who_may_come_in(client, sim):
    context = ssl.create_default_context(cafile=sim.ca)
    for allowed, comes in (["127.0.0.0/8"], True), (["10.0.0.0/8"], False):
        with client.create(open_ports=ports((9000, False)), inbound_cidr_allowlist=allowed) as box:
            serve(box, WEB, 9000)
            tunnel = tunnels(client, box)[9000]
            try:
                urllib.request.urlopen(f"https://{tunnel.host}:{tunnel.port}/", context=context, timeout=10)
                assert comes
            except OSError:
                assert not comes


@pytest.mark.parametrize("kind", ["", "V2"])
def test_connect_token(client, sim, refused, kind):
    context = ssl.create_default_context(cafile=sim.ca)

    def get(url, **headers):
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context, timeout=10) as answer:
            return answer.read()
    with client.create_v2() if kind else client.create() as box:
        serve(box, WEB, 8080)
        method = "SandboxCreateConnectToken" + kind
        door = client.call(method, api_pb2.SandboxCreateConnectTokenRequest(sandbox_id=box.id, user_metadata="Ann & Bob"))
        assert get(door.url, Authorization=f"Bearer {door.token}") == b"Ann%20%26%20Bob"
        assert get(door.url, Cookie=f"a=b; _modal_connect_token={door.token}") == b"Ann%20%26%20Bob"
        assert get(f"{door.url}/?_modal_connect_token={door.token}") == b"Ann%20%26%20Bob"
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(urllib.error.HTTPError) as e:
                get(door.url, **headers)
            assert e.value.code == 401
        for port in (0, 65536):
            with refused("INVALID_ARGUMENT"):
                client.call(method, api_pb2.SandboxCreateConnectTokenRequest(sandbox_id=box.id, port=port))


def test_without_tls_nothing_is_encrypted():
    with Simulator(tls=False) as sim, Client(sim) as client, client.create(open_ports=ports((9000, False))) as box:
        serve(box, SERVER, 9000)
        tunnel = tunnels(client, box)[9000]
        assert talk((tunnel.host, tunnel.port), b"abc") == b"cba"
        eventually(lambda: sim.stats()["open_calls"].get("TaskExecStdioRead", 0) == 0)
