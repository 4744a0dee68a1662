"""Admission by cost: what would wait too long is refused, and a key that queues much alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.admission import Admission, KeyLoads
from deployments.messages import CanvasRequest, Refusal
from dream import AsyncEngine, Engine, EngineConfig, Hole, Request, SamplingParams, Template
from dream.engine.facts import read_facts
from dream.text import TextTemplate


def request(name: str, key: str, size: int) -> Request:
    """A request of size x size token-forwards."""
    params = SamplingParams(steps=size)
    return Request(id=name, template=Template([Hole(size)]), params=params, key=key)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), max_size=6),
    st.sampled_from("abcd"),
    st.integers(1, 900),
    st.integers(100, 3000),
)
def test_a_key_within_its_part_and_all_within_the_whole_are_let_in(running, key, cost, most):
    loads = KeyLoads()
    requests = [request(f"r{n}", owner, size) for n, (owner, size) in enumerate(running)]

    with loads.counting(requests):
        own = sum(size**2 for owner, size in running if owner == key)
        total = sum(size**2 for _, size in running)
        num_keys = len({owner for owner, _ in running} | {key})
        is_let_in = loads.excess(key, cost, most) == 0

    assert is_let_in == (total + cost <= most or own + cost <= most / num_keys)
    assert loads.excess(key, cost, cost) == 0


@pytest.fixture(scope="module")
def engine():
    config = EngineConfig(threads=1)
    engine = AsyncEngine(Engine.from_pretrained("embedded", config))
    yield engine
    engine.shutdown()


def test_a_key_that_queues_too_much_is_refused_and_another_is_not(engine):
    """Less than one second of work may wait, and a long request runs."""
    admission = Admission(read_facts("embedded", EngineConfig()), engine)
    params = SamplingParams(steps=400, early_exit=False)
    long = CanvasRequest(id="l", template=TextTemplate([Hole(400)]), params=params, key="greedy")
    small = replace(long, template=TextTemplate([Hole(4)]), params=SamplingParams(steps=1))

    async def admitted(message: CanvasRequest) -> list[Request] | Refusal:
        return await admission.admit([message], max_token_forwards=10**7, max_queue_s=0.1)

    async def run() -> list[list[Request] | Refusal]:
        (first,) = await admission.admit([long], max_token_forwards=10**7, max_queue_s=0.1)
        events = engine.generate(first)
        with admission.loads.counting([first]):
            await anext(events)
            again = await admitted(replace(long, id="again"))
            moved = await admitted(replace(long, id="moved", is_accepted=True))
            polite = await admitted(replace(small, id="p", key="polite"))
        await events.aclose()
        return [again, moved, polite]

    try:
        again, moved, polite = asyncio.run(run())
    finally:
        admission.close()

    assert isinstance(again, Refusal)
    assert again.code == "overloaded"
    assert (again.retry_after_s or 0) >= 1
    assert isinstance(moved, list)
    assert isinstance(polite, list)
