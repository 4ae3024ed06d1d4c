# SPDX-License-Identifier: MIT
"""plain.py LEASE JOB: see test_languages.py."""

import os
import sys


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


def show(name):
    """Print what comes, a line at a time, and answer the first."""
    with open(name) as file:
        for line in file:
            print(line, end="")
            if line == "one\n":
                write("ctl", "signal USR1\n")


os.chdir(sys.argv[1])
write("cmd", sys.argv[2])
show("output")
show("exit_code")

with open("cmd", "r+b", buffering=0) as file:
    file.write(b"echo a")
    file.write(b"b")
    print(file.read().decode(), end="")

write("timeout", "0.2\n")
write("cmd", "sleep 1000")
show("exit_code")
