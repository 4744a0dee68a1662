"""AsyncEngine: continuous batching, cancelling, and a death that reaches every caller."""

from __future__ import annotations

import asyncio

import pytest

from dream import AsyncEngine, Completion, InvalidRequest, StepEvent
from dream.errors import EngineError
from tests.models import VOCAB, golden_engine, request


async def collect(engine: AsyncEngine, wanted) -> tuple[list, Completion]:
    *events, done = [item async for item in engine.generate(wanted)]
    return events, done


async def until(condition) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def engine():
    engine = AsyncEngine(golden_engine())
    yield engine
    engine.shutdown()


def test_many_requests_share_forwards_and_equal_the_plain_engine(engine):
    wanted = [request(f"r{n}", [[n + 1] * 3, n + 4], steps=n + 4) for n in range(12)]
    expected = golden_engine().generate(wanted)

    async def run():
        return await asyncio.gather(*(collect(engine, one) for one in wanted))

    results = asyncio.run(run())

    assert [done for _, done in results] == expected
    for events, done in results:
        assert len(events) == done.usage.forward_passes
    assert engine.stats.steps < sum(done.usage.forward_passes for done in expected)


def test_closing_the_stream_frees_the_canvas(engine):
    async def run():
        stream = engine.generate(request("long", [[1], 500], steps=500))
        await anext(stream)
        await stream.aclose()
        await until(lambda: engine.num_requests == 0)

    asyncio.run(run())

    assert engine.stats.requests_aborted == 1
    assert engine.queued_token_forwards == 0


def test_a_request_goes_on_from_its_events_and_only_what_follows_is_told(engine):
    wanted = request("moved", [[1, 2], 12], steps=12)
    events, done = asyncio.run(collect(engine, wanted))

    async def resumed():
        return [item async for item in engine.generate(wanted, so_far=events[:5])]

    assert asyncio.run(resumed()) == [*events[5:], done]


def test_steps_that_had_ended_a_request_end_it_again(engine):
    """The engine that ran them died before it could say so."""
    wanted = request("closed", [[1, 2], 12], steps=12)
    events, _ = asyncio.run(collect(engine, wanted))

    async def resumed():
        def is_last(event: StepEvent) -> bool:
            return event.step == events[4].step

        return [item async for item in engine.generate(wanted, is_last, events[:5])]

    (done,) = asyncio.run(resumed())
    assert done.usage.forward_passes == 5


def test_cancelling_the_waiting_task_frees_the_canvas(engine):
    async def run():
        task = asyncio.create_task(collect(engine, request("long", [[1], 500], steps=500)))
        await until(lambda: engine.stats.steps > 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: engine.num_requests == 0)

    asyncio.run(run())


def test_a_bad_request_is_refused_and_the_others_go_on(engine):
    async def run():
        good = asyncio.create_task(collect(engine, request("good", [[1], 8])))
        with pytest.raises(InvalidRequest, match="token_ids"):
            await collect(engine, request("bad", [[VOCAB], 8]))
        return await good

    _, done = asyncio.run(run())

    assert done.id == "good"


def test_cancelling_a_duplicate_leaves_the_first_request_alone(engine):
    async def run():
        first = asyncio.create_task(collect(engine, request("same", [[1], 60], steps=60)))
        await until(lambda: engine.stats.steps > 1)
        second = asyncio.create_task(collect(engine, request("same", [[1], 60], steps=60)))
        await asyncio.sleep(0)
        second.cancel()
        async with asyncio.timeout(120):
            return await first

    _, done = asyncio.run(run())

    assert done.id == "same"


def test_an_id_can_be_used_again_at_once_after_a_cancel(engine):
    async def once():
        stream = engine.generate(request("same", [[1], 40], steps=40))
        await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(120):
            return await collect(engine, request("same", [[2], 4]))

    for _ in range(20):
        _, done = asyncio.run(once())
        assert done.token_ids[0] == 2


def test_the_backlog_counts_token_forwards_and_drains(engine):
    async def run():
        stream = engine.generate(request("a", [[1] * 10, 20], steps=20))
        await anext(stream)
        backlog = engine.queued_token_forwards
        async for _ in stream:
            pass
        return backlog

    backlog = asyncio.run(run())

    assert 0 < backlog <= 30 * 18
    assert engine.queued_token_forwards == 0


def test_when_the_engine_dies_every_caller_hears_of_it():
    class Broken(type(golden_engine())):
        def step(self):
            raise RuntimeError("device lost")

    plain = golden_engine()
    plain.__class__ = Broken
    engine = AsyncEngine(plain)

    async def run():
        tasks = [collect(engine, request(f"r{n}", [[1], 4])) for n in range(3)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    errors = asyncio.run(run())

    assert all(isinstance(error, EngineError) for error in errors)
    assert any("device lost" in str(error) for error in errors)
    with pytest.raises(EngineError, match="device lost"):
        engine.check_health()


def test_when_the_engine_dies_at_an_arrival_those_that_came_with_it_hear_of_it(monkeypatch):
    """`add` may fail only with what a request did wrong; anything else ends the engine."""
    dying = golden_engine()
    monkeypatch.setattr(dying, "add", lambda request: 1 / 0)
    engine = AsyncEngine(dying)

    async def run() -> list[object]:
        waiting = [collect(engine, request(name, [[1], 4])) for name in "abc"]
        return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)

    outcomes = asyncio.run(run())

    assert [type(outcome) for outcome in outcomes] == [EngineError] * 3
    engine.shutdown()


def test_after_shutdown_nothing_is_taken(engine):
    engine.shutdown()

    with pytest.raises(EngineError, match="shut down"):
        asyncio.run(collect(engine, request("a", [[1], 2])))
