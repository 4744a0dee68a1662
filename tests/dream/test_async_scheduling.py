"""A step that is launched before the one before it is read gives the tokens of the plain order."""

from __future__ import annotations

import pytest

from dream import EngineConfig
from dream.canvas import Canvas
from dream.engine.engine import Engine
from dream.engine.scheduler import Scheduler
from dream.engine.slots import SlotPool
from tests.dream.test_no_waiting import SETTINGS, wanted
from tests.models import golden_engine, golden_model
from tests.models import request as build_request

LEAST = 24


def engine_with_halves(**config) -> Engine:
    """An engine that splits steps from two times 24 tokens on; on a CPU nothing runs beside."""
    engine = Engine(golden_model(), None, EngineConfig(async_scheduling=True, **config))
    engine._scheduler._least_half = LEAST
    return engine


def run(engine: Engine, requests) -> tuple[dict[str, list[int]], int]:
    """Tokens of each request, and the most steps that were launched and not read."""
    for request in requests:
        engine.add(request)
    most = 0
    while engine.has_work:
        engine._launch()
        most = max(most, len(engine._launched))
        engine.step()
    return {done.id: list(done.token_ids) for done in engine.collect()}, most


@pytest.mark.parametrize("tokens", [64, 4096])
def test_every_kind_of_request_gets_the_tokens_of_the_plain_order(tokens):
    requests = [
        wanted(f"{name}{n}", **params) for n in range(3) for name, params in SETTINGS.items()
    ]
    plain = golden_engine().generate(requests)

    found, most = run(engine_with_halves(max_num_batched_tokens=tokens), requests)

    assert most == 2
    assert found == {done.id: list(done.token_ids) for done in plain}


def test_few_tokens_stay_one_step():
    found, most = run(engine_with_halves(), [build_request("a", [[1, 2], 9], steps=3)])

    assert found
    assert most == 1


def test_a_request_that_leaves_while_its_step_runs_gives_nothing_and_may_come_again():
    engine = engine_with_halves()
    others = [build_request(f"r{n}", [[n + 1] * 6, 12], steps=4) for n in range(6)]
    for request in others:
        engine.add(request)
    again = build_request("r2", [[9] * 5, 7], steps=2)

    engine.step()
    assert engine._launched
    for name in ("r0", "r2"):
        engine.abort(name)
    engine.add(again)
    while engine.has_work:
        engine.step()

    found = {done.id: list(done.token_ids) for done in engine.collect()}
    expected = golden_engine().generate([*(r for r in others if r.id not in ("r0", "r2")), again])
    assert found == {done.id: list(done.token_ids) for done in expected}
    assert engine._scheduler.pending_token_forwards == 0


def canvas(name: str, size: int) -> Canvas:
    request = build_request(name, [[1], size - 1])
    return golden_engine()._make.make(request)


def test_both_halves_together_are_the_first_in_line_that_fit():
    scheduler = Scheduler(
        max_num_batched_tokens=100, quantum=10**6, slots=SlotPool(0), halves=True, least_half=40
    )
    line = [canvas(f"c{n}", 10) for n in range(14)]
    for one in line:
        scheduler.add(one)

    first = scheduler.schedule()
    scheduler.mark(first, is_running=True)
    second = scheduler.schedule()
    scheduler.mark(second, is_running=True)
    assert first + second == line[:10]
    assert len(first) == len(second) == 5
    assert scheduler.schedule() == []

    scheduler.mark(first, is_running=False)
    assert scheduler.schedule() == first
    for one in first[:4]:
        scheduler.remove(one)
    scheduler.mark(first, is_running=True)
    assert scheduler.schedule() == line[10:]


@pytest.mark.parametrize("stage", ["launch", "read"])
def test_a_step_that_fails_keeps_nobody_waiting(stage, monkeypatch):
    engine = engine_with_halves()
    requests = [build_request(f"r{n}", [[n + 1] * 6, 12], steps=4) for n in range(6)]
    for request in requests:
        engine.add(request)

    def fails(step):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine._runner, stage, fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.step()
    while engine.has_work:
        engine.step()

    assert {done.id for done in engine.collect()} == {request.id for request in requests}
