"""Requests at Poisson times, in one process and without HTTP, as `benchmarks.load` offers them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.gpu.bench import NO_TIME, Bench, Budget
from benchmarks.gpu.record import Finding, skipped
from benchmarks.load import SETTINGS, TimedEngine, run_load
from benchmarks.load_report import Load
from dream import AsyncEngine

__all__ = ["load"]

LOADS = (0.5, 1.0)
"""Shares of the rate at saturation, which the run with all requests at once gives."""


def load(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """All requests at once, then the same ones at Poisson times at half and at all of that rate."""
    size, mode = bench.size, bench.best_mode
    mix = SETTINGS["7b" if size.has_goals else "tiny"][2]
    wanted = mix.draw(size.load_requests, seed=0)
    arrivals = np.sort(np.random.default_rng(1).random(len(wanted)))
    config = bench.config(mode, rows=max(size.step_rows))
    engine = TimedEngine(bench.network, None, config)
    lane = AsyncEngine(engine)
    offer = partial(run_load, engine, lane)
    try:
        asyncio.run(offer(mix.draw(2, seed=2), [0.0] * 2, None))
        closed = asyncio.run(offer(wanted, [0.0] * len(wanted), None))
        yield from _told(closed, "all at once", mode)
        for share in LOADS:
            if budget.left_s < closed.seconds / share:
                yield skipped(f"load {share:g}", NO_TIME, mode)
                continue
            arrivals_s = (arrivals * closed.seconds / share).tolist()
            yield from _told(asyncio.run(offer(wanted, arrivals_s, share)), f"load {share:g}", mode)
    finally:
        lane.shutdown()


def _told(found: Load, what: str, mode: str) -> Iterator[Finding]:
    values = {
        "tokens/s": found.tokens_per_s,
        "us a token-forward": found.cost_us,
        "s, half of the requests": found.p50_s,
        "s, 99 % of the requests": found.p99_s,
    }
    for unit, value in values.items():
        yield Finding(what=f"Poisson, {what}", value=value, unit=unit, mode=mode)
