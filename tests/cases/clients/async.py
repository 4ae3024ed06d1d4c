# SPDX-License-Identifier: MIT
"""async.py LEASE JOB: see test_languages.py; with asyncio."""

import asyncio
import os
import sys


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


async def read(fd):
    """The next bytes: tried first, and again when the loop says that there are some."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, 4096).decode()
        except BlockingIOError:
            readable = loop.create_future()
            loop.add_reader(fd, readable.set_result, None)
            try:
                await readable
            finally:
                loop.remove_reader(fd)


async def show(fd):
    """Print what comes, and answer when the first line is there."""
    text = ""
    while data := await read(fd):
        text += data
        if text == "one\n":
            write("ctl", "signal USR1\n")
    os.close(fd)
    print(text, end="")


async def main():
    os.chdir(sys.argv[1])
    write("cmd", sys.argv[2])
    await show(os.open("output", os.O_RDONLY | os.O_NONBLOCK))
    await show(os.open("exit_code", os.O_RDONLY | os.O_NONBLOCK))

    cmd = os.open("cmd", os.O_RDWR | os.O_NONBLOCK)
    os.write(cmd, b"echo a")
    os.write(cmd, b"b")
    await show(cmd)

    write("timeout", "0.2\n")
    write("cmd", "sleep 1000")
    await show(os.open("exit_code", os.O_RDONLY | os.O_NONBLOCK))


asyncio.run(main())
