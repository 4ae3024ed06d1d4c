"""The records: what was asked, what was done, what is open. Tests compare theirs with these."""

import collections
import time

from modal_proto import api_pb2


class Call:
    """One RPC that has reached a servicer, from its start to its status."""

    def __init__(self, records, method, request, metadata):
        self.method = method
        self.metadata = metadata
        self.task_id = getattr(request, "task_id", "")
        self.sandbox_id = getattr(request, "sandbox_id", "") or records.sandbox_of_task.get(self.task_id, "")
        self.exec_id = getattr(request, "exec_id", "")
        self.began = time.time()


class Records:
    TRACE = 20000  # calls remembered one by one

    def __init__(self):
        self.open_calls = collections.Counter()                  # method -> calls in progress; survives clear()
        self.clear()

    def clear(self):
        counter = collections.Counter
        self.rpcs = counter()                                    # method -> calls that arrived
        self.statuses = collections.defaultdict(counter)         # method -> status -> answers sent
        self.by_sandbox = collections.defaultdict(counter)       # sandbox -> method -> calls
        self.by_exec = collections.defaultdict(counter)          # exec -> method -> calls
        self.unknown = counter()                                 # methods nobody serves
        self.faults = counter()                                  # "kind method" -> times done
        self.sandbox_tokens = counter()                          # "sent METHOD", "missing METHOD" -> V2 calls
        self.wire = counter()                                    # connections, bytes
        self.execs = {}                                          # exec_id -> facts
        self.created = 0
        self.ended = counter()                                   # result -> sandboxes
        self.live = {}
        self.most = collections.Counter()                        # the most at one time of what this counts
        self.sandbox_of_task = {}
        self.trace = collections.deque(maxlen=self.TRACE)

    def begin(self, method, request, metadata):
        call = Call(self, method, request, metadata)
        self.rpcs[method] += 1
        self.open_calls[method] += 1
        if call.sandbox_id:
            self.by_sandbox[call.sandbox_id][method] += 1
        if call.exec_id:
            self.by_exec[call.exec_id][method] += 1
        return call

    def end(self, call, status):
        self.open_calls[call.method] -= 1
        self.statuses[call.method][status] += 1
        self.trace.append({
            "method": call.method, "status": status, "at": round(call.began, 4),
            "ms": round((time.time() - call.began) * 1000, 1), "sandbox": call.sandbox_id, "exec": call.exec_id,
            "idempotency_key": call.metadata.get("x-idempotency-key", "")})

    def fault(self, rule, method):
        self.faults[f"{rule.kind} {method}"] += 1

    def sandbox_created(self, sandbox):
        self.created += 1
        self.adopt(sandbox)

    def adopt(self, sandbox):
        self.live[sandbox.id] = sandbox
        self.note("sandboxes", len(self.live))
        self.sandbox_of_task[sandbox.task_id] = sandbox.id

    def note(self, what, n):
        """So many there are now."""
        self.most[what] = max(self.most[what], n)

    def sandbox_ended(self, sandbox):
        self.live.pop(sandbox.id, None)
        name = api_pb2.GenericResult.GenericStatus.Name(sandbox.result.status)
        self.ended[name.removeprefix("GENERIC_STATUS_").lower()] += 1

    def exec_started(self, sandbox, exec_id):
        facts = self.execs.setdefault(exec_id, {"sandbox": sandbox.id, "starts": 0})
        facts["starts"] += 1

    def exec_ended(self, exec_id, process):
        if exec_id in self.execs:
            self.execs[exec_id].update(
                code=process.code, signal=process.signal,
                stdout=process.stdout.size if process.stdout else 0,
                stderr=process.stderr.size if process.stderr else 0)

    def stats(self):
        return {
            "rpcs": dict(self.rpcs),
            "statuses": {m: dict(c) for m, c in self.statuses.items()},
            "by_sandbox": {s: dict(c) for s, c in self.by_sandbox.items()},
            "by_exec": {e: dict(c) for e, c in self.by_exec.items()},
            "unknown_methods": dict(self.unknown),
            "faults": dict(self.faults),
            "sandbox_tokens": dict(self.sandbox_tokens),
            "wire": dict(self.wire),
            "sandboxes": {
                "created": self.created,
                "ended": dict(self.ended),
                "live": {s.id: {"task_id": s.task_id, "app_id": s.app_id, "tags": s.tags,
                                "created_at": s.created_at, "running": s.running} for s in self.live.values()},
            },
            "most": dict(self.most),
            "execs": self.execs,
            "open_calls": {m: n for m, n in self.open_calls.items() if n},
        }
