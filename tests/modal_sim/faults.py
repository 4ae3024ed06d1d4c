"""Faults on demand: rules, and the draw that decides which of them strike.

A rule names a kind of fault, a pattern of methods and a rate. Whether the
n-th call of a method is struck depends on the seed, the rule, the method and n
alone, so a run repeats itself however its calls interleave.
"""

import dataclasses
import fnmatch
import random

import grpc
from modal_proto import api_pb2

# Done by the servicers' dispatcher, which knows requests and answers.
CALL_KINDS = {"latency", "late", "status", "throttle", "hang", "kill_sandbox", "answer"}
# Go along with the answer, also with a refusal.
TRAILER_KINDS = {"warning"}
# Done by single methods, which ask for them by name.
ANSWER_KINDS = {"not_yet", "task_result"}
# Done by the proxy, which sees frames and connections.
WIRE_KINDS = {"reset", "goaway", "no_trailers", "cut", "garble", "twice", "stall", "flood"}
CUT_WAYS = {"reset", "rst_stream", "no_trailers"}


def generic_status(named):
    """The number of a GenericStatus, by number or by name, with or without its prefix."""
    statuses = api_pb2.GenericResult.GenericStatus
    if named in statuses.values() and named:
        return named
    name = f"GENERIC_STATUS_{str(named).upper().removeprefix('GENERIC_STATUS_')}"
    if name not in statuses.keys():
        raise ValueError(f"{named!r} is no GenericStatus; there are {', '.join(statuses.keys())}")
    return statuses.Value(name)


@dataclasses.dataclass
class Rule:
    kind: str
    method: str = "*"          # a shell pattern on the method's short name
    rate: float = 1.0          # share of the calls that are struck
    when: str = "before"       # before the call is executed, or after, when only its answer is lost
    skip: int = 0              # the first calls of a method that are spared
    count: int = -1            # strikes left; -1 is no limit
    ms: float | list = 0       # latency, lateness, and the delay of kill_sandbox; [from, to] draws evenly
    code: str = "UNAVAILABLE"  # status
    message: str = "injected by the simulator"
    encoded: bool = False      # warning: the message is sent as it is
    status: str | int = "INTERNAL_FAILURE"  # kill_sandbox: how the sandbox ends, a GenericStatus by name or number
    exitcode: int = 137
    bytes: int = -1            # status and cut on a stream: after so many bytes of it
    how: str = "reset"         # cut: the way the stream ends
    messages: int = 0          # flood: so many that are empty
    retry_after_secs: float = 0.1  # throttle
    fields: dict = dataclasses.field(default_factory=dict)  # answer: what the reply's message says instead, as JSON
    seen: dict = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self):
        if self.kind not in CALL_KINDS | TRAILER_KINDS | ANSWER_KINDS | WIRE_KINDS:
            raise ValueError(f"no fault is called {self.kind!r}")
        if self.when not in ("before", "after"):
            raise ValueError(f"when is before or after, not {self.when!r}")
        if self.how not in CUT_WAYS:
            raise ValueError(f"how is one of {', '.join(sorted(CUT_WAYS))}, not {self.how!r}")
        if not hasattr(grpc.StatusCode, self.code) or self.code == "OK":
            raise ValueError(f"{self.code!r} is not a gRPC error")
        if self.kind == "cut" and self.bytes < 0:
            raise ValueError("cut needs bytes")
        generic_status(self.status)
        if not 0 <= self.rate <= 1:
            raise ValueError("rate is between 0 and 1")

    @property
    def grpc_code(self):
        return getattr(grpc.StatusCode, self.code)


class Plan:
    def __init__(self, records):
        self.records = records
        self.seed = 0
        self.rules = []

    def set(self, document):
        """Takes {"seed": n, "rules": [...]}; replaces what was set before, or changes nothing."""
        unknown = set(document) - {"seed", "rules"}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        fields = {f.name for f in dataclasses.fields(Rule)} - {"seen"}
        rules = []
        for i, values in enumerate(document.get("rules", [])):
            if set(values) - fields:
                raise ValueError(f"rule {i}: unknown: {', '.join(sorted(set(values) - fields))}")
            if "kind" not in values:
                raise ValueError(f"rule {i}: kind is missing")
            rules.append(Rule(**values))
        self.seed, self.rules = document.get("seed", 0), rules

    def draw(self, method, kinds):
        """The rules of these kinds that strike this call, in their order."""
        struck = []
        for i, rule in enumerate(self.rules):
            if rule.kind not in kinds or not fnmatch.fnmatchcase(method, rule.method):
                continue
            n = rule.seen[method] = rule.seen.get(method, 0) + 1
            if n <= rule.skip or rule.count == 0:
                continue
            dice = random.Random(f"{self.seed}/{i}/{method}/{n}")
            if dice.random() < rule.rate:
                rule.count -= rule.count > 0
                self.records.fault(rule, method)
                struck.append(rule)
        return struck

    def delay(self, rule):
        """Seconds of a rule's `ms`."""
        if isinstance(rule.ms, list):
            return random.uniform(*rule.ms) / 1000
        return rule.ms / 1000
