"""The control plane's calls about ways into a sandbox."""

import grpc
from modal_proto import api_pb2

from .dispatch import Refuse
from .sandbox import Result
from .tunnels import HOST
from .waiting import wait_for

CONNECT_PORT = 8080


class NetworkCalls:
    def _tunnels(self, sandbox, unencrypted=True):
        tunnels = []
        for inner, door, plain in sandbox.tunnels.ports:
            tunnel = api_pb2.TunnelData(host=HOST, port=door.port, container_port=inner)
            if plain:
                tunnel.unencrypted_host, tunnel.unencrypted_port = HOST, plain.port
            if unencrypted or not plain:
                tunnels.append(tunnel)
        return tunnels

    async def SandboxGetTunnels(self, request, call):
        sandbox = self._sandbox(request, call)
        if not await wait_for(sandbox.ready, request.timeout):
            return api_pb2.SandboxGetTunnelsResponse(result=Result(status=Result.GENERIC_STATUS_TIMEOUT))
        if sandbox.result is not None:
            return api_pb2.SandboxGetTunnelsResponse(result=sandbox.result)
        return api_pb2.SandboxGetTunnelsResponse(
            result=Result(status=Result.GENERIC_STATUS_SUCCESS), tunnels=self._tunnels(sandbox))

    async def SandboxCreateConnectToken(self, request, call):
        sandbox = self._sandbox(request, call)
        port = request.port if request.HasField("port") else CONNECT_PORT
        if not 1 <= port <= 65535:
            raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid port: {port}")
        if sandbox.definition.network_access.network_access_type == api_pb2.NetworkAccess.BLOCKED:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, "network access of the sandbox is blocked")
        if sandbox.result is not None:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"sandbox {sandbox.id} has already ended")
        url, token = await sandbox.tunnels.connect_token(port, request.user_metadata)
        return api_pb2.SandboxCreateConnectTokenResponse(url=url, token=token)

    SandboxGetTunnelsV2 = SandboxGetTunnels
    SandboxCreateConnectTokenV2 = SandboxCreateConnectToken
