"""Tokens/s of an engine over some requests, for as long as there is time."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.model import requests
from dream import Engine, Request

__all__ = ["alone_tokens_per_s", "tokens_per_s"]


def alone_tokens_per_s(bench: Bench, engine: Engine, most_s: float, **params: object) -> float:
    """Of the last of three requests, one at a time; by then nothing is new to the device."""
    size = bench.size
    return [
        tokens_per_s(engine, [request], most_s / 3)
        for request in requests(size, 3, prompt=size.prompt, holes=size.canvas, **params)
    ][-1]


def tokens_per_s(engine: Engine, wanted: Sequence[Request], most_s: float) -> float:
    """Of requests at once, to their end or for so long; at least one step is taken."""
    for request in wanted:
        engine.add(request)
    before, start = engine.stats.committed_tokens, time.perf_counter()
    engine.step()
    while engine.has_work and time.perf_counter() - start < most_s:
        engine.step()
    seconds = time.perf_counter() - start
    for request in wanted:
        engine.abort(request.id)
    return (engine.stats.committed_tokens - before) / seconds
