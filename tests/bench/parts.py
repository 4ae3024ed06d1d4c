# SPDX-License-Identifier: MIT
"""What is measured. Each part takes a workshop and whether to be quick, and gives a document for results.json."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from peers import Daemon, cpu_ns, keep_to, resident, wakeups
from spread import percentile, ratio, spread

ONE_KIB = (1024, "head -c 1024 /dev/zero")
GIB = 1 << 30
MIB = 1 << 20
SDKS = ("go", "js", "python", "python, asyncio")


def say(text):
    print(text, file=sys.stderr, flush=True)


def wait_until(what, holds, secs=300):
    deadline = time.monotonic() + secs
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {secs} s: {what}")
        time.sleep(0.05)


def rounds(n, peers, work):
    """{name: [result of each round]}: all take their turn in each round, another one first each time."""
    results = {name: [] for name in peers}
    names = list(peers)
    for i in range(n):
        for name in names[i % len(names):] + names[:i % len(names)]:
            results[name].append(work(peers[name], name))
    return results


def medians(answers):
    return [statistics.median(a["ns"]) for a in answers]


def job_summary(results, per_round):
    """Times and processor times of jobs, and modalpool's ratio to each other one."""
    mine = results["modalpool"]
    found = {}
    for name, answers in results.items():
        every = [ns for a in answers for ns in a["ns"]]
        found[name] = {
            "p50_us": percentile(every, 50) / 1e3, "p99_us": percentile(every, 99) / 1e3, "jobs": len(every),
            "cpu_us": spread([a["cpu_ns"] / per_round[name] / 1e3 for a in answers]),
            "modalpool_time": ratio(medians(mine), medians(answers)),
            "modalpool_cpu": ratio([a["cpu_ns"] / per_round["modalpool"] for a in mine],
                                   [a["cpu_ns"] / per_round[name] for a in answers]),
        }
    return found


def acquire(shop, quick):
    """From the request to the moment a job may start."""
    peers = {"modalpool": shop.peer("modalpool"), "empty": shop.empty(), "python": shop.peer("python")}
    mount, empty, pool = peers.values()
    for one in (mount, empty):
        one.ask("mkdir", 300)
    mount.ask("acquire", 300)
    pool.ask("acquire", 3)
    before = shop.standin.counters()[0]
    # On one core, and as the scheduler likes: to wake up another core that sleeps can take longer than all the work.
    cores = os.sched_getaffinity(0)
    made = {}
    for name, where in (("one core", {min(cores)}), ("any core", cores)):
        keep_to(where, (*mount.pids, *empty.pids))
        made[name] = [(mount.ask("mkdir", 300), empty.ask("mkdir", 300), mount.ask("acquire", 300))
                      for _ in range(4 if quick else 25)]
    after = shop.standin.counters()[0]
    pooled = medians([pool.ask("acquire", 2 if quick else 10) for _ in made["one core"]])
    shop.drop(*peers.values())
    found = {"python_pool_us": spread([v / 1e3 for v in pooled]), "calls": sum(after.values()) - sum(before.values())}
    for name, rows in made.items():
        mkdir, bare, acquired = (medians(column) for column in zip(*rows))
        found[name] = {
            "modalpool_mkdir_us": spread([v / 1e3 for v in mkdir]), "empty_mkdir_us": spread([v / 1e3 for v in bare]),
            "modalpool_mkdir_and_environment_us": spread([v / 1e3 for v in acquired]),
            "mkdir_to_empty": ratio(mkdir, bare), "mkdir_and_environment_to_empty": ratio(acquired, bare),
            "mkdir_to_python_pool": ratio(mkdir, pooled),
        }
    return found


def jobs(shop, quick):
    """A job's round trip, one after another, without delay."""
    peers = {name: shop.peer(name) for name in ("modalpool", "floor", *SDKS)}
    found = {}
    for what, (size, command) in {"true": (0, "true"), "1 KiB": ONE_KIB}.items():
        n = {name: 20 if name.startswith(("python", "js")) else 60 for name in peers}
        for name, peer in peers.items():
            peer.ask("jobs", 10, 1, size, command)
        results = rounds(2 if quick else 20, peers, lambda peer, name: peer.ask("jobs", n[name], 1, size, command))
        found[what] = job_summary(results, n)
    server = shop.standin.counters()[1]
    peers["floor"].ask("jobs", 200, 1, 0, "true")
    found["server"] = {"cpu_us_per_floor_job": (shop.standin.counters()[1] - server) / 200 / 1e3}
    found["calls"] = {name: calls_of_a_job(shop, peer) for name, peer in peers.items()}
    shop.drop(*peers.values())
    return found


def calls_of_a_job(shop, peer):
    """To the router, by method."""
    n = 20
    before = shop.standin.counters()[0]
    peer.ask("jobs", n, 1, 0, "true")
    after = shop.standin.counters()[0]
    return {method: (after[method] - before.get(method, 0)) / n for method in after
            if method.startswith("TaskExec") and after[method] != before.get(method, 0)}


def delay(shop, quick):
    """The same over a network that takes its time: in round trips."""
    found = {}
    for ms in (50,) if quick else (10, 50):
        peers = {name: shop.peer(name, ms) for name in ("modalpool", "floor", *SDKS)}
        round_trip_us = 2e3 * ms
        for peer in peers.values():
            peer.ask("jobs", 2, 1, 0, "true")
        results = rounds(1 if quick else 6, peers, lambda peer, name: peer.ask("jobs", 2, 1, 0, "true"))
        here = job_summary(results, {name: 2 for name in peers})
        for name, answers in results.items():
            here[name]["round_trips"] = spread([v / 1e3 / round_trip_us for v in medians(answers)])
        for name in ("python", "modalpool"):
            peers[name].ask("acquire")  # has a sandbox made
        pool, mount = (peers[name].ask("acquire", 5)["ns"] for name in ("python", "modalpool"))
        here["acquire"] = {"python_pool_us": statistics.median(pool) / 1e3, "modalpool_us": statistics.median(mount) / 1e3}
        found[f"{ms} ms"] = here
        shop.drop(*peers.values())
    return found


def exec_delay(shop, quick):
    """A job where the start of a process takes 0.2 s, as published measurements of Modal say."""
    peers = {name: shop.peer(name, "0+exec") for name in ("modalpool", "floor", *SDKS)}
    for peer in peers.values():
        peer.ask("jobs", 2, 1, 0, "true")
    found = job_summary(rounds(1 if quick else 6, peers, lambda peer, name: peer.ask("jobs", 2, 1, 0, "true")),
                        {name: 2 for name in peers})
    shop.drop(*peers.values())
    return found


def by_cat(mount, size):
    """Seconds that a user's shell takes to have it all."""
    began = time.perf_counter_ns()
    subprocess.run(["sh", "-c", f"printf 'head -c {size} /dev/zero' > cmd && cat output > /dev/null && cat exit_code > /dev/null"],
                   cwd=mount.path / "lease-0", check=True)
    took = time.perf_counter_ns() - began
    if os.stat(mount.path / "lease-0/output").st_size != size:
        raise RuntimeError("the output has the wrong size")
    return took


def throughput(shop, quick):
    """Output that comes as fast as it can."""
    size = GIB // 16 if quick else GIB
    names = ("modalpool", "modalpool, cat", "floor", "go", "js", "python")
    mount = shop.peer("modalpool", output_max="2G", max=2)
    peers = {name: mount if name.startswith("modalpool") else shop.peer(name) for name in names}

    def work(peer, name):
        # What is slow is given less to do.
        n = size if name in names[:3] else min(size, GIB // 16)
        if peer is mount:
            mount.ask("drop")
            mount.ask("leases", 1)
        took = by_cat(mount, n) if name == "modalpool, cat" else \
            peer.ask("stream", 1, 1, n, f"head -c {n} /dev/zero")["wall_ns"]
        return n / MIB / (took / 1e9)
    results = rounds(2 if quick else 5, peers, work)
    turn = longest_turn(mount)
    shop.drop(mount, *(peers[name] for name in names[2:]))
    return {"bytes": size, "longest_turn_us": turn, **{name: {
        "mib_per_s": spread(rates), "modalpool_rate": ratio(results["modalpool"], rates),
        "to_floor": ratio(rates, results["floor"])} for name, rates in results.items()}}


def scale(shop, quick):
    """Jobs in many leases at once."""
    found = {}
    for at in (1, 10, 100) if quick else (1, 10, 100, 1000):
        each = max(1, 200 // at)
        names = ("modalpool", "floor", "go", "js", "python, asyncio")
        peers = {name: shop.peer(name, max=max(at, 8)) if name == "modalpool" else shop.peer(name) for name in names}
        for peer in peers.values():
            peer.ask("jobs", 1, at, 0, "true")  # makes the sandboxes, and opens connections
        results = rounds(2 if quick or at == 1000 else 4, peers, lambda peer, name: peer.ask("jobs", each, at, 0, "true"))
        rate = {name: [each * at / (a["wall_ns"] / 1e9) for a in answers] for name, answers in results.items()}
        found[str(at)] = {name: {
            "jobs_per_s": spread(rate[name]), "cpu_us": spread([a["cpu_ns"] / each / at / 1e3 for a in answers]),
            "modalpool_rate": ratio(rate["modalpool"], rate[name]), "resident_mib": resident(peers[name].pid) / MIB,
        } for name, answers in results.items()}
        shop.drop(*peers.values())
        say(f"  {at} leases at once")
    return found


SIDE_BY_SIDE = 16  # jobs_max


def together(shop, quick):
    """Named jobs that run side by side: what they cost in memory while they run, and how many a second come and go."""
    at = 10 if quick else 100
    mount = shop.peer("modalpool", max=at, keepalive=3600)
    each = SIDE_BY_SIDE

    def all_at_once():
        submitted = mount.ask("submit", each, at, 0, "true")
        collected = mount.ask("collect", each, at)
        return [submitted[key] + collected[key] for key in ("wall_ns", "cpu_ns", "daemon_ns")]

    def one_after_another():
        said = mount.ask("jobs", each, at, 0, "true")
        return [said[key] for key in ("wall_ns", "cpu_ns", "daemon_ns")]

    mount.ask("jobs", 1, at, 0, "true")  # every lease has its sandbox, and a stream to it
    before = resident(mount.pid)
    mount.ask("submit", each, at, 0, "sleep 1000")
    wait_until("all jobs run", lambda: jobs_in(mount, "running") == each * at)
    running = resident(mount.pid)
    mount.ask("forget", each, at)
    wait_until("no job runs", lambda: jobs_in(mount, "running") == 0)
    say(f"  {each * at} jobs at once in {at} leases")

    ways = {"side by side": all_at_once, "one after another": one_after_another}
    results = rounds(2 if quick else 6, ways, lambda work, name: work())
    turn = longest_turn(mount)
    shop.drop(mount)
    n = each * at
    return {"leases": at, "jobs": n, "before_mib": before / MIB, "running_mib": running / MIB,
            "kib_per_job": (running - before) / 1024 / n, "longest_turn_us": turn,
            **{name: {"jobs_per_s": spread([n / (wall / 1e9) for wall, _, _ in took]),
                      "cpu_us": spread([cpu / n / 1e3 for _, cpu, _ in took]),
                      "daemon_us": spread([daemon / n / 1e3 for _, _, daemon in took])} for name, took in results.items()},
            "rate_to_one_after_another": ratio([took[0] for took in results["one after another"]],
                                               [took[0] for took in results["side by side"]])}


def jobs_in(mount, state):
    return json.loads((mount.path / ".pool/stats").read_text())["jobs"][state]


def longest_turn(mount):
    """The longest turn of its loop that .pool/metrics tells of, in microseconds."""
    text = (mount.path / ".pool/metrics").read_text()
    return float(re.search(r"^modalpool_loop_longest_turn_seconds ([\d.e+-]+)$", text, re.M)[1]) * 1e6


OPERATIONS = {"mkdir": ("mkdir", 200), "stat": ("stat", 500), "job": ("jobs", 20)}


def operations(mount):
    """Nanoseconds of each operation, and of the daemon's processor time that it took."""
    found = {}
    for name, (verb, n) in OPERATIONS.items():
        said = mount.ask(verb, n, 1, 0, "true")
        found[name] = (statistics.median(said["ns"]), said["daemon_ns"] / n)
    return found


def idle(shop, quick):
    """What leases cost that do nothing; each count beside a mount with ten, turn by turn."""
    most = 1000 if quick else 10000
    options = {"max": most + 8, "max_leases": 2 * most}
    few, many = shop.peer("modalpool", **options), shop.peer("modalpool", **options)
    few.ask("leases", 10)
    empty = resident(many.pid)
    found = {"empty_mib": empty / MIB}
    for n in (count for count in (10, 100, 1000, 10000) if count <= most):
        made = many.ask("leases", n)
        for one in (many, few):
            operations(one)  # the first mkdir has a sandbox made
        pairs = [(operations(many), operations(few)) for _ in range(3 if quick else 9)]
        before, began = cpu_ns(many.pid), time.monotonic_ns()
        time.sleep(1)  # what is measured is what an idle daemon does in it
        busy = (cpu_ns(many.pid) - before) / (time.monotonic_ns() - began)
        found[str(n)] = {
            "made_s": made["wall_ns"] / 1e9, "resident_mib": resident(many.pid) / MIB,
            "kib_per_lease": (resident(many.pid) - empty) / 1024 / n, "idle_cpu_percent": busy * 100,
            "longest_turn_us": longest_turn(many),
            "operations": {name: {
                "us": spread([m[name][0] / 1e3 for m, _ in pairs]), "daemon_us": spread([m[name][1] / 1e3 for m, _ in pairs]),
                "time_growth": ratio([m[name][0] for m, _ in pairs], [f[name][0] for _, f in pairs]),
                "cpu_growth": ratio([m[name][1] for m, _ in pairs], [f[name][1] for _, f in pairs]),
            } for name in OPERATIONS},
        }
        say(f"  {n} idle leases")
    shop.drop(few, many)
    found["waiting"] = waiting(shop, most)
    return found


QUIET_SECS = 10


def rest(shop, mount, n):
    """What a mount costs while nothing happens, with so many environments."""
    before, woken, began = cpu_ns(mount.pid), wakeups(mount.pid), time.monotonic_ns()
    time.sleep(QUIET_SECS)  # what is measured is what the daemon does in it
    took = time.monotonic_ns() - began
    return {"n": n, "resident_mib": resident(mount.pid) / MIB, "open_streams": shop.standin.open_streams(),
            "cpu_percent": (cpu_ns(mount.pid) - before) / took * 100,
            "wakeups_per_s": (wakeups(mount.pid) - woken) / took * 1e9}


def count(mount, state):
    return json.loads((mount.path / ".pool/stats").read_text())["environments"][state]


def environments(shop, quick):
    """What environments cost that do nothing: idle ones, and leased ones whose stream to the helper is open."""
    n = 1000 if quick else 10000
    # Without the check of idle environments that comes each minute, which opens a stream to eight of them at a time.
    mount = shop.peer("modalpool", max=n, min=n, keepalive=3600)
    empty = shop.peer("modalpool")
    found = {"empty_mib": resident(empty.pid) / MIB}
    shop.drop(empty)
    mount.ask("drop")
    wait_until("all environments are idle", lambda: count(mount, "idle") == n)
    wait_until("no stream is open", lambda: shop.standin.open_streams() == 0)
    found["idle"] = rest(shop, mount, n)
    say(f"  {n} idle environments")
    shop.drop(mount)

    n = 100 if quick else 1000
    mount = shop.peer("modalpool", max=n, keepalive=3600)
    mount.ask("leases", n)
    wait_until("no stream is open", lambda: shop.standin.open_streams() <= 2)
    found["leased"] = rest(shop, mount, n)
    mount.ask("jobs", 1, n, 0, "true")
    found["carriers"] = rest(shop, mount, n)
    say(f"  {n} leases after a job, each with an open stream")
    shop.drop(mount)
    return found


def waiting(shop, n):
    """Leases that have no sandbox, as many: what a lease itself needs."""
    mount = shop.peer("modalpool", max=1, max_leases=2 * n, wait=3600)
    before = resident(mount.pid)
    for i in range(n):
        os.mkdir(mount.path / f"waiting-{i}")
    found = {"n": n, "kib_per_lease": (resident(mount.pid) - before) / 1024 / n}
    for i in range(n):
        os.rmdir(mount.path / f"waiting-{i}")
    shop.drop(mount)
    return found


def start(shop, quick):
    """From the start of a program to its first result; what it is on disk, and in memory when idle."""
    names = ("modalpool", "floor", "go", "js", "python")
    took = {name: [] for name in names}
    memory = {}
    for _ in range(2 if quick else 5):
        for name in names:
            peer = shop.peer(name)
            took[name].append(peer.start_ns / 1e6)
            memory[name] = resident(peer.pid) / MIB
            shop.drop(peer)
    files = {"modalpool": shop.release / "fs/modalpool", "go": shop.build / "sdk-go",
             "floor": shop.release / "tests/bench/bench-floor"}
    return {name: {"first_result_ms": spread(took[name]), "modalpool_time": ratio(took["modalpool"], took[name]),
                   "idle_mib": memory[name],
                   "binary_kib": os.path.getsize(files[name]) / 1024 if name in files else None} for name in names}


def local(shop, quick):
    """The local backend beside plain processes; bench-local does it all."""
    daemon = shop.keep(Daemon(lambda directory: [str(shop.release / "fs/modalpool"), "-f", "-o",
                                                 f"state={directory / 'state'},log=warning", "local"]))
    told = subprocess.run([str(shop.release / "tests/bench/bench-local"), str(daemon.path)], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    shop.drop(daemon)
    found = {}
    for line in told.splitlines():
        m = re.match(r"(.+?)\s+median\s+([\d.]+)\s+(\S*)\s+quartiles ([\d.]+) to ([\d.]+)", line)
        if m:
            found[m[1].strip()] = {"median": float(m[2]), "unit": m[3], "p25": float(m[4]), "p75": float(m[5])}
    return found


def next_grant_ns(path, command):
    """From the release of a lease that ran this to the moment that the next one has its environment."""
    lease = path / "lease"
    lease.mkdir()
    with open(lease / "cmd", "w") as cmd:
        cmd.write(command)
    (lease / "exit_code").read_text()
    began = time.perf_counter_ns()
    lease.rmdir()
    lease.mkdir()
    (lease / "environment").read_text()
    took = time.perf_counter_ns() - began
    lease.rmdir()
    return took


def next_grants(shop, count, backend, env=None):
    """By what reset= has to do for it."""
    add, change = "echo x > file; echo x > /var/added", "chmod 711 /root"
    ways = {"workdir": ("workdir", add), "environment": ("environment", add), "clean": ("clean", add), "ended": ("clean", change)}
    daemons = {name: shop.keep(Daemon(lambda directory, how=how: [
        str(shop.release / "fs/modalpool"), "-f", "-o", f"state={directory / 'state'},log=error,max=1,reset={how}", backend], env))
        for name, (how, _) in ways.items()}
    results = rounds(count, daemons, lambda daemon, name: next_grant_ns(daemon.path, ways[name][1]))
    shop.drop(*daemons.values())
    return {name: {"ms": spread([ns / 1e6 for ns in took]), "to_workdir": ratio(took, results["workdir"]),
                   "to_environment": ratio(took, results["environment"])} for name, took in results.items()}


def reset(shop, quick):
    """From a release to the next grant in a pool of one environment: a local one, and one over the simulator of tests/modal_sim."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from modal_sim.simulator import Simulator

    local_ones = next_grants(shop, 20 if quick else 100, "local")
    with Simulator() as sim:
        over_modal = next_grants(shop, 10 if quick else 30, "modal", sim.env())
    return {**local_ones, **{"modal, " + name: one for name, one in over_modal.items()}}


def simulator(shop, quick):
    """The same over the simulator of tests/modal_sim, which runs real processes: whether clients can be told apart there."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from modal_sim.simulator import Simulator

    with Simulator() as sim:
        env = dict(sim.env(), NODE_EXTRA_CA_CERTS=sim.ca, NODE_NO_WARNINGS="1")
        peers = {name: shop.peer(name, env=env) for name in ("modalpool", "floor", "python")}
        try:
            n = {name: 10 for name in peers}
            results = rounds(2 if quick else 5, peers, lambda peer, name: peer.ask("jobs", 10, 1, 0, "true"))
            return job_summary(results, n)
        finally:
            shop.drop(*peers.values())


QUICK = ("acquire", "jobs", "delay", "throughput", "idle")
PARTS = {"acquire": acquire, "jobs": jobs, "delay": delay, "exec-delay": exec_delay, "throughput": throughput, "scale": scale, "together": together, "idle": idle,
         "environments": environments, "start": start, "local": local, "reset": reset, "simulator": simulator}
