"""The same requests through an `AsyncEngine` in this process: what they cost without HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass

from benchmarks.serving.null_engine import NullEngine
from benchmarks.serving.settings import Settings
from dream import (
    AsyncEngine,
    Completion,
    Engine,
    EngineConfig,
    Fixed,
    Hole,
    Request,
    SamplingParams,
    Template,
)
from dream.engine.warm import made_apart, warm_engine

__all__ = ["Alone", "run_alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Seconds on the clock and of the processor, and the masks that they filled."""

    seconds: float
    cpu_s: float
    masks: int


def run_alone(settings: Settings, given: Sequence[Sequence[int]]) -> Alone:
    """All requests at the same concurrency as over HTTP, sent at once."""
    engine = AsyncEngine(_engine(settings))
    try:
        requests = [_request(settings, prompt, at) for at, prompt in enumerate(given)]
        asyncio.run(_all(engine, requests[: settings.num_warmups], settings.max_concurrency))
        start, cpu_start = time.perf_counter(), time.process_time()
        done = asyncio.run(_all(engine, requests, settings.max_concurrency))
        return Alone(
            seconds=time.perf_counter() - start,
            cpu_s=time.process_time() - cpu_start,
            masks=len(done) * settings.output_len,
        )
    finally:
        engine.shutdown()


def _engine(settings: Settings) -> Engine:
    config = EngineConfig(threads=1)
    if settings.serve == "null":
        return made_apart(lambda: NullEngine.from_pretrained(settings.model, config))
    return warm_engine(settings.model, config)


def _request(settings: Settings, prompt: Sequence[int], index: int) -> Request:
    params = SamplingParams(
        steps=settings.steps,
        early_exit=not settings.ignore_eos,
        seed=settings.seed + index,
    )
    template = Template([Fixed(prompt), Hole(settings.output_len)])
    return Request(id=str(index), template=template, params=params)


async def _all(
    engine: AsyncEngine, requests: Sequence[Request], limit: int | None
) -> list[Completion]:
    slot = nullcontext() if limit is None else asyncio.Semaphore(limit)

    async def one(request: Request) -> Completion:
        async with slot, aclosing(engine.generate(request)) as items:
            async for item in items:
                if isinstance(item, Completion):
                    return item
        raise AssertionError("generate ends with a completion")

    return list(await asyncio.gather(*map(one, requests)))
