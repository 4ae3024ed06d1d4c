"""The control plane: modal.client.ModalClient."""

import asyncio

import grpc
from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from . import checks, settings
from .dispatch import Refuse
from .sandbox import Result
from .tokens import BadToken

BUILDER_VERSION = "2025.06"
SUFFIX_V2 = "V2"
# Go and JavaScript take no other url of a router than https, and speak plain HTTP/2 to it on loopback all the same.
HTTPS_ONLY = ("modal-go/", "modal-js/")
AUTH_TOKEN = "control plane"
LONG_POLL = 10.0

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


async def wait_for(event, seconds):
    """True when the event came within the time."""
    try:
        await asyncio.wait_for(event.wait(), max(0, seconds))
    except (asyncio.TimeoutError, TimeoutError):
        pass
    return event.is_set()


class Control:
    def __init__(self, world, objects, plan, tokens, router_url):
        self.world = world
        self.objects = objects
        self.plan = plan
        self.tokens = tokens
        self.router_url = router_url  # called for the url that holds now
        self.created = {}             # idempotency key of a SandboxCreate -> its sandbox

    def authorize(self, request, call):
        sent = call.metadata
        for header in ("x-modal-client-type", "x-modal-client-version"):
            if not sent.get(header):
                raise Refuse(INVALID, f"the header {header} is missing")
        if not sent.get("x-modal-token-id") or not sent.get("x-modal-token-secret"):
            raise Refuse(UNAUTHENTICATED, "token credentials are missing: set a token id and a token secret")
        if (sent["x-modal-token-id"], sent["x-modal-token-secret"]) != (
                settings.current.token_id, settings.current.token_secret):
            raise Refuse(UNAUTHENTICATED, "token ID or token secret is not valid")
        if call.method.endswith(SUFFIX_V2) or call.method == "SandboxGetCommandRouterAccess":
            try:
                self.tokens.check(sent.get("x-modal-auth-token", ""), AUTH_TOKEN)
            except BadToken as e:
                raise Refuse(UNAUTHENTICATED, f"x-modal-auth-token: {e}") from e

    # Connection, environment, app

    async def ClientHello(self, request, call):
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER_VERSION)

    async def AuthTokenGet(self, request, call):
        return api_pb2.AuthTokenGetResponse(token=self.tokens.issue(AUTH_TOKEN, 3600))

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
        response = api_pb2.ImageGetOrCreateResponse(image_id=image.id)
        if image.result:
            response.result.CopyFrom(image.result)
        return response

    async def ImageJoinStreaming(self, request, call):
        image = self.objects.find("images", request.image_id, "image")
        async for response in image.join(request.last_entry_id, request.timeout):
            yield response

    # Secrets and volumes

    async def SecretGetOrCreate(self, request, call):
        return api_pb2.SecretGetOrCreateResponse(secret_id=self.objects.secret(request))

    async def VolumeGetOrCreate(self, request, call):
        return api_pb2.VolumeGetOrCreateResponse(volume_id=self.objects.volume(request), version=request.version)

    async def VolumeHeartbeat(self, request, call):
        return Empty()

    # Sandboxes

    async def SandboxCreate(self, request, call):
        sandbox = self._create(request, call, 1, {})
        return api_pb2.SandboxCreateResponse(sandbox_id=sandbox.id, metadata=self._metadata(sandbox))

    async def SandboxCreateV2(self, request, call):
        env = {}
        for source in request.secret_sources:
            if source.WhichOneof("source") == "env":
                env.update(source.env.contents)
            else:
                env.update(self.objects.find("secrets", source.secret_id, "secret"))
        env.update(request.ephemeral_secrets.contents)
        sandbox = self._create(request, call, 2, env)
        return api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.id, task_id=sandbox.task_id, metadata=self._metadata(sandbox),
            command_router_access=api_pb2.CommandRouterAccess(**self._access(sandbox, call)))

    def _create(self, request, call, version, env):
        key = call.metadata.get("x-idempotency-key")
        if key and key in self.created:
            return self.created[key]
        definition = request.definition
        self.objects.find("apps", request.app_id, "app")
        image = self.objects.find("images", definition.image_id, "image")
        if not image.built:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"image {image.id} has not been built")
        checks.definition(definition)
        tags = checks.tags(request.tags)
        live = self.world.live()
        if definition.name and any(s.name == definition.name and s.app_id == request.app_id for s in live):
            raise Refuse(grpc.StatusCode.ALREADY_EXISTS, f"a sandbox named {definition.name!r} is running")
        if len(live) >= settings.current.max_sandboxes:
            raise Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{len(live)} sandboxes are running; that is the limit")
        env = {**image.env, **self.objects.secret_env(definition.secret_ids), **env}
        sandbox = self.world.create(
            definition, app_id=request.app_id, tags=tags, version=version, env=env,
            workdir=definition.workdir or image.workdir, volumes=self.objects.mounts(definition.volume_mounts))
        if key:
            self.created[key] = sandbox
        return sandbox

    def _sandbox(self, sandbox_id):
        sandbox = self.world.sandboxes.get(sandbox_id)
        if sandbox is None:
            raise Refuse(NOT_FOUND, f"there is no sandbox {sandbox_id!r}")
        return sandbox

    def _metadata(self, sandbox):
        metadata = api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id)
        if sandbox.visible_result():
            metadata.result.CopyFrom(sandbox.result)
        return metadata

    async def SandboxGetTaskId(self, request, call):
        sandbox = self._sandbox(request.sandbox_id)
        if self.plan.draw(call.method, {"not_yet"}):
            return api_pb2.SandboxGetTaskIdResponse()
        for rule in self.plan.draw(call.method, {"task_result"}):
            sandbox.finish(Result.GENERIC_STATUS_INIT_FAILURE, 1, rule.message)
            return api_pb2.SandboxGetTaskIdResponse(task_result=sandbox.result)
        seconds = request.timeout if request.HasField("timeout") else LONG_POLL
        await wait_for(sandbox.ready, seconds)
        response = api_pb2.SandboxGetTaskIdResponse()
        if sandbox.started_at:
            response.task_id = sandbox.task_id
        if sandbox.result is not None:
            response.task_result.CopyFrom(sandbox.result)
        return response

    def _access(self, sandbox, call):
        if sandbox.result is not None:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"sandbox {sandbox.id} has already ended")
        https_only = call.metadata.get("x-modal-libmodal-version", "").startswith(HTTPS_ONLY)
        jwt = self.tokens.issue(sandbox.task_id, settings.current.jwt_lifetime)
        return {"url": self.router_url(https_only), "jwt": jwt}

    async def TaskGetCommandRouterAccess(self, request, call):
        sandbox = self.world.tasks.get(request.task_id)
        if sandbox is None:
            raise Refuse(NOT_FOUND, f"there is no task {request.task_id!r}")
        return api_pb2.TaskGetCommandRouterAccessResponse(**self._access(sandbox, call))

    async def SandboxGetCommandRouterAccess(self, request, call):
        sandbox = self.world.tasks.get(request.task_id) or self._sandbox(request.sandbox_id)
        return api_pb2.SandboxGetCommandRouterAccessResponse(**self._access(sandbox, call))

    async def SandboxWait(self, request, call):
        sandbox = self._sandbox(request.sandbox_id)
        await wait_for(sandbox.finished, request.timeout)
        response = api_pb2.SandboxWaitResponse(metadata=self._metadata(sandbox))
        if sandbox.visible_result():
            response.result.CopyFrom(sandbox.result)
        return response

    async def SandboxList(self, request, call):
        """One page, newest first; the next is asked for by the last one's created_at."""
        wanted = {(t.tag_name, t.tag_value) for t in request.tags}
        found = [
            s for s in self.world.sandboxes.values()
            if (not request.app_id or s.app_id == request.app_id)
            and (request.include_finished or s.visible_result() is None)
            and (not request.before_timestamp or s.created_at < request.before_timestamp)
            and wanted <= set(s.tags.items())
        ]
        if call.method == "SandboxList":
            found = [s for s in found if s.version == 1]
        found.sort(key=lambda s: -s.created_at)
        return api_pb2.SandboxListResponse(sandboxes=[self._info(s) for s in found[:settings.current.list_page]])

    def _info(self, sandbox):
        task = api_pb2.TaskInfo(id=sandbox.task_id, sandbox_id=sandbox.id, enqueued_at=sandbox.created_at,
                                started_at=sandbox.started_at)
        if sandbox.visible_result():
            task.finished_at = sandbox.finished_at
            task.result.CopyFrom(sandbox.result)
        return api_pb2.SandboxInfo(
            id=sandbox.id, created_at=sandbox.created_at, task_info=task, app_id=sandbox.app_id, name=sandbox.name,
            image_id=sandbox.definition.image_id, timeout_secs=sandbox.definition.timeout_secs,
            metadata=self._metadata(sandbox), tags=self._tag_messages(sandbox))

    def _tag_messages(self, sandbox):
        return [api_pb2.SandboxTag(tag_name=k, tag_value=v) for k, v in sandbox.tags.items()]

    async def SandboxTagsSet(self, request, call):
        self._sandbox(request.sandbox_id).tags = checks.tags(request.tags)
        return Empty()

    async def SandboxTagsGet(self, request, call):
        return api_pb2.SandboxTagsGetResponse(tags=self._tag_messages(self._sandbox(request.sandbox_id)))

    async def SandboxTerminate(self, request, call):
        sandbox = self._sandbox(request.sandbox_id)
        response = api_pb2.SandboxTerminateResponse()
        if sandbox.result is not None:
            response.existing_result.CopyFrom(sandbox.result)
        sandbox.finish(Result.GENERIC_STATUS_TERMINATED)
        return response

    async def SandboxGetFromName(self, request, call):
        app_id = self.objects.app(request.app_name, request.environment_name, api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED)
        for sandbox in self.world.live():
            if sandbox.name == request.sandbox_name and sandbox.app_id == app_id:
                return api_pb2.SandboxGetFromNameResponse(sandbox_id=sandbox.id, metadata=self._metadata(sandbox))
        raise Refuse(NOT_FOUND, f"no running sandbox is named {request.sandbox_name!r}")

    # The entrypoint's own streams, as the first kind of sandbox has them

    async def SandboxGetLogs(self, request, call):
        sandbox = self._sandbox(request.sandbox_id)
        await sandbox.ready.wait()
        stderr = request.file_descriptor == api_pb2.FILE_DESCRIPTOR_STDERR
        spool = None if sandbox.main is None else sandbox.main.stderr if stderr else sandbox.main.stdout
        # An entry's id is two numbers, which the SDKs begin with 0-0; the first of ours is the offset behind it.
        offset = int((request.last_entry_id or "0-0").partition("-")[0])
        if spool is not None:
            async for data in spool.read(offset, settings.current.chunk, lambda: None):
                offset += len(data)
                log = api_pb2.TaskLogs(data=data.decode(errors="replace"), file_descriptor=request.file_descriptor)
                yield api_pb2.TaskLogsBatch(entry_id=f"{offset}-0", items=[log], sandbox_id=sandbox.id)
        yield api_pb2.TaskLogsBatch(entry_id=f"{offset}-0", eof=True, sandbox_id=sandbox.id)

    async def SandboxStdinWrite(self, request, call):
        sandbox = self._sandbox(request.sandbox_id)
        await sandbox.ready.wait()
        if sandbox.main is None or sandbox.result is not None:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"sandbox {sandbox.id} has ended")
        sandbox.touch()
        stdin = sandbox.main.stdin
        await stdin.write(stdin.accepted, request.input, request.eof)
        return api_pb2.SandboxStdinWriteResponse()

    # The second kind of sandbox has the same calls under other names

    SandboxWaitV2 = SandboxWait
    SandboxListV2 = SandboxList
    SandboxTagsSetV2 = SandboxTagsSet
    SandboxTagsGetV2 = SandboxTagsGet
    SandboxTerminateV2 = SandboxTerminate
    SandboxGetTaskIdV2 = SandboxGetTaskId
    SandboxGetFromNameV2 = SandboxGetFromName
