"""Reads of pipes that others hold open, without blocking the loop."""

import asyncio
import os


async def some(fd, most=4096):
    """What is there, as soon as there is something; b"" at the end."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    while True:
        try:
            return os.read(fd, most)
        except BlockingIOError:
            readable = loop.create_future()
            loop.add_reader(fd, lambda: readable.done() or readable.set_result(None))
            try:
                await readable
            finally:
                loop.remove_reader(fd)


async def to_end(fd):
    data = b""
    while piece := await some(fd):
        data += piece
    return data
