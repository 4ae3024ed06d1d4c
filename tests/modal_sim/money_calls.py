"""The control plane's calls about what sandboxes have used and cost.

A sandbox is billed from its creation to its end, by what was asked for: cores (0.125 at least) and
memory (0.125 GiB at least), at the prices of the settings.
"""

import collections
import time

from modal_proto import api_pb2

from . import settings

CORES_MIN = GIB_MIN = 0.125
SECONDS_ALL = (0.0, float("inf"))


def moment(message, name, otherwise):
    stamp = getattr(message, name)
    return stamp.seconds + stamp.nanos / 1e9 if message.HasField(name) else otherwise


class Use:
    """What one sandbox used in a stretch of time."""

    def __init__(self, sandbox, since, until):
        end = sandbox.finished_at or time.time()
        self.since, self.until = max(since, sandbox.created_at), min(until, end)
        self.seconds = max(0.0, self.until - self.since) if sandbox.started_at else 0.0
        resources = sandbox.definition.resources
        self.core_seconds = self.seconds * max(CORES_MIN, resources.milli_cpu / 1000)
        self.gib_seconds = self.seconds * max(GIB_MIN, resources.memory_mb / 1024)

    def costs(self):
        return {"cpu": self.core_seconds * settings.current.price_core_second,
                "memory": self.gib_seconds * settings.current.price_gib_second}


class MoneyCalls:
    async def SandboxGetStats(self, request, call):
        sandbox = self._sandbox(request, call)
        use = Use(sandbox, moment(request, "since", SECONDS_ALL[0]), moment(request, "until", SECONDS_ALL[1]))
        response = api_pb2.SandboxGetStatsResponse(
            cost=f"{sum(use.costs().values()):.8f}",
            cost_by_resource={k: f"{v:.8f}" for k, v in use.costs().items()}, duration_hours=use.seconds / 3600,
            billed_cpu_core_seconds=use.core_seconds, billed_memory_gib_seconds=use.gib_seconds)
        response.since.FromMicroseconds(int(use.since * 1e6))
        response.until.FromMicroseconds(int(max(use.since, use.until) * 1e6))
        return response

    async def SandboxGetTimeRangeStats(self, request, call):
        """Groups of those that have all of `tags`, by the values of `group_by_tags`; in pages."""
        since, until = moment(request, "since", SECONDS_ALL[0]), moment(request, "until", SECONDS_ALL[1])
        groups = collections.defaultdict(collections.Counter)
        for sandbox in self.world.sandboxes.values():
            if request.app_id in ("", sandbox.app_id) and dict(request.tags).items() <= sandbox.tags.items():
                key = tuple((tag, sandbox.tags.get(tag)) for tag in request.group_by_tags)
                groups[key].update(Use(sandbox, since, until).costs())
        response, first = api_pb2.SandboxGetTimeRangeStatsResponse(), int(request.page_token or 0)
        last = first + settings.current.list_page
        for key, costs in sorted(groups.items(), key=str)[first:last]:
            total = sum(costs.values())
            response.groups.add(
                # A tag that is not there has no value.
                tags={k: api_pb2.SandboxStatsGroup.TagValue(value=v) for k, v in key},
                cost=total, cost_by_resource=costs, cost_str=f"{total:.8f}",
                cost_by_resource_str={k: f"{v:.8f}" for k, v in costs.items()})
        if last < len(groups):
            response.next_page_token = str(last)
        return response

    async def SandboxGetResourceUsage(self, request, call):
        use = Use(self._sandbox(request, call), *SECONDS_ALL)
        return api_pb2.SandboxGetResourceUsageResponse(
            cpu_core_nanosecs=int(use.core_seconds * 1e9), mem_gib_nanosecs=int(use.gib_seconds * 1e9))

    SandboxGetStatsV2 = SandboxGetStats
