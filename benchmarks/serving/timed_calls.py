"""Sends requests at given times, with any key, and says what its caller saw of each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import aiohttp

__all__ = ["Call", "Reply", "call_all", "filling"]

PROMPT = "Once upon a time"
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A completion to ask for. at_s: when it is due, from the start. key: of its caller."""

    body: Mapping[str, Any]
    at_s: float = 0.0
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of a call. seconds: from when it was due to the whole answer.

    error: the code of a refusal or failure. deadline_met: as the server says.
    """

    seconds: float
    error: str | None
    steps: int = 0
    token_forwards: int = 0
    deadline_met: bool | None = None


def filling(
    num_tokens: int, *, steps: int | None = None, n: int = 1, prompts: int = 1, **diffusion: object
) -> dict[str, Any]:
    """The body of a completion that fills so many tokens, whatever they are."""
    return {
        "model": "embedded",
        "prompt": PROMPT if prompts == 1 else [PROMPT] * prompts,
        "max_tokens": num_tokens,
        "n": n,
        "diffusion": {"steps": steps, "early_exit": False, **diffusion},
    }


async def call_all(
    url: str, calls: Sequence[Call], max_concurrency: int | None = None
) -> list[Reply]:
    """Send each at its time, and wait for the last answer."""
    slot = nullcontext() if max_concurrency is None else asyncio.Semaphore(max_concurrency)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:
        start = time.perf_counter()

        async def send(call: Call) -> Reply:
            due = start + call.at_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            async with slot:
                return await _send(session, call, due)

        return list(await asyncio.gather(*map(send, calls)))


async def _send(session: aiohttp.ClientSession, call: Call, due: float) -> Reply:
    headers = {} if call.key is None else {"authorization": f"Bearer {call.key}"}
    try:
        async with session.post("/v1/completions", json=call.body, headers=headers) as response:
            told = json.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return Reply(seconds=time.perf_counter() - due, error=type(error).__name__)
    seconds = time.perf_counter() - due
    if response.status != 200:
        return Reply(seconds=seconds, error=str(told["error"]["code"]))
    usage = told["usage"]["diffusion"]
    return Reply(
        seconds=seconds,
        error=None,
        steps=usage["steps"],
        token_forwards=usage["token_forwards"],
        deadline_met=told["choices"][0]["diffusion"]["deadline_met"],
    )
