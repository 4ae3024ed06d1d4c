# SPDX-License-Identifier: MIT
"""What modalpool wants to reach, each a ratio of one run. A target is met or missed, never bent."""

from spread import text

SDKS = ("go", "js", "python", "python, asyncio")


def at_most(limit, value):
    return value <= limit


def at_least(limit, value):
    return value >= limit


def of_acquire(found):
    yield "a warm acquire calls nobody", at_most, 0, found["calls"]
    for cores in ("one core", "any core"):
        yield f"mkdir beside an empty FUSE mkdir, {cores}", at_most, 3, found[cores]["mkdir_to_empty"]


def of_jobs(found):
    yield "calls to the router for a job", at_most, 1, sum(found["calls"]["modalpool"].values())
    for what in ("true", "1 KiB"):
        here = found[what]
        yield f"a job ({what}) beside the floor", at_most, 1, here["floor"]["modalpool_time"]
        yield f"a job ({what}) beside the Python SDK", at_most, 1 / 3, here["python"]["modalpool_time"]
        best = max((here[sdk]["modalpool_cpu"] for sdk in SDKS), key=lambda s: s["median"])
        yield f"a job's ({what}) processor time beside the thriftiest SDK", at_most, 1, best


def of_delay(found):
    trips = found["50 ms"]["modalpool"]["round_trips"]
    yield "round trips of a job at 50 ms", at_most, 1.1, trips


def of_exec_delay(found):
    best = max((found[sdk]["modalpool_time"] for sdk in SDKS), key=lambda s: s["median"])
    yield "a job where a start takes 0.2 s, beside the fastest SDK", at_most, 1 / 4, best


def of_scale(found):
    if "1000" in found:
        yield "jobs a second in 1,000 leases at once beside the Go SDK", at_least, 1, found["1000"]["go"]["modalpool_rate"]


def of_environments(found):
    idle = found["idle"]
    yield f"streams that {idle['n']:,} idle environments have open", at_most, 0, idle["open_streams"]
    if idle["n"] == 10000:
        yield "MiB of 10,000 idle environments", at_most, 60, idle["resident_mib"]


def of_throughput(found):
    yield "the longest turn of the loop meanwhile, in seconds", at_most, 0.2, found["longest_turn_us"] / 1e6
    yield "output to a C reader beside the floor", at_least, 0.9, found["modalpool"]["to_floor"]
    yield "output to cat beside the floor", at_least, 0.9, found["modalpool, cat"]["to_floor"]


def of_idle(found):
    if "10000" not in found:
        return
    here = found["10000"]
    for name, costs in here["operations"].items():
        yield f"{name} with 10,000 leases beside 10", at_most, 1.2, costs["time_growth"]
        yield f"{name}'s processor time with 10,000 leases beside 10", at_most, 1.2, costs["cpu_growth"]
    yield "MiB of 10,000 idle leases", at_most, 100, here["resident_mib"]


def of_local(found):
    yield "a local job beside posix_spawn", at_most, 1.25, found["ratio"]["median"]


TARGETS = {"acquire": of_acquire, "jobs": of_jobs, "delay": of_delay, "exec-delay": of_exec_delay, "throughput": of_throughput,
           "scale": of_scale, "idle": of_idle, "environments": of_environments, "local": of_local}


def check(found):
    """Print each target that was measured, and give them as a list."""
    results = []
    for part, targets in TARGETS.items():
        if part not in found:
            continue
        for name, holds, limit, value in targets(found[part]):
            median = value["median"] if isinstance(value, dict) else value
            shown = text(value) if isinstance(value, dict) else f"{value:g}" if value == int(value) else f"{value:.2f}"
            reached = holds(limit, median)
            bound = f"{'at most' if holds is at_most else 'at least'} {limit:.3g}"
            results.append({"name": name, "bound": bound, "value": value, "reached": reached})
            print(f"{'reached    ' if reached else 'NOT reached'}  {name}: {shown}, {bound}", flush=True)
    return results
