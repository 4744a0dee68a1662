"""Many small items as fewer large ones, without making the first or the last wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

__all__ = ["coalesced"]

T = TypeVar("T")


async def coalesced(
    items: AsyncIterator[T], interval_s: float, *, heartbeat_s: float | None = None
) -> AsyncGenerator[list[T]]:
    """Lists of items in order, at most one in each interval; the first has no interval before it.

    heartbeat_s: after so long without an item comes an empty list. What `items` raises comes after
    everything that came before it.
    """
    waiting: asyncio.Queue[T | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for item in items:
                waiting.put_nowait(item)
        finally:
            waiting.put_nowait(None)

    task = asyncio.create_task(pump())
    try:
        is_over = False
        while not is_over:
            try:
                async with asyncio.timeout(heartbeat_s):
                    batch = [await waiting.get()]
            except TimeoutError:
                yield []
                continue
            while not waiting.empty():
                batch.append(waiting.get_nowait())
            is_over = batch[-1] is None
            if told := [item for item in batch if item is not None]:
                yield told
            if not is_over:
                await asyncio.wait({task}, timeout=interval_s)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
