"""Waiting with an end."""

import asyncio


async def wait_for(event, seconds):
    """True when the event came within the time."""
    try:
        await asyncio.wait_for(event.wait(), max(0, seconds))
    except (asyncio.TimeoutError, TimeoutError):
        pass
    return event.is_set()
