# SPDX-License-Identifier: MIT
"""simulate_long.py PROGRAM XML FIRST [LAST]: run the simulation with each of these seeds, on all cores.

Each seed is a test in the file XML (JUnit). One that fails has the last words of its run. In the end it says what
share of the runs had a full disk or a kill: the worst faults are found only where both meet."""

import concurrent.futures
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

EVENTS = 25000


def run(program, seed):
    done = subprocess.run([program, "--seed", str(seed), "--events", str(EVENTS)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.returncode, done.stdout


def kinds(words):
    """What there was in a run, by the line that it ends with."""
    full, kills, unwritten = (int(re.search(rf"(\d+) {what}", words)[1])
                              for what in ("full disks", "kills", "more while the disk was full"))
    return {"a full disk": full, "a kill": kills + unwritten, "a full disk or a kill": full + kills + unwritten,
            "a kill before all was written down": unwritten}


def main(program, path, first, last=None):
    seeds = range(int(first), int(last or first) + 1)
    suite = ElementTree.Element("testsuite", name="simulate-long", errors="0", skipped="0")
    clean = failures = 0
    share = {}
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for seed, (status, words) in zip(seeds, pool.map(run, [program] * len(seeds), seeds)):
            case = ElementTree.SubElement(suite, "testcase", classname="simulate", name=f"seed {seed}")
            if status:
                failures += 1
                ElementTree.SubElement(case, "failure").text = words
                print(words, f"seed {seed} failed with status {status}", sep="\n", flush=True)
                continue
            clean += 1
            for kind, n in kinds(words).items():
                share[kind] = share.get(kind, 0) + (n > 0)
    suite.set("tests", str(len(seeds)))
    suite.set("failures", str(failures))
    ElementTree.ElementTree(suite).write(path)
    print(f"{clean} of {len(seeds)} seeds are clean; of these runs had",
          ", ".join(f"{100 * n / clean:.0f} % {kind}" for kind, n in share.items()))
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
