#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
check_layers.py CHECK ROOT BUILD: TAP. The source keeps the rules of scripts/check-layers, those of calls too, which are
skipped where nm cannot read the objects of BUILD; and the script tells of a small tree that breaks one.
"""

import pathlib
import subprocess
import sys
import tempfile

check, root, build = sys.argv[1:]
# A tree that keeps every rule, and for each rule what breaks it: {file: text}, and the words of the answer.
GOOD = {
    "pool/util/text.h": "#pragma once\nint text(void);\n",
    "pool/util/text.c": '#include "pool/util/text.h"\nint text(void) { return 1; }\n',
    "pool/lease/limits.h": "#pragma once\n#define JOBS_MAX 16\n",
    "pool/lease/job.h": "#pragma once\nint job(void);\n",
    "pool/lease/job.c": '#include "pool/lease/limits.h"\n#include "pool/util/text.h"\nint job(void); int job(void) { return text() + JOBS_MAX; }\n',
    "fs/ops.c": '#include "pool/lease/job.h"\nint ops(void);\nint ops(void) { return job(); }\n',
    "fs/client/run.c": '#include "pool/util/text.h"\nint main(void) { return text(); }\n',
}
BROKEN = {
    "a header of a higher layer": ({"pool/util/text.c": '#include "pool/lease/job.h"\nint text(void);\nint text(void) { return 1; }\n'},
                                   "upward: pool/util/text.c includes pool/lease/job.h"),
    "a function of a higher layer": ({"pool/util/text.c": "int job(void); int text(void); int text(void) { return job(); }\n"},
                                     "upward: pool/util/text.c names job of pool/lease/job.c"),
    "a circle of headers": ({"pool/lease/job.h": '#pragma once\n#include "pool/lease/lease.h"\n',
                             "pool/lease/lease.h": '#pragma once\n#include "pool/lease/job.h"\n'},
                            "cycle: pool/lease/job.h pool/lease/lease.h"),
    "two files that call each other": ({"fs/ops.c": "int ops(void); int node(void); int ops(void) { return node(); }\n",
                                        "fs/node.c": "int ops(void); int node(void); int node(void) { return ops(); }\n"},
                                       "calls: fs/node.c -> fs/ops.c, fs/ops.c -> fs/node.c"),
    "the limits of a neighbour": ({"pool/backend/local/limits.h": "#pragma once\n",
                                   "pool/backend/modal/modal.c": '#include "pool/backend/local/limits.h"\n'},
                                  "limits: pool/backend/modal/modal.c includes pool/backend/local/limits.h"),
    "a file in no layer": ({"pool/other/new.c": "int new(void);\n"}, "unknown: pool/other/new.c is in no layer"),
    "a client that knows the daemon": ({"fs/client/run.c": '#include "pool/lease/job.h"\n'},
                                       "upward: fs/client/run.c includes pool/lease/job.h: a client knows the mount alone"),
    "a client that calls the daemon": ({"fs/client/run.c": "int ops(void); int main(void) { return ops(); }\n"},
                                       "upward: fs/client/run.c names ops of fs/ops.c: a client knows the mount alone"),
    "the daemon's use of a client": ({"fs/client/run.h": "#pragma once\n",
                                      "fs/ops.c": '#include "fs/client/run.h"\nint ops(void); int ops(void) { return 0; }\n'},
                                     "upward: fs/ops.c includes fs/client/run.h: nothing knows the clients but the program that starts them"),
}
n = 0


def result(name, good, said=""):
    global n
    n += 1
    print(f"{'ok' if good else 'not ok'} {n} - {name}")
    if not good:
        print("".join(f"# {line}\n" for line in said.splitlines()), end="")


def answer(files, spoil=lambda made: None):
    """What check-layers says of a tree of these files, built as meson would; spoil() is given each object file."""
    with tempfile.TemporaryDirectory() as folder:
        top, objects = pathlib.Path(folder, "source"), pathlib.Path(folder, "build")
        for name, text in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in files:
            if name.endswith(".c"):
                part, rest = name.split("/", 1)
                made = objects / part / "all.p" / (rest.replace("/", "_") + ".o")
                made.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cc", "-I", top, "-c", top / name, "-o", made], check=True)
                spoil(made)
        done = subprocess.run([check, "--root", top, "--objects", objects], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


done = subprocess.run([check, "--root", root, "--objects", build], capture_output=True, text=True)
unreadable = [line for line in done.stdout.splitlines() if line.startswith("objects: ")]
if unreadable:
    print(f"ok {(n := n + 1)} - this source keeps its layers, with its calls # SKIP {unreadable[0]}")
    done = subprocess.run([check, "--root", root], capture_output=True, text=True)
    result("this source keeps its layers, but for its calls", done.returncode == 0, done.stdout + done.stderr)
else:
    result("this source keeps its layers, with its calls", done.returncode == 0, done.stdout + done.stderr)
result("a tree that keeps every rule", answer(GOOD) == (0, ""), str(answer(GOOD)))
for what, (files, words) in BROKEN.items():
    status, said = answer({**GOOD, **files})
    result(what, status == 1 and words in said.splitlines(), said)
status, said = answer(GOOD, lambda made: made.unlink() if made.name == "lease_job.c.o" else None)
result("a file of which there is no object", status == 1 and "unknown: pool/lease/job.c has no object file below " in said, said)
status, said = answer(GOOD, lambda made: made.write_text("no object"))
result("objects that nm cannot read", status == 1 and said.startswith("objects: nm finds no function in "), said)
print(f"1..{n}")
