"""The control plane: modal.client.ModalClient."""

import grpc
from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from . import settings
from .dispatch import Refuse
from .money_calls import MoneyCalls
from .network_calls import NetworkCalls
from .sandbox_calls import SandboxCalls, is_v2
from .tokens import BadToken

BUILDER_VERSION = "2025.06"
ACCOUNT = "account"

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Control(SandboxCalls, NetworkCalls, MoneyCalls):
    def __init__(self, world, objects, records, plan, tokens, router, router_url):
        self.world = world
        self.objects = objects
        self.records = records
        self.plan = plan
        self.tokens = tokens
        self.router = router
        self.router_url = router_url  # called for the url that holds now
        self.created = {}             # idempotency key of a SandboxCreate -> its sandbox

    def authorize(self, request, call):
        if is_v2(call.method) and not settings.current.v2:
            raise Refuse(grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {call.method}")
        sent = call.metadata
        for header in ("x-modal-client-type", "x-modal-client-version"):
            if not sent.get(header):
                raise Refuse(INVALID, f"the header {header} is missing")
        if not sent.get("x-modal-token-id") or not sent.get("x-modal-token-secret"):
            raise Refuse(UNAUTHENTICATED, "token credentials are missing: set a token id and a token secret")
        if (sent["x-modal-token-id"], sent["x-modal-token-secret"]) != (
                settings.current.token_id, settings.current.token_secret):
            raise Refuse(UNAUTHENTICATED, "token ID or token secret is not valid")
        if is_v2(call.method):
            self._check_token(call, "auth", ACCOUNT)
            sandbox = self.world.sandboxes.get(call.sandbox_id)
            if sandbox is not None:
                self._authorize_sandbox(sandbox, call)

    def _authorize_sandbox(self, sandbox, call):
        """One that knows a sandbox by its id or name alone has no token of it, and may go without."""
        present = "x-modal-sandbox-token" in call.metadata
        self.records.sandbox_tokens[f"{'sent' if present else 'missing'} {call.method}"] += 1
        if present or settings.current.sandbox_token == "demand":
            self._check_token(call, "sandbox", sandbox.id)

    def _check_token(self, call, kind, subject):
        header = f"x-modal-{kind}-token"
        if not call.metadata.get(header):
            raise Refuse(UNAUTHENTICATED, f"the header {header} is missing")
        try:
            self.tokens.check(call.metadata[header], kind, subject)
        except BadToken as e:
            raise Refuse(UNAUTHENTICATED, f"{header}: {e}") from e

    # Connection, environment, app

    async def ClientHello(self, request, call):
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER_VERSION)

    async def AuthTokenGet(self, request, call):
        return api_pb2.AuthTokenGetResponse(token=self.tokens.issue("auth", ACCOUNT, settings.current.auth_token_lifetime))

    async def EnvironmentGetOrCreate(self, request, call):
        name = request.deployment_name or "main"
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=self.objects.environment(name, request.object_creation_type),
            metadata=api_pb2.EnvironmentMetadata(
                name=name, settings=api_pb2.EnvironmentSettings(image_builder_version=BUILDER_VERSION)))

    async def AppGetOrCreate(self, request, call):
        return api_pb2.AppGetOrCreateResponse(app_id=self.objects.app(
            request.app_name, request.environment_name, request.object_creation_type))

    # Images

    async def ImageGetOrCreate(self, request, call):
        image = self.objects.image(request)
        self.records.note("builds", self.objects.building())
        response = api_pb2.ImageGetOrCreateResponse(image_id=image.id)
        if image.result:
            response.result.CopyFrom(image.result)
        return response

    async def ImageJoinStreaming(self, request, call):
        image = self.objects.find("images", request.image_id, "image")
        async for response in image.join(request.last_entry_id, request.timeout):
            yield response

    async def ImageFromId(self, request, call):
        image = self.objects.find("images", request.image_id, "image")
        return api_pb2.ImageFromIdResponse(image_id=image.id, metadata=api_pb2.ImageMetadata(workdir=image.workdir))

    async def ImageDelete(self, request, call):
        self.objects.delete_image(request.image_id)
        return Empty()

    # Secrets and volumes

    async def SecretGetOrCreate(self, request, call):
        return api_pb2.SecretGetOrCreateResponse(secret_id=self.objects.secret(request))

    async def VolumeGetOrCreate(self, request, call):
        return api_pb2.VolumeGetOrCreateResponse(volume_id=self.objects.volume(request), version=request.version)

    async def VolumeHeartbeat(self, request, call):
        return Empty()
