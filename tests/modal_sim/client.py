"""A plain grpcio client of the simulator, for the tests of the simulator itself.

It retries nothing, so that each test sees exactly what came over the wire.
"""

import uuid

import grpc
from modal_proto import api_pb2, api_pb2_grpc, task_command_router_pb2 as pb, task_command_router_pb2_grpc

STDOUT = pb.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT
STDERR = pb.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
V2_ONLY = {"SandboxGetCommandRouterAccess", "SandboxSetName"}
# gRPC would by itself send a request again that it knows was not processed,
# and share one connection between channels with the same options.
NO_RETRIES = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
              ("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


def is_v2(method):
    return method.endswith("V2") or method in V2_ONLY


def channel(sim, url):
    scheme, _, address = url.partition("://")
    if scheme == "http" or not sim.ca:
        return grpc.insecure_channel(address, NO_RETRIES)
    with open(sim.ca, "rb") as f:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(f.read()), NO_RETRIES)


class Client:
    def __init__(self, sim):
        self.sim = sim
        self._channel = channel(sim, sim.server_url)
        self.stub = api_pb2_grpc.ModalClientStub(self._channel)
        self.app_id = None
        self.image_id = None
        self.auth_token = None
        self.sandbox_tokens = {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._channel.close()

    def call(self, method, request, timeout=20, key=None, **headers):
        """Headers that are None are not sent."""
        metadata = {"x-modal-client-type": "9", "x-modal-client-version": "1.0.0",
                    "x-modal-token-id": self.sim.token_id, "x-modal-token-secret": self.sim.token_secret,
                    "x-idempotency-key": key or str(uuid.uuid4())}
        if is_v2(method):
            metadata["x-modal-auth-token"] = self.auth()
            metadata["x-modal-sandbox-token"] = self.sandbox_tokens.get(getattr(request, "sandbox_id", None))
        metadata.update({k.replace("_", "-"): v for k, v in headers.items()})
        metadata = {k: v for k, v in metadata.items() if v is not None}
        return getattr(self.stub, method)(request, timeout=timeout, metadata=list(metadata.items()))

    def auth(self):
        if self.auth_token is None:
            self.auth_token = self.call("AuthTokenGet", api_pb2.AuthTokenGetRequest()).token
        return self.auth_token

    def app(self):
        if self.app_id is None:
            self.app_id = self.call("AppGetOrCreate", api_pb2.AppGetOrCreateRequest(
                app_name="test", object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING)).app_id
        return self.app_id

    def image(self, *commands):
        """The image of these commands; its log lines are in self.log."""
        request = api_pb2.ImageGetOrCreateRequest(
            app_id=self.app(), image=api_pb2.Image(dockerfile_commands=commands or ["FROM debian:bookworm"]),
            builder_version="2025.06")
        response = self.call("ImageGetOrCreate", request)
        self.log, result = [], response.result
        if not result.status:
            for part in self.call("ImageJoinStreaming", api_pb2.ImageJoinStreamingRequest(
                    image_id=response.image_id, timeout=20)):
                self.log += [entry.data for entry in part.task_logs]
                result = part.result
        assert result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, result.exception
        return response.image_id

    def create_request(self, tags=None, **definition):
        if self.image_id is None:
            self.image_id = self.image()
        return api_pb2.SandboxCreateRequest(
            app_id=self.app(), definition=api_pb2.Sandbox(image_id=self.image_id, **definition),
            tags=[api_pb2.SandboxTag(tag_name=k, tag_value=v) for k, v in (tags or {}).items()])

    def create(self, tags=None, **definition):
        sandbox_id = self.call("SandboxCreate", self.create_request(tags, **definition)).sandbox_id
        return Box(self, sandbox_id)

    def create_request_v2(self, tags=None, secret_sources=(), **definition):
        first = self.create_request(tags, **definition)
        return api_pb2.SandboxCreateV2Request(
            app_id=first.app_id, definition=first.definition, tags=first.tags, secret_sources=secret_sources)

    def create_v2(self, *arguments, **definition):
        answer = self.call("SandboxCreateV2", self.create_request_v2(*arguments, **definition))
        self.sandbox_tokens[answer.sandbox_id] = answer.sandbox_token
        return BoxV2(self, answer)


class Box:
    """A sandbox that is ready, and its connection to the router."""

    def __init__(self, client, sandbox_id):
        self.client = client
        self.id = sandbox_id
        self.task_id = client.call("SandboxGetTaskId", api_pb2.SandboxGetTaskIdRequest(sandbox_id=sandbox_id)).task_id
        self._channel = None
        self.connect()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._channel.close()

    def access(self):
        return self.client.call("TaskGetCommandRouterAccess",
                                api_pb2.TaskGetCommandRouterAccessRequest(task_id=self.task_id))

    def connect(self, access=None):
        access = access or self.access()
        if self._channel:
            self._channel.close()
        self.url, self.jwt = access.url, access.jwt
        self._channel = channel(self.client.sim, access.url)
        self.stub = task_command_router_pb2_grpc.TaskCommandRouterStub(self._channel)

    def until_connected(self):
        """After a lost connection calls fail at once until gRPC has a new one."""
        grpc.channel_ready_future(self._channel).result(timeout=20)

    def call(self, method, timeout=20, jwt=None, **fields):
        request = getattr(pb, method + "Request")(task_id=self.task_id, **fields)
        return getattr(self.stub, method)(
            request, timeout=timeout, metadata=[("authorization", f"Bearer {jwt or self.jwt}")])

    def start(self, *argv, exec_id=None, **fields):
        exec_id = exec_id or str(uuid.uuid4())
        self.call("TaskExecStart", exec_id=exec_id, command_args=argv, stdout_config=pb.TASK_EXEC_STDOUT_CONFIG_PIPE,
                  stderr_config=pb.TASK_EXEC_STDERR_CONFIG_PIPE, **fields)
        return exec_id

    def read(self, exec_id, fd=STDOUT, offset=0, timeout=20):
        stream = self.call("TaskExecStdioRead", timeout=timeout, exec_id=exec_id, file_descriptor=fd, offset=offset)
        return b"".join(part.data for part in stream)

    def wait(self, exec_id, timeout=20):
        """The code, or minus the signal."""
        status = self.call("TaskExecWait", timeout=timeout, exec_id=exec_id)
        return status.code if status.WhichOneof("exit_status") == "code" else -status.signal

    def write(self, exec_id, offset, data, eof=False):
        self.call("TaskExecStdinWrite", exec_id=exec_id, offset=offset, data=data, eof=eof)

    def run(self, *argv, **fields):
        """(code, stdout, stderr)"""
        exec_id = self.start(*argv, **fields)
        return self.wait(exec_id), self.read(exec_id), self.read(exec_id, STDERR)


class BoxV2(Box):
    """One of the second kind: the answer of its create has all that is needed."""

    def __init__(self, client, answer):
        self.client = client
        self.id = answer.sandbox_id
        self.task_id = answer.task_id
        self.answer = answer
        self._channel = None
        self.connect(answer.command_router_access if answer.HasField("command_router_access") else None)

    def access(self):
        return self.client.call("SandboxGetCommandRouterAccess",
                                api_pb2.SandboxGetCommandRouterAccessRequest(sandbox_id=self.id))
