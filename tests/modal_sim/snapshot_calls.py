"""The router's calls about files: snapshots, and images and volumes mounted in a running sandbox."""

import asyncio
import os

import grpc
from google.protobuf.empty_pb2 import Empty
from modal_proto import task_command_router_pb2 as pb

from .dispatch import Refuse
from .snapshots import TTL_DEFAULT, Snapshot, digest, lifetime

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION


def absolute(path):
    path = os.fsdecode(path)
    if not path.startswith("/") or "\0" in path:
        raise Refuse(INVALID, f"path must be absolute, not {path!r}")
    return os.path.normpath(path)


class SnapshotCalls:
    async def _snapshot(self, request, path, ttl):
        """The image of a snapshot; for the same snapshot_id always the same."""
        self._check_container(request)
        sandbox = self._sandbox(request.task_id)
        if not request.snapshot_id:
            raise Refuse(INVALID, "snapshot_id is missing")
        key = sandbox.task_id, request.snapshot_id
        if key not in self.snapshots:
            image = Snapshot(sandbox, self.objects.directory, ttl, request.customer_supplied_encryption_key)
            self.snapshots[key] = asyncio.ensure_future(self._take(image, sandbox, path, key))
        return await asyncio.shield(self.snapshots[key])

    async def _take(self, image, sandbox, path, key):
        try:
            await image.take(sandbox, path)
            if sandbox.result is not None:
                raise Refuse(grpc.StatusCode.NOT_FOUND, f"task {sandbox.task_id!r} is not running here")
        except BaseException:
            self.snapshots.pop(key, None)
            raise
        self.objects.images[image.id] = image
        return image.id

    async def snapshot_of(self, sandbox):
        """The image of one sandbox's files as they are now."""
        image = Snapshot(sandbox, self.objects.directory, TTL_DEFAULT, b"")
        return await self._take(image, sandbox, "/", None)

    async def TaskSnapshotFilesystem(self, request, call):
        return pb.TaskSnapshotFilesystemResponse(
            image_id=await self._snapshot(request, "/", lifetime(request.ttl_seconds)))

    async def TaskSnapshotDirectory(self, request, call):
        path, ttl = absolute(request.path), lifetime(request.ttl_seconds, TTL_DEFAULT)
        return pb.TaskSnapshotDirectoryResponse(image_id=await self._snapshot(request, path, ttl))

    async def TaskMountDirectory(self, request, call):
        self._check_container(request)
        sandbox, path = self._sandbox(request.task_id), absolute(request.path)
        image = self.objects.find("images", request.image_id, "image") if request.image_id else None
        if image and not image.built:
            raise Refuse(FAILED, f"image {image.id} has not been built")
        if isinstance(image, Snapshot) and image.key != digest(request.customer_supplied_encryption_key):
            raise Refuse(INVALID, f"customer_supplied_encryption_key is not the one of image {image.id}")
        if path in sandbox.mounts:
            await self._inside(sandbox, ["umount", "-l", path])
        await self._inside(sandbox, ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", path])
        sandbox.mounts[path] = request.image_id
        if isinstance(image, Snapshot):
            archive = image.open()
            try:
                await self._inside(sandbox, ["tar", "-xpf", "-", "-C", path, "--numeric-owner"], archive)
            finally:
                os.close(archive)
        return Empty()

    async def TaskUnmountDirectory(self, request, call):
        self._check_container(request)
        sandbox, path = self._sandbox(request.task_id), absolute(request.path)
        if path not in sandbox.mounts:
            raise Refuse(FAILED, f"nothing is mounted at {path!r}")
        await self._inside(sandbox, ["umount", "-l", path])
        del sandbox.mounts[path]
        return Empty()

    async def TaskReloadVolumes(self, request, call):
        """Volumes are the same directories everywhere, and never stale."""
        self._check_container(request)
        self._sandbox(request.task_id)
        return pb.TaskReloadVolumesResponse()

    async def _inside(self, sandbox, argv, stdin=None):
        done = await sandbox.command(argv, stdin)
        if done.code != 0:
            raise Refuse(FAILED, done.said.strip() or f"{argv[0]} failed")

    def _check_container(self, request):
        if request.container_id:
            raise Refuse(grpc.StatusCode.UNIMPLEMENTED, "the simulator has no sidecars")
