# SPDX-License-Identifier: MIT
"""scripts/bench calls this: BUILD RESULTS [quick] [PART…]. Measures, writes results.json and plots, checks targets."""

import json
import os
import pathlib
import platform
import resource
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "cases"))

from parts import PARTS, QUICK, say  # noqa: E402
from peers import Workshop  # noqa: E402
from plots import draw  # noqa: E402
from targets import check  # noqa: E402


def machine():
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, stdout=subprocess.PIPE, text=True)
    return {"cores": os.cpu_count(), "load": os.getloadavg(), "kernel": platform.release(), "machine": platform.machine(),
            "commit": commit.stdout.strip(), "date": time.strftime("%Y-%m-%d")}


def remembered(out):
    """What was measured before: parts that are not measured again stay as they were."""
    try:
        return json.loads((out / "results.json").read_text())
    except (OSError, ValueError):
        return {}


def stop(signo, frame):
    sys.exit(128 + signo)


def main(build, out, *words):
    quick = "quick" in words
    wanted = [word for word in words if word != "quick"] or list(QUICK if quick else PARTS)
    for word in wanted:
        if word not in PARTS:
            sys.exit(f"bench: {word}: no such part; there are {' '.join(PARTS)}")
    for signo in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signo, stop)
    # A thousand leases at once have a thousand open files, and some peers a connection each.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    out = pathlib.Path(out) / ("quick" if quick else "")
    out.mkdir(parents=True, exist_ok=True)
    found = remembered(out) | {"machine": machine(), "quick": quick}
    shop = Workshop(build)
    try:
        for name in wanted:
            began = time.monotonic()
            say(f"bench: {name}: {PARTS[name].__doc__.splitlines()[0]}")
            found[name] = PARTS[name](shop, quick)
            say(f"bench: {name} took {time.monotonic() - began:.0f} s")
    finally:
        shop.stop()
    found["targets"] = check(found)
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, out)
    say(f"bench: results and plots are in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
