"""Sends the requests of a run at their times and returns what came of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from benchmarks.serving.outcome import Answer, Outcome
from benchmarks.serving.settings import ENDPOINTS, Settings

__all__ = ["Run", "arrivals", "body_of", "headers", "prompts", "run"]

PASSAGE = "Once upon a time there was a small house at the edge of a wood. Nobody lived in it."
"""Random prompts are drawn from the tokens of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of each request, and seconds from the first sending to the last answer."""

    outcomes: Sequence[Outcome]
    seconds: float


def headers() -> dict[str, str]:
    """The key of `OPENAI_API_KEY`, if there is one."""
    key = os.environ.get("OPENAI_API_KEY")
    return {} if key is None else {"authorization": f"Bearer {key}"}


def arrivals(number: int, rate: float, seed: int) -> list[float]:
    """Seconds at which requests are sent: a Poisson process, or all at once."""
    if rate == float("inf"):
        return [0.0] * number
    gaps = np.random.default_rng(seed).exponential(1 / rate, number)
    return [float(at) for at in np.cumsum(gaps) - gaps[0]]


async def prompts(settings: Settings) -> list[list[int]]:
    """Random token ids that the server's tokenizer gives for plain text."""
    async with aiohttp.ClientSession(settings.base_url, headers=headers()) as session:
        asked = {"model": settings.model, "prompt": PASSAGE}
        async with session.post("/v1/tokenize", json=asked) as response:
            response.raise_for_status()
            known = (await response.json())["tokens"]
    random = np.random.default_rng(settings.seed)
    shape = (settings.num_prompts, settings.input_len)
    drawn: list[list[int]] = random.choice(np.array(known), shape).tolist()
    return drawn


def body_of(settings: Settings, prompt: Sequence[int], text: str, index: int) -> dict[str, Any]:
    """The request as JSON; a chat takes the prompt as text."""
    body: dict[str, Any] = {
        "model": settings.model,
        "max_tokens": settings.output_len,
        "stream": settings.stream,
        "temperature": 0,
        "seed": settings.seed + index,
        "diffusion": {"steps": settings.steps, "early_exit": not settings.ignore_eos},
    }
    if settings.endpoint == ENDPOINTS[0]:
        body["prompt"] = list(prompt)
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if settings.stream:
        body["stream_options"] = {"include_usage": True}
        body["diffusion"]["stream"] = settings.view
    return body


async def run(settings: Settings, given: Sequence[Sequence[int]]) -> Run:
    """Send a request for each prompt and wait for the last answer."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        settings.base_url,
        connector=connector,
        headers=headers(),
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
    ) as session:
        texts = await _texts(session, settings, given)
        bodies = [
            body_of(settings, *pair, at) for at, pair in enumerate(zip(given, texts, strict=True))
        ]
        limit = settings.max_concurrency
        slot = nullcontext() if limit is None else asyncio.Semaphore(limit)
        times = arrivals(len(bodies), settings.request_rate, settings.seed)
        start = time.perf_counter()

        async def due(body: dict[str, Any], at_s: float) -> Outcome:
            await asyncio.sleep(max(0.0, start + at_s - time.perf_counter()))
            async with slot:
                return await _send(session, settings, body)

        sent = map(due, bodies, times)
        outcomes = await asyncio.gather(*sent)
        return Run(outcomes=outcomes, seconds=time.perf_counter() - start)


async def _texts(
    session: aiohttp.ClientSession, settings: Settings, given: Sequence[Sequence[int]]
) -> list[str]:
    if settings.endpoint == ENDPOINTS[0]:
        return [""] * len(given)
    texts = []
    for tokens in given:
        asked = {"model": settings.model, "tokens": list(tokens)}
        async with session.post("/v1/detokenize", json=asked) as response:
            response.raise_for_status()
            texts.append((await response.json())["prompt"])
    return texts


async def _send(
    session: aiohttp.ClientSession, settings: Settings, body: dict[str, Any]
) -> Outcome:
    answer = Answer()
    start = time.perf_counter()
    try:
        async with session.post(settings.endpoint, json=body) as response:
            if response.status != 200:
                answer.fail(f"status {response.status}")
                await response.read()
            elif settings.stream:
                async for line in response.content:
                    answer.line(line, time.perf_counter() - start)
            else:
                timing = response.headers.get("server-timing", "")
                answer.body(await response.read(), timing)
    except (aiohttp.ClientError, TimeoutError) as error:
        answer.fail(type(error).__name__)
    return answer.outcome(time.perf_counter() - start)
