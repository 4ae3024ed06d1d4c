# SPDX-License-Identifier: MIT
"""selecting.py LEASE JOB: see test_languages.py; with selectors."""

import os
import selectors
import sys


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


def show(fd):
    """Print what comes, and answer when the first line is there."""
    text = ""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            selector.select()
            try:
                data = os.read(fd, 4096).decode()
            except BlockingIOError:
                continue
            if not data:
                break
            text += data
            if text == "one\n":
                write("ctl", "signal USR1\n")
    os.close(fd)
    print(text, end="")


os.chdir(sys.argv[1])
write("cmd", sys.argv[2])
show(os.open("output", os.O_RDONLY | os.O_NONBLOCK))
show(os.open("exit_code", os.O_RDONLY | os.O_NONBLOCK))

# Asking between two parts of a command changes nothing.
cmd = os.open("cmd", os.O_RDWR | os.O_NONBLOCK)
with selectors.DefaultSelector() as selector:
    selector.register(cmd, selectors.EVENT_READ | selectors.EVENT_WRITE)
    for part in (b"echo a", b"b"):
        (_, events), = selector.select()
        assert events & selectors.EVENT_WRITE
        os.write(cmd, part)
show(cmd)

write("timeout", "0.2\n")
write("cmd", "sleep 1000")
show(os.open("exit_code", os.O_RDONLY | os.O_NONBLOCK))
