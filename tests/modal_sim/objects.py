"""What the control plane keeps besides sandboxes: environments, apps, images, secrets, volumes."""

import asyncio
import hashlib
import os
import re
import shlex
import time

import grpc
from modal_proto import api_pb2

from . import ids, settings
from .dispatch import Refuse

Result = api_pb2.GenericResult
LOOKUP = api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED
FAIL_IF_EXISTS = api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS
OVERWRITE = api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ANONYMOUS = (api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP, api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL)


class Image:
    """A build that takes a while and writes log lines. Every image runs on the host's /usr."""

    archive = None  # unlike a snapshot it has no files of its own

    def __init__(self, request, base):
        self.id = ids.make("im")
        self.commands = list(request.image.dockerfile_commands)
        self.env = dict(base.env) if base else {}
        self.workdir = base.workdir if base else "/"
        self._read_commands()
        self.result = None
        self.lines = []
        self._changed = asyncio.Event()

    @property
    def built(self):
        return self.result is not None and self.result.status == Result.GENERIC_STATUS_SUCCESS

    def expired(self):
        return False

    def delete(self):
        """Nothing of it is kept."""

    def _read_commands(self):
        """ENV and WORKDIR are what a sandbox can notice."""
        for command in self.commands:
            word, _, rest = command.strip().partition(" ")
            if word.upper() == "WORKDIR":
                self.workdir = os.path.join(self.workdir, rest.strip())
            elif word.upper() == "ENV":
                try:
                    pairs = shlex.split(rest)
                except ValueError:
                    continue
                self.env.update(pair.split("=", 1) for pair in pairs if "=" in pair)

    async def build(self):
        self.lines, self.result = [], None
        steps = [line for line in self.commands if line.strip()]
        for i, command in enumerate(steps):
            self._log(f"Step {i + 1}/{len(steps)}: {command}\n")
            await asyncio.sleep(settings.current.build_secs / max(1, len(steps)))
            if command.upper().startswith("FROM ") and command.split()[1].startswith("unknown/"):
                self._log(f"manifest for {command.split()[1]} not found\n")
                self._settle(Result(status=Result.GENERIC_STATUS_FAILURE,
                                    exception=f"manifest for {command.split()[1]} not found: manifest unknown"))
                return
            if command.upper().startswith("RUN EXIT "):
                self._log(f"sh: this is why '{command}' fails\n")
                self._settle(Result(status=Result.GENERIC_STATUS_FAILURE,
                                    exception=f"command {i + 1} ended with {command.split()[2]}"))
                return
        self._log("Built image " + self.id + "\n")
        self._settle(Result(status=Result.GENERIC_STATUS_SUCCESS))

    async def join(self, last_entry_id, timeout):
        """Log lines after the entry given, then the result; ends without it when time is up."""
        position = int(last_entry_id or 0)
        deadline = time.monotonic() + timeout
        while True:
            while position < len(self.lines):
                position += 1
                log = api_pb2.TaskLogs(data=self.lines[position - 1], timestamp=time.time(),
                                       file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT)
                yield api_pb2.ImageJoinStreamingResponse(task_logs=[log], entry_id=str(position))
            if self.result is not None:
                yield api_pb2.ImageJoinStreamingResponse(result=self.result, eof=True)
                return
            try:
                await asyncio.wait_for(self._changed.wait(), max(0, deadline - time.monotonic()))
            except (asyncio.TimeoutError, TimeoutError):
                return

    def _log(self, line):
        self.lines.append(line)
        self._wake()

    def _settle(self, result):
        self.result = result
        self._wake()

    def _wake(self):
        self._changed.set()
        self._changed = asyncio.Event()


class Objects:
    def __init__(self, directory):
        self.directory = directory
        self.clear()

    def clear(self):
        for image in getattr(self, "images", {}).values():
            image.delete()
        self.environments = {"main": ids.make("en")}
        self.names = {}    # (kind, environment, name) -> id
        self.apps = {}     # id -> name
        self.images = {}   # id -> Image
        self.secrets = {}  # id -> variables
        self.volumes = {}  # id -> directory
        self._image_ids = {}
        self._builds = set()

    def find(self, kind, object_id, word):
        found = getattr(self, kind).get(object_id)
        if found is None or kind == "images" and found.expired():
            raise Refuse(grpc.StatusCode.NOT_FOUND, f"there is no {word} {object_id!r}")
        return found

    def environment(self, name, creation):
        if name not in self.environments:
            if creation == LOOKUP:
                raise Refuse(grpc.StatusCode.NOT_FOUND, f"there is no environment {name!r}")
            self.environments[name] = ids.make("en")
        return self.environments[name]

    def _named(self, kind, prefix, name, environment, creation):
        """The id of a named object, and whether it was made just now."""
        self.environment(environment or "main", LOOKUP)
        if creation in ANONYMOUS:
            return ids.make(prefix), True
        key = (kind, environment or "main", name)
        if key in self.names:
            if creation == FAIL_IF_EXISTS:
                raise Refuse(grpc.StatusCode.ALREADY_EXISTS, f"the {kind} {name!r} exists already")
            return self.names[key], creation == OVERWRITE
        if creation == LOOKUP or not name:
            raise Refuse(grpc.StatusCode.NOT_FOUND, f"there is no {kind} {name!r} in environment {key[1]!r}")
        self.names[key] = ids.make(prefix)
        return self.names[key], True

    def app(self, name, environment, creation):
        app_id, fresh = self._named("app", "ap", name, environment, creation)
        if fresh:
            self.apps[app_id] = name
        return app_id

    def secret(self, request):
        secret_id, fresh = self._named("secret", "st", request.deployment_name, request.environment_name,
                                       request.object_creation_type)
        if fresh:
            self.secrets[secret_id] = dict(request.env_dict)
        missing = [k for k in request.required_keys if k not in self.secrets[secret_id]]
        if missing:
            raise Refuse(grpc.StatusCode.NOT_FOUND, f"the secret lacks the keys {', '.join(missing)}")
        return secret_id

    def secret_env(self, secret_ids):
        env = {}
        for secret_id in secret_ids:
            env.update(self.find("secrets", secret_id, "secret"))
        return env

    def source_env(self, sources):
        """The variables of SecretSources; of two with one name the last holds."""
        env = {}
        for source in sources:
            if source.WhichOneof("source") == "secret_id":
                env.update(self.find("secrets", source.secret_id, "secret"))
                continue
            for name in source.env.contents:
                if not VARIABLE.fullmatch(name):
                    raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, f"{name!r} is invalid for environment variables")
            env.update(source.env.contents)
        return env

    def volume(self, request):
        volume_id, fresh = self._named("volume", "vo", request.deployment_name, request.environment_name,
                                       request.object_creation_type)
        if fresh and volume_id not in self.volumes:
            self.volumes[volume_id] = os.path.join(self.directory, volume_id)
            os.mkdir(self.volumes[volume_id], 0o755)
        return volume_id

    def mounts(self, volume_mounts):
        return [(m.mount_path, self._below(self.find("volumes", m.volume_id, "volume"), m.sub_path), m.read_only)
                for m in volume_mounts]

    def _below(self, directory, sub_path):
        parts = [part for part in sub_path.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, f"sub_path leads out of the volume: {sub_path!r}")
        path = os.path.join(directory, *parts)
        os.makedirs(path, exist_ok=True)
        return path

    def building(self):
        """How many images are being built."""
        return len(self._builds)

    def delete_image(self, image_id):
        self.find("images", image_id, "image").delete()
        del self.images[image_id]

    def image(self, request):
        """The image of these commands, built once; a failed build is tried again."""
        commands = request.image.dockerfile_commands
        if not request.builder_version:
            raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, "builder_version is missing")
        if not commands or not commands[0].upper().startswith("FROM "):
            raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, "dockerfile_commands must begin with FROM")
        self.find("apps", request.app_id, "app")
        base = None
        for part in request.image.base_images:
            base = self.find("images", part.image_id, "image")
        definition = request.image.SerializeToString(deterministic=True) + request.builder_version.encode()
        key = hashlib.sha256(definition).digest()
        image = self.images.get(self._image_ids.get(key))
        if image is None or request.force_build:
            image = Image(request, base)
            self.images[image.id] = image
            self._image_ids[key] = image.id
        elif image.result is None or image.built:
            return image
        build = asyncio.ensure_future(image.build())
        self._builds.add(build)
        build.add_done_callback(self._builds.discard)
        image.result = None
        return image
