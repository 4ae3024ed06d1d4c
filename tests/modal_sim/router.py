"""The worker's side: modal.task_command_router.TaskCommandRouter."""

import asyncio

import grpc
from modal_proto import api_pb2, task_command_router_pb2 as pb

from . import checks, settings
from .dispatch import Refuse
from .launcher import LaunchError
from .process import OffsetGap, Process, StdinClosed
from .snapshot_calls import SnapshotCalls
from .tokens import BadToken
from .waiting import wait_for

ARGV_MAX = 65536          # bytes in all arguments together
MESSAGE_MAX = 4 << 20     # one request; gRPC's own limit refuses more
WAIT_MAX = 300.0          # one TaskExecWait, when the client set no deadline
WAIT_MARGIN = 0.05        # answered so long before the client's own deadline

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Exec:
    def __init__(self, sandbox, process):
        self.sandbox = sandbox
        self.process = process
        self.starting = None    # the one start; later requests for the same exec_id wait for it
        self.upload = None      # the task of the stdin stream that is open


class Router(SnapshotCalls):
    def __init__(self, world, objects, records, tokens):
        self.world = world
        self.objects = objects
        self.records = records
        self.tokens = tokens
        self.snapshots = {}     # (task, snapshot_id) -> future of the image: what is asked for twice is done once
        self.awaited = {}       # exec_id -> event, for those who came before its start
        self.cut_before = 0     # streams begun before this moment are to end: their token was revoked

    def authorize(self, request, call):
        # A stdin stream names its task only in its first message; the method checks it.
        if call.method.endswith("V2") and not settings.current.v2:
            raise Refuse(grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {call.method}")
        if hasattr(request, "task_id"):
            self._authorize_task(request.task_id, call)

    def _authorize_task(self, task_id, call):
        scheme, _, token = call.metadata.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise Refuse(UNAUTHENTICATED, "the header authorization: Bearer is missing")
        try:
            self.tokens.check(token, "router", task_id)
        except BadToken as e:
            raise Refuse(UNAUTHENTICATED, str(e)) from e

    def _sandbox(self, task_id):
        sandbox = self.world.tasks.get(task_id)
        if sandbox is None or not sandbox.running:
            raise Refuse(NOT_FOUND, f"task {task_id!r} is not running here")
        return sandbox

    async def _ready_sandbox(self, task_id):
        """A sandbox of the second kind gives out its task id before it is up."""
        sandbox = self.world.tasks.get(task_id)
        if sandbox is not None:
            await sandbox.ready.wait()
        return self._sandbox(task_id)

    def _exec(self, request):
        entry = self._sandbox(request.task_id).execs.get(request.exec_id)
        if entry is None:
            raise Refuse(NOT_FOUND, f"there is no exec {request.exec_id!r}")
        return entry

    def _patience(self, call):
        """How long its answer may be held back."""
        left = call.context.time_remaining()
        return WAIT_MAX if left is None else max(0, min(WAIT_MAX, left - WAIT_MARGIN))

    async def _awaited_exec(self, request, call):
        """The exec, when it is there or comes; None when what is not there is to look as if it were over."""
        sandbox = self._sandbox(request.task_id)
        if request.exec_id not in sandbox.execs and settings.current.unknown_exec == "end":
            return None
        if request.exec_id not in sandbox.execs and settings.current.unknown_exec == "hold":
            came = self.awaited.setdefault(request.exec_id, asyncio.Event())
            try:
                await asyncio.wait_for(came.wait(), self._patience(call))
            except TimeoutError:
                self.awaited.pop(request.exec_id, None)
                raise Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "it has not been started") from None
        return self._exec(request)

    # Start

    async def TaskExecStart(self, request, call):
        sandbox = await self._ready_sandbox(request.task_id)
        self._check_start(request)
        entry = sandbox.execs.get(request.exec_id)
        if entry is None:
            env = self._env(sandbox, request)
            # No await between the look and the entry: whoever comes second finds it.
            entry = sandbox.execs[request.exec_id] = self._new_exec(sandbox, request)
            entry.starting = asyncio.ensure_future(self._start(entry, request, env))
            if request.exec_id in self.awaited:
                self.awaited.pop(request.exec_id).set()
        await entry.starting
        return pb.TaskExecStartResponse()

    def _check_start(self, request):
        if not request.exec_id:
            raise Refuse(INVALID, "exec_id is missing")
        if not request.command_args:
            raise Refuse(INVALID, "command_args is empty")
        size = sum(len(arg.encode()) for arg in request.command_args)
        if size > ARGV_MAX:
            raise Refuse(INVALID, f"command_args has {size} bytes; the most is {ARGV_MAX}")
        if any("\0" in text for text in (*request.command_args, *request.env, *request.env.values(), request.workdir)):
            raise Refuse(INVALID, "a string of the request contains a NUL")
        if any(not name or "=" in name for name in request.env):
            raise Refuse(INVALID, "env has a name that is empty or contains =")
        if request.stderr_config == pb.TASK_EXEC_STDERR_CONFIG_STDOUT:
            raise Refuse(INVALID, "stderr_config STDOUT is not supported")
        if request.container_id:
            raise Refuse(grpc.StatusCode.UNIMPLEMENTED, "the simulator has no sidecars")

    def _new_exec(self, sandbox, request):
        # The key becomes a file name, so it is ours and not the client's.
        process = Process(
            f"exec-{sandbox.id}-{len(sandbox.execs)}", sandbox.directory,
            keep_stdout=request.stdout_config == pb.TASK_EXEC_STDOUT_CONFIG_PIPE,
            keep_stderr=request.stderr_config == pb.TASK_EXEC_STDERR_CONFIG_PIPE)
        return Exec(sandbox, process)

    def _env(self, sandbox, request):
        pty = request.pty_info
        terminal = {"TERM": pty.env_term, "COLORTERM": pty.env_colorterm, "TERM_PROGRAM": pty.env_term_program}
        return {**sandbox.env, **{k: v for k, v in terminal.items() if pty.enabled and v}, **self.objects.secret_env(request.secret_ids),
                **self.objects.source_env(request.secret_sources), **request.env}

    async def _start(self, entry, request, env):
        sandbox, process = entry.sandbox, entry.process
        sandbox.touch()
        pty = request.pty_info
        command = dict(argv=list(request.command_args), env=env, cwd=request.workdir or sandbox.workdir)
        await asyncio.sleep(settings.current.exec_delay_secs)
        try:
            await sandbox.container.exec(
                process, terminal=(pty.winsz_rows, pty.winsz_cols) if pty.enabled else None, **command)
        except LaunchError as e:
            if e.step == "sandbox":
                raise Refuse(NOT_FOUND, f"task {request.task_id!r} is not running here") from e
            what = request.workdir if e.step == "chdir" else request.command_args[0]
            process.fail(126 if e.step == "chdir" else 127, f"{what}: {e}")
            return
        self.records.exec_started(sandbox, request.exec_id)
        asyncio.ensure_future(self._follow(request.exec_id, entry))
        if request.timeout_secs and not process.ended.is_set():
            process.limit_time(request.timeout_secs)

    async def _follow(self, exec_id, entry):
        await entry.process.ended.wait()
        self.records.exec_ended(exec_id, entry.process)
        entry.sandbox.touch()

    # Output

    async def TaskExecStdioRead(self, request, call):
        entry = await self._awaited_exec(request, call)
        if entry is None:
            return
        stdout = request.file_descriptor == pb.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT
        spool = entry.process.stdout if stdout else entry.process.stderr
        async for data in self._read(spool, request, call, entry.sandbox):
            yield pb.TaskExecStdioReadResponse(data=data)

    async def SandboxStdioReadV2(self, request, call):
        sandbox = self.world.tasks.get(request.task_id)
        if sandbox is not None:
            await sandbox.ready.wait()
        if sandbox is None or sandbox.main is None:
            raise Refuse(NOT_FOUND, f"task {request.task_id!r} is not here")
        stdout = request.file_descriptor == pb.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT
        spool = sandbox.main.stdout if stdout else sandbox.main.stderr
        offset = request.offset
        # The entrypoint's output can be read after the end, unlike that of execs.
        async for data in self._read(spool, request, call, None):
            yield pb.SandboxStdioReadV2Response(data=data, starting_offset=offset)
            offset += len(data)

    async def _read(self, spool, request, call, sandbox):
        if spool is None:
            return  # sent to /dev/null
        if request.offset > spool.size and spool.ended:
            raise Refuse(grpc.StatusCode.OUT_OF_RANGE, f"offset {request.offset} is past the {spool.size} bytes there are")

        def stop():
            if call.began < self.cut_before:
                raise Refuse(UNAUTHENTICATED, "the token has expired")
            if sandbox is not None and sandbox.result is not None:
                raise Refuse(NOT_FOUND, f"task {request.task_id!r} is not running here")
        async for data in spool.read(request.offset, settings.current.chunk, stop):
            yield data

    # End

    async def TaskExecPoll(self, request, call):
        return pb.TaskExecPollResponse(**self._status(self._exec(request).process))

    async def TaskExecWait(self, request, call):
        entry = await self._awaited_exec(request, call)
        if entry is None:
            return pb.TaskExecWaitResponse()
        waits = [asyncio.ensure_future(event.wait()) for event in (entry.process.ended, entry.sandbox.finished)]
        try:
            await asyncio.wait(waits, timeout=self._patience(call), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not entry.process.ended.is_set():
            self._sandbox(request.task_id)
            raise Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "the process still runs")
        return pb.TaskExecWaitResponse(**self._status(entry.process))

    def _status(self, process):
        if not process.ended.is_set():
            return {}
        return {"code": process.code} if process.signal is None else {"signal": process.signal}

    # Input

    async def TaskExecStdinWrite(self, request, call):
        entry = self._exec(request)
        await self._write(entry.sandbox, entry.process.stdin, request.offset, request.data, request.eof)
        return pb.TaskExecStdinWriteResponse()

    async def SandboxStdinWriteV2(self, request, call):
        sandbox = await self._ready_sandbox(request.task_id)
        await self._write(sandbox, sandbox.main.stdin, request.offset, request.data, request.eof)
        return pb.SandboxStdinWriteV2Response()

    async def _write(self, sandbox, stdin, offset, data, eof):
        sandbox.touch()
        try:
            await stdin.write(offset, data, eof)
        except OffsetGap as e:
            raise Refuse(grpc.StatusCode.OUT_OF_RANGE, str(e)) from e
        except StdinClosed as e:
            raise Refuse(grpc.StatusCode.FAILED_PRECONDITION, str(e)) from e

    async def TaskExecStdinStatus(self, request, call):
        entry = self._exec(request)
        if entry.upload:
            entry.upload.cancel()  # only one writer at a time; the newest is right
        stdin = entry.process.stdin
        return pb.TaskExecStdinStatusResponse(num_bytes_written=stdin.accepted, closed=stdin.closed)

    async def TaskExecStdinWriteStream(self, requests, call):
        """Only its `end` closes stdin; a stream that breaks leaves it open, for another to go on."""
        entry = None
        async for message in requests:
            kind = message.WhichOneof("payload")
            if entry is None:
                if kind != "start":
                    raise Refuse(INVALID, "the first message of a stdin stream must be start")
                self._authorize_task(message.start.task_id, call)
                entry = self._exec(message.start)
                entry.upload = asyncio.current_task()
                offset = message.start.offset
                if offset > entry.process.stdin.accepted:
                    raise Refuse(grpc.StatusCode.FAILED_PRECONDITION,
                                 f"stdin offset {offset} is past the {entry.process.stdin.accepted} bytes accepted so far")
            elif kind == "data":
                await self._write(entry.sandbox, entry.process.stdin, offset, message.data, False)
                offset += len(message.data)
            elif kind == "end":
                await self._write(entry.sandbox, entry.process.stdin, offset, b"", True)
                entry.upload = None
        return pb.TaskExecStdinWriteStreamResponse()

    # The sandbox as a whole

    async def SandboxWaitUntilReady(self, request, call):
        sandbox = await self._ready_sandbox(request.task_id)
        if not await wait_for(sandbox.probed, min(request.timeout or WAIT_MAX, self._patience(call))):
            raise Refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "the readiness probe has not succeeded yet")
        return pb.SandboxWaitUntilReadyTcrResponse(ready_at=self._sandbox(request.task_id).probed_at)

    async def TaskSetNetworkAccess(self, request, call):
        sandbox = self._sandbox(request.task_id)
        if request.network_access.network_access_type != api_pb2.NetworkAccess.ALLOWLIST:
            raise Refuse(INVALID, "network_access must be an ALLOWLIST")
        checks.network_access(request.network_access)
        sandbox.outbound = request.network_access
        return pb.TaskSetNetworkAccessResponse()
