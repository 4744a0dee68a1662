"""A request that is closed: what it has so far, what that cost, and nothing afterwards."""

from __future__ import annotations

import asyncio

import pytest

from dream import AsyncEngine, Engine, Fixed, Hole, Request, SamplingParams, Template
from dream.errors import InvalidRequest
from tests.models import golden_engine


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def engine(request) -> Engine:
    return golden_engine(async_scheduling=request.param)


def request(name: str, *, num_tokens: int = 12, **fields: object) -> Request:
    params = SamplingParams(steps=None, order="left_to_right", early_exit=False)
    template = Template([Fixed([5, 6, 7]), Hole(num_tokens)])
    return Request(id=name, template=template, params=params, **fields)


def test_a_closed_request_has_what_was_committed_and_its_cost(engine):
    (whole,) = engine.generate([request("a")])
    engine.add(request("a"))
    engine.add(request("b"))
    events = []
    while sum(event.request_id == "a" for event in events) < 4:
        events += engine.step()

    closed = engine.close("a")
    while engine.has_work:
        engine.step()

    assert closed.spans[0].token_ids == whole.spans[0].token_ids[: len(closed.spans[0].token_ids)]
    assert closed.usage.forward_passes == 4
    assert closed.usage.token_forwards == 4 * 15
    assert closed.finish_reason == "stop"
    (other,) = engine.collect()
    assert (other.id, other.token_ids) == ("b", whole.token_ids)


def test_only_a_request_that_is_under_way_can_be_closed(engine):
    with pytest.raises(InvalidRequest, match="id"):
        engine.close("a")
    engine.add(request("a"))
    engine.close("a")
    with pytest.raises(InvalidRequest, match="id"):
        engine.close("a")

    assert not engine.has_work
    assert engine.collect() == []


def test_a_request_that_has_finished_is_closed_with_its_answer(engine):
    (whole,) = engine.generate([request("a")])
    engine.add(request("a"))
    while engine.has_work:
        engine.step()

    assert engine.close("a").token_ids == whole.token_ids


def test_a_stop_id_ends_a_hole_as_an_eos_does(engine):
    (whole,) = engine.generate([request("a")])
    token = whole.token_ids[8]
    first = list(whole.token_ids[3:]).index(token)

    (ended,) = engine.generate([request("b", stop_ids=[token])])
    params = SamplingParams(steps=None, order="left_to_right")
    early = Request(id="c", template=request("c").template, params=params, stop_ids=[token])
    (exited,) = engine.generate([early])

    assert list(ended.spans[0].token_ids) == list(whole.token_ids[3 : 3 + first])
    assert exited.spans[0].token_ids == ended.spans[0].token_ids
    assert exited.usage.forward_passes == first + 1
    assert exited.finish_reason == ended.finish_reason == "stop"


@pytest.mark.parametrize("bad", [[-1], ["x"], [True]])
def test_stop_ids_are_token_ids(bad):
    with pytest.raises(InvalidRequest, match="stop_ids"):
        request("a", stop_ids=bad)


def test_a_caller_may_end_its_request_with_the_step_that_it_sees():
    engine = AsyncEngine(golden_engine())

    async def run() -> list[object]:
        seen = []
        return [
            item
            async for item in engine.generate(
                request("a"), closes=lambda event: seen.append(event) or len(seen) == 3
            )
        ]

    *events, completion = asyncio.run(run())
    engine.shutdown()

    assert len(events) == 3
    assert completion.usage.forward_passes == 3
    assert completion.finish_reason == "stop"
