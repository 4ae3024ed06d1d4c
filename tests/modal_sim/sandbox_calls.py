"""The control plane's calls about sandboxes, of both kinds.

The second kind has the same calls under names that end in V2. A call of one kind does not know
the other kind's sandboxes; only SandboxListV2 shows both.
"""

import grpc
from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from . import checks, settings
from .dispatch import Refuse
from .sandbox import Result
from .waiting import wait_for

# Go and JavaScript take no other url of a router than https, and speak plain HTTP/2 to it on loopback all the same.
HTTPS_ONLY = ("modal-go/", "modal-js/")
LONG_POLL = 10.0
# Of the second kind although their names do not say so.
V2_ONLY = {"SandboxGetCommandRouterAccess", "SandboxSetName"}

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def is_v2(method):
    return method.endswith("V2") or method in V2_ONLY


class SandboxCalls:
    async def SandboxCreate(self, request, call):
        sandbox = await self._create(request, call, 1, {})
        return api_pb2.SandboxCreateResponse(sandbox_id=sandbox.id, metadata=self._metadata(sandbox))

    async def SandboxCreateV2(self, request, call):
        checks.definition_v2(request.definition)
        env = {**self.objects.source_env(request.secret_sources), **request.ephemeral_secrets.contents}
        sandbox = await self._create(request, call, 2, env)
        response = api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.id, task_id=sandbox.task_id, metadata=self._metadata(sandbox),
            tunnels=self._tunnels(sandbox, unencrypted=False))
        if settings.current.access_at_create:
            response.command_router_access.CopyFrom(api_pb2.CommandRouterAccess(**self._access(sandbox, call)))
        if settings.current.sandbox_token != "none":
            response.sandbox_token = self.tokens.issue("sandbox", sandbox.id, 0)
        return response

    async def _create(self, request, call, version, env):
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
        self._check_name_is_free(request.app_id, definition.name)
        live = len(self.world.live())
        if live >= settings.current.max_sandboxes:
            raise Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{live} sandboxes are running; that is the limit")
        if version == 2 and not self.world.has_room():
            # One of the first kind is taken on, and waits until there is room.
            raise Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Insufficient capacity to create sandbox.")
        if definition.experimental_options_v2.get("enable_exit_snapshot", "").lower() == "true":
            raise Refuse(grpc.StatusCode.UNIMPLEMENTED, "the simulator takes no snapshot at exit")
        secrets = self.objects.secret_env(definition.secret_ids)
        if version == 1:  # those of the second kind are in its secret_sources
            env = {**secrets, **env}
        sandbox = self.world.create(
            definition, app_id=request.app_id, tags=tags, version=version, image=image, env=env,
            volumes=self.objects.mounts(definition.volume_mounts))
        if key:
            self.created[key] = sandbox
        await sandbox.tunnels.open()
        return sandbox

    def _sandbox(self, request, call):
        sandbox = self.world.sandboxes.get(request.sandbox_id)
        if sandbox is None or (sandbox.version == 2) != is_v2(call.method):
            raise Refuse(NOT_FOUND, f"Sandbox with ID {request.sandbox_id} not found")
        return sandbox

    def _metadata(self, sandbox):
        metadata = api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id)
        if sandbox.visible_result():
            metadata.result.CopyFrom(sandbox.result)
        return metadata

    async def SandboxGetTaskId(self, request, call):
        sandbox = self._sandbox(request, call)
        if self.plan.draw(call.method, {"not_yet"}):
            return api_pb2.SandboxGetTaskIdResponse()
        for rule in self.plan.draw(call.method, {"task_result"}):
            sandbox.finish(Result.GENERIC_STATUS_INIT_FAILURE, 1, rule.message)
            return api_pb2.SandboxGetTaskIdResponse(task_result=sandbox.result)
        # One of the second kind has its task from the beginning.
        if sandbox.version == 1 or request.wait_until_ready:
            await wait_for(sandbox.ready, request.timeout if request.HasField("timeout") else LONG_POLL)
        response = api_pb2.SandboxGetTaskIdResponse()
        if sandbox.started_at or sandbox.version == 2:
            response.task_id = sandbox.task_id
        if sandbox.result is not None:
            response.task_result.CopyFrom(sandbox.result)
        return response

    def _access(self, sandbox, call):
        if sandbox.result is not None:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"sandbox {sandbox.id} has already ended")
        https_only = call.metadata.get("x-modal-libmodal-version", "").startswith(HTTPS_ONLY)
        jwt = self.tokens.issue("router", sandbox.task_id, settings.current.jwt_lifetime)
        return {"url": self.router_url(https_only), "jwt": jwt}

    async def TaskGetCommandRouterAccess(self, request, call):
        sandbox = self.world.tasks.get(request.task_id)
        if sandbox is None or sandbox.version == 2:
            raise Refuse(NOT_FOUND, f"there is no task {request.task_id!r}")
        return api_pb2.TaskGetCommandRouterAccessResponse(**self._access(sandbox, call))

    async def SandboxGetCommandRouterAccess(self, request, call):
        sandbox = self.world.tasks.get(request.task_id)
        if sandbox is None or sandbox.version == 1:
            sandbox = self._sandbox(request, call)
        return api_pb2.SandboxGetCommandRouterAccessResponse(**self._access(sandbox, call))

    async def SandboxWait(self, request, call):
        sandbox = self._sandbox(request, call)
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
            metadata=self._metadata(sandbox), tags=self._tag_messages(sandbox), ready_at=sandbox.probed_at or None)

    def _tag_messages(self, sandbox):
        return [api_pb2.SandboxTag(tag_name=k, tag_value=v) for k, v in sandbox.tags.items()]

    async def SandboxTagsSet(self, request, call):
        self._sandbox(request, call).tags = checks.tags(request.tags)
        return Empty()

    async def SandboxTagsGet(self, request, call):
        return api_pb2.SandboxTagsGetResponse(tags=self._tag_messages(self._sandbox(request, call)))

    async def SandboxTerminate(self, request, call):
        sandbox = self._sandbox(request, call)
        response = api_pb2.SandboxTerminateResponse()
        if sandbox.result is not None:
            response.existing_result.CopyFrom(sandbox.result)
        sandbox.finish(Result.GENERIC_STATUS_TERMINATED)
        return response

    # Names

    def _check_name_is_free(self, app_id, name, of=None):
        if name and any(s.name == name and s.app_id == app_id and s is not of for s in self.world.live()):
            raise Refuse(grpc.StatusCode.ALREADY_EXISTS, f"A Sandbox with the name {name!r} already exists in this App")

    async def SandboxSetName(self, request, call):
        """Once; the same name again changes nothing."""
        sandbox = self._sandbox(request, call)
        checks.name(request.name)
        if sandbox.result is not None:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"Sandbox {sandbox.id} has already ended")
        if sandbox.name not in ("", request.name):
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"Sandbox {sandbox.id} already has the name {sandbox.name!r}")
        self._check_name_is_free(sandbox.app_id, request.name, sandbox)
        sandbox.name = request.name
        return api_pb2.SandboxSetNameResponse()

    async def SandboxGetFromName(self, request, call):
        app_id = self.objects.app(request.app_name, request.environment_name, api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED)
        ended_too = request.include_terminated and is_v2(call.method)
        found = [s for s in self.world.sandboxes.values()
                 if s.name == request.sandbox_name and s.app_id == app_id and (s.result is None or ended_too)
                 and (s.version == 2) == is_v2(call.method)]
        if not found:
            raise Refuse(NOT_FOUND, f"Sandbox with name {request.sandbox_name!r} not found")
        newest = max(found, key=lambda s: (s.result is None, s.created_at))
        return api_pb2.SandboxGetFromNameResponse(sandbox_id=newest.id, metadata=self._metadata(newest))

    # The older way to a snapshot and to readiness, of the first kind only

    async def SandboxSnapshotFs(self, request, call):
        sandbox = self._sandbox(request, call)
        await sandbox.ready.wait()
        image_id = await self.router.snapshot_of(sandbox)
        return api_pb2.SandboxSnapshotFsResponse(
            image_id=image_id, result=Result(status=Result.GENERIC_STATUS_SUCCESS),
            image_metadata=api_pb2.ImageMetadata(workdir=sandbox.workdir))

    async def SandboxWaitUntilReady(self, request, call):
        sandbox = self._sandbox(request, call)
        if not await wait_for(sandbox.probed, request.timeout or LONG_POLL):
            raise Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "the readiness probe has not succeeded yet")
        if sandbox.result is not None:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, f"sandbox {sandbox.id} has already ended")
        return api_pb2.SandboxWaitUntilReadyResponse(ready_at=sandbox.probed_at)

    async def SandboxGetExitSnapshot(self, request, call):
        self._sandbox(request, call)
        raise Refuse(INVALID, "Exit snapshot is not enabled for this sandbox")

    # The entrypoint's own streams, as the first kind of sandbox has them

    async def SandboxGetLogs(self, request, call):
        sandbox = self._sandbox(request, call)
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
        sandbox = self._sandbox(request, call)
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
    SandboxGetExitSnapshotV2 = SandboxGetExitSnapshot
