"""Between gRPC and the two servicers: counts every call, checks its credentials and does the faults.

A servicer is an object whose methods are called like the RPCs. Which messages
an RPC takes and gives comes from Modal's own service descriptors, so a method
can neither be misspelt nor have the wrong messages.
"""

import asyncio
import urllib.parse

import grpc
from google.protobuf import json_format, message_factory
from modal_proto import api_pb2

from .faults import CALL_KINDS, TRAILER_KINDS, generic_status

OK = "OK"
# These only look on, so they end with the client that asked.
LONG_POLLS = {"TaskExecWait", "SandboxWait", "SandboxWaitV2", "SandboxGetTaskId", "SandboxGetTaskIdV2"}


class Refuse(Exception):
    """Ends a call with a status and a sentence."""

    def __init__(self, code, sentence):
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def retry_policy(seconds, sentence):
    """The trailer by which Modal tells a client to come back later."""
    policy = api_pb2.RPCRetryPolicy(retry_after_secs=seconds)
    status = api_pb2.RPCStatus(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=sentence)
    detail = status.details.add()
    detail.type_url = "type.googleapis.com/modal.client.RPCRetryPolicy"
    detail.value = policy.SerializeToString()
    return (("grpc-status-details-bin", status.SerializeToString()),)


class Dispatcher(grpc.GenericRpcHandler):
    def __init__(self, descriptor, servicer, records, plan, world, log):
        self.servicer = servicer
        self.records = records
        self.plan = plan
        self.world = world
        self.log = log
        self._prefix = f"/{descriptor.full_name}/"
        self._handlers = {}
        for method in descriptor.methods:
            if hasattr(servicer, method.name):
                self._handlers[method.name] = self._handler(method)

    def service(self, details):
        prefix, name = details.method[:len(self._prefix)], details.method[len(self._prefix):]
        if prefix == self._prefix and name in self._handlers:
            return self._handlers[name]
        self.records.unknown[details.method] += 1
        self.log.warning("no such method here: %s", details.method)

        async def refuse(request, context):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the simulator does not have {details.method}")
        return grpc.unary_unary_rpc_method_handler(refuse)

    def _handler(self, method):
        take = message_factory.GetMessageClass(method.input_type).FromString
        give = message_factory.GetMessageClass(method.output_type).SerializeToString
        run = getattr(self.servicer, method.name)
        if method.server_streaming:
            async def stream(request, context):
                async for message in self._stream(method.name, run, request, context):
                    yield message
            return grpc.unary_stream_rpc_method_handler(stream, take, give)

        async def unary(request, context):
            return await self._unary(method.name, run, request, context)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(unary, take, give)
        return grpc.unary_unary_rpc_method_handler(unary, take, give)

    async def _unary(self, name, run, request, context):
        call = self.records.begin(name, request, dict(context.invocation_metadata() or ()))
        call.context = context
        status = "CANCELLED"
        warnings = self._warnings(call)
        context.set_trailing_metadata(warnings)
        try:
            after = await self._before(call, request)
            work = asyncio.ensure_future(self._work(run, request, call, after))
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may outlive who awaits it
            # Shielded: a client that goes away does not undo what it asked for.
            response = await (work if name in LONG_POLLS else asyncio.shield(work))
            await self._after(call, after)
            status = OK
            return self._forged(response, after)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise
            # Not this call was cancelled but its work, by a newer call that takes its place.
            await context.abort(grpc.StatusCode.CANCELLED, "superseded by a newer call", warnings)
        except Refuse as e:
            status = e.code.name
            await context.abort(e.code, e.sentence, (*getattr(e, "trailers", ()), *warnings))
        finally:
            self.records.end(call, status)

    def _warnings(self, call):
        return tuple(("x-modal-warning", rule.message if rule.encoded else urllib.parse.quote(rule.message))
                     for rule in self.plan.draw(call.method, TRAILER_KINDS))

    async def _work(self, run, request, call, rules):
        for rule in rules:
            if rule.kind == "late":
                await asyncio.sleep(self.plan.delay(rule))
        return await run(request, call)

    async def _stream(self, name, run, request, context):
        call = self.records.begin(name, request, dict(context.invocation_metadata() or ()))
        call.context = context
        status = "CANCELLED"
        warnings = self._warnings(call)
        context.set_trailing_metadata(warnings)
        try:
            after = await self._before(call, request)
            cut = next((r for r in after if r.kind == "status" and r.bytes >= 0), None)
            sent = 0
            async for message in run(request, call):
                yield self._forged(message, after)
                sent += len(getattr(message, "data", b""))
                if cut and sent >= cut.bytes:
                    raise Refuse(cut.grpc_code, cut.message)
            await self._after(call, after)
            status = OK
        except Refuse as e:
            status = e.code.name
            await context.abort(e.code, e.sentence, (*getattr(e, "trailers", ()), *warnings))
        finally:
            self.records.end(call, status)

    async def _before(self, call, request):
        """Credentials, then the faults that come first; returns those that come later."""
        self.servicer.authorize(request, call)
        later = []
        for rule in self.plan.draw(call.method, CALL_KINDS):
            if rule.kind == "status" and rule.bytes >= 0 or rule.when == "after" or rule.kind in ("late", "answer"):
                later.append(rule)
            else:
                await self._strike(call, rule)
        return later

    def _forged(self, message, rules):
        """What was to be answered, with the fields that a rule names: single ones replaced, repeated ones added to."""
        for rule in rules:
            if rule.kind == "answer":
                message = json_format.ParseDict(rule.fields, type(message).FromString(message.SerializeToString()))
        return message

    async def _after(self, call, rules):
        for rule in rules:
            if rule.bytes < 0:
                await self._strike(call, rule)

    async def _strike(self, call, rule):
        if rule.kind == "latency":
            await asyncio.sleep(self.plan.delay(rule))
        elif rule.kind == "hang":
            await asyncio.Event().wait()
        elif rule.kind == "status":
            raise Refuse(rule.grpc_code, rule.message)
        elif rule.kind == "throttle":
            refusal = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, rule.message)
            refusal.trailers = retry_policy(rule.retry_after_secs, rule.message)
            raise refusal
        elif rule.kind == "kill_sandbox":
            sandbox = self.world.sandboxes.get(call.sandbox_id)
            if sandbox:
                asyncio.get_running_loop().call_later(
                    self.plan.delay(rule), die, sandbox, rule.status, rule.exitcode)


def die(sandbox, status="INTERNAL_FAILURE", exitcode=137, exception="the sandbox died"):
    """What an accident looks like from outside."""
    sandbox.finish(generic_status(status), exitcode, exception)
