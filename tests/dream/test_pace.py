"""The measured rate of an engine, and the age of its running step."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import (
    AsyncEngine,
    Completion,
    Engine,
    EngineConfig,
    Hole,
    Request,
    SamplingParams,
    Template,
)
from dream.engine.pace import Pace

steps = st.lists(
    st.tuples(st.integers(0, 10**6), st.floats(0, 100, allow_nan=False)), min_size=1, max_size=20
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(steps)
def test_the_rate_lies_between_the_slowest_and_the_fastest_step(observed):
    pace = Pace()
    for tokens, seconds in observed:
        pace.observe(tokens, seconds)

    rates = [tokens / seconds for tokens, seconds in observed if tokens > 0 and seconds > 0]
    if not rates:
        assert pace.token_forwards_per_s is None
    else:
        assert pace.token_forwards_per_s is not None
        assert min(rates) * 0.999 <= pace.token_forwards_per_s <= max(rates) * 1.001


def test_an_old_rate_fades():
    pace = Pace(memory_s=10)
    pace.observe(100_000, 1.0)

    for _ in range(100):
        pace.observe(1_000, 1.0)

    assert pace.token_forwards_per_s == pytest.approx(1_000, rel=0.01)


def test_large_steps_weigh_as_much_as_they_take():
    pace = Pace(memory_s=1e9)
    pace.observe(10, 1.0)
    pace.observe(90_000, 9.0)

    assert pace.token_forwards_per_s == pytest.approx(9_001)


def test_the_age_of_a_step_grows_until_it_ends():
    engine = Engine.from_pretrained("embedded", EngineConfig(threads=1))
    is_in_step, may_go_on, clock = threading.Event(), threading.Event(), [100.0]

    def stall(module: torch.nn.Module, inputs: tuple[object, ...]) -> None:
        is_in_step.set()
        assert may_go_on.wait(60)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(stall)
    asynchronous = AsyncEngine(engine, clock=lambda: clock[0])
    request = Request(id="a", template=Template([Hole(8)]), params=SamplingParams(steps=2))

    async def last() -> Completion:
        async for item in asynchronous.generate(request):
            if isinstance(item, Completion):
                return item
        raise AssertionError

    async def run() -> Completion:
        assert asynchronous.step_age_s == 0
        task = asyncio.create_task(last())
        await asyncio.to_thread(is_in_step.wait, 60)
        clock[0] += 7.0
        assert asynchronous.step_age_s == 7.0
        assert asynchronous.pace.token_forwards_per_s is None
        may_go_on.set()
        return await task

    try:
        completion = asyncio.run(run())
    finally:
        may_go_on.set()
        hook.remove()
        asynchronous.shutdown()

    assert completion.usage.token_forwards == 16
    assert asynchronous.step_age_s == 0
    assert asynchronous.pace.token_forwards_per_s == pytest.approx(8 / 7)
