# SPDX-License-Identifier: MIT
"""How many instructions the core takes for an acquire and for a job, beside the numbers on record.

    instructions.py PROGRAM KEY RECORD            as a test, TAP: fails when one takes 1 % more than it did
    instructions.py PROGRAM KEY RECORD --record   writes today's numbers down

PROGRAM is bench-instructions, KEY names the compiler and what it was told. Callgrind counts, so nothing is timed, and
the same program takes the same number everywhere. Of two runs, one with twice the work, the difference is what the work
takes. It counts what functions of pool/ execute themselves, and how often they call a library, such as malloc or write:
what happens inside a library is another matter on another machine.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

N = 50
TOLERANCE = 0.01
OURS = "/pool/"


def names(table, text):
    """The format names everything once, and gives its number from then on."""
    number, _, name = text.partition(" ")
    if name:
        table[number] = name
    return table[number]


def read(path):
    """(Counter: function -> instructions, Counter: library function -> calls) of what lies in pool/."""
    files, functions, objects = {}, {}, {}
    own, library = collections.Counter(), collections.Counter()
    ours = inclusive = False
    name = program = callee_object = here = None
    for line in path.read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "ob":
            here = names(objects, value)
            program = program or here
        elif key == "fl":
            ours = OURS in names(files, value)
        elif key in ("fi", "fe", "cfi", "cfl"):
            names(files, value)  # code of a header counts for the function that it is in
        elif key == "fn":
            name = names(functions, value)
            callee_object = here
        elif key == "cob":
            callee_object = names(objects, value)
        elif key == "cfn":
            callee = names(functions, value)
        elif key == "calls":
            if ours and callee_object != here:
                library[callee] += int(value.split()[0])
            callee_object = here
            inclusive = True
        elif re.match(r"[\d+*-]", line):
            if ours and not inclusive:
                own[name] += int(line.split()[1])
            inclusive = False
    return own, library


def run(program, what, n):
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "out"
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--log-file=/dev/null",
                               program, what, str(n)], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"Bail out! {program} {what} {n}: {done.stdout}")
        return read(out)


def measure(program, what):
    """Instructions and library calls of N times the work, by function."""
    (own, library), (own_twice, library_twice) = run(program, what, N), run(program, what, 2 * N)
    own_twice.subtract(own)
    library_twice.subtract(library)
    return own_twice, library_twice


def tell(what, key, was, now, by_function):
    changed = f" {100 * (now - was) / was:+.2f} %, it was {was / N:.1f}" if was else ""
    print(f"# {what}: {now / N:.1f} {key} each{changed}")
    for name, n in by_function.most_common(8):
        print(f"#   {n / N:8.1f}  {re.sub(r'@.*', '', name)}")


def main(program, compiler, path, *flags):
    path = pathlib.Path(path)
    record = json.loads(path.read_text())
    mine = record.setdefault(compiler, {}) if flags else record.get(compiler, {})
    number = failures = 0
    for what in ("acquire", "job"):
        for key, by_function in zip(("instructions", "library calls"), measure(program, what)):
            label, now = f"{what}, {key}", sum(by_function.values())
            was = mine.get(label)
            number += 1
            tell(what, key, was, now, by_function)
            if flags:
                mine[label] = now
            elif was is None:
                print(f"ok {number} - {label} # SKIP no number on record for {compiler}")
                continue
            ok = bool(flags) or now <= was * (1 + TOLERANCE)
            failures += not ok
            print(f"{'ok' if ok else 'not ok'} {number} - {label}")
    print(f"1..{number}")
    if flags:
        path.write_text(json.dumps(record, indent=1) + "\n")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
