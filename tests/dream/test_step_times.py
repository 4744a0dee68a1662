"""How long steps take, by their tokens: counted around a real engine and by hand."""

from __future__ import annotations

import asyncio

import pytest

from dream import AsyncEngine, Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.engine.step_times import SECONDS, TOKENS, StepTimes


def test_every_step_of_an_engine_is_counted_once():
    engine = AsyncEngine(Engine.from_pretrained("embedded", EngineConfig(threads=1)))
    params = SamplingParams(steps=4, early_exit=False)
    request = Request(id="a", template=Template([Fixed([1] * 60), Hole(8)]), params=params)

    async def run() -> None:
        async for _ in engine.generate(request):
            pass

    asyncio.run(run())
    engine.shutdown()

    counts = engine.step_times.counts
    assert [sum(row) for row in counts] == [0, engine.stats.steps, 0, 0, 0, 0]
    assert engine.stats.steps == 4
    assert engine.stats.canvas_positions == 4 * 8
    assert engine.step_times.busy_s > 0


@pytest.mark.parametrize(
    ("seconds", "tokens", "row", "column"),
    [
        (SECONDS[0], 1, 0, 0),
        (SECONDS[0] * 1.01, TOKENS[0], 0, 1),
        (SECONDS[-1], TOKENS[0] + 1, 1, len(SECONDS) - 1),
        (SECONDS[-1] + 1, TOKENS[-1] + 1, len(TOKENS), len(SECONDS)),
    ],
)
def test_bounds_of_buckets_belong_to_them(seconds, tokens, row, column):
    times = StepTimes()

    times.record(tokens, seconds)

    assert times.counts[row][column] == 1
    assert times.busy_s == seconds


def test_a_step_that_computed_nothing_is_not_counted():
    times = StepTimes()

    times.record(0, 1.0)

    assert times.busy_s == 0
    assert not any(map(sum, times.counts))
