"""Server-sent events: data lines, comments while nothing happens, an error instead of an end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from deployments.errors import ApiError, error_body

__all__ = ["DONE", "comment", "event", "event_stream", "with_pauses"]

T = TypeVar("T")

LOG = logging.getLogger("dream.stream")

DONE = b"data: [DONE]\n\n"

HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""No proxy is to keep or gather what is sent."""


def event(payload: BaseModel) -> bytes:
    """One event, without a name: standard clients fail at named ones."""
    return b"data: " + payload.model_dump_json().encode() + b"\n\n"


def comment(text: str) -> bytes:
    """What clients skip and proxies count as life."""
    return b": " + text.encode() + b"\n\n"


async def with_pauses(
    items: AsyncGenerator[T], pause_s: float, deadline: float
) -> AsyncGenerator[T | None]:
    """The items, and None after each pause without one; ends with TimeoutError at `deadline`.

    deadline: by the clock of the running event loop. `items` is closed at the end.
    """
    clock = asyncio.get_running_loop().time
    async with aclosing(items):
        coming = asyncio.ensure_future(anext(items, None))
        try:
            while True:
                left = deadline - clock()
                done, _ = await asyncio.wait({coming}, timeout=min(pause_s, max(0.0, left)))
                if done:
                    if (item := coming.result()) is None:
                        return
                    yield item
                    coming = asyncio.ensure_future(anext(items, None))
                elif left <= pause_s:
                    raise TimeoutError
                else:
                    yield None
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


def event_stream(
    chunks: AsyncIterator[bytes], on_failure: Callable[[Exception], ApiError]
) -> StreamingResponse:
    """The chunks as a response; what fails after the first byte is an event of its own."""

    async def body() -> AsyncGenerator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        except Exception as error:  # the status is sent: it reaches the caller as the last event
            yield b"data: " + error_body(on_failure(error)) + b"\n\n"

    return StreamingResponse(
        body(), media_type="text/event-stream; charset=utf-8", headers=dict(HEADERS)
    )
