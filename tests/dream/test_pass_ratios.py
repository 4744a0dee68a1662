"""Deadlines of requests with a commit rule: how many passes it needs is learned as they end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from dream import Completion, Request
from dream.engine.async_engine import AsyncEngine
from dream.engine.deadlines import Deadlines
from dream.engine.pace import Pace
from dream.engine.pass_ratios import WEIGHT, PassRatios
from dream.errors import DeadlineInfeasible
from tests.models import golden_engine, request


def ruled(name: str, num_masked: int = 40, **params) -> Request:
    """A request whose rule fills four masks in each pass."""
    rule = {"threshold": 0.001, "max_commits": 4}
    return request(name, [[1, 2, 3], num_masked], **{**rule, **params})


def ended(wanted: Request) -> Completion:
    return golden_engine().generate([wanted])[0]


def learned(wanted: Request, times: int) -> PassRatios:
    ratios = PassRatios()
    completion = ended(wanted)
    for _ in range(times):
        ratios.observe(wanted, completion)
    return ratios


def test_the_ratio_comes_to_what_requests_run():
    wanted = ruled("a")
    passes = ended(wanted).usage.forward_passes
    assert passes == 10

    once, often = learned(wanted, 1), learned(wanted, 200)

    assert once.expected(wanted, 40) == pytest.approx(40 - WEIGHT * (40 - passes), abs=1)
    assert often.expected(wanted, 40) == pytest.approx(passes, abs=1)
    assert often.expected(wanted, 0) == 0
    assert often.expected(wanted, 1) == 1


def test_a_rule_says_nothing_of_requests_without_one_or_with_another():
    ratios = learned(ruled("a"), 200)

    assert ratios.expected(request("b", [[1], 40]), 40) == 40
    assert ratios.expected(ruled("c", threshold=None, entropy_bound=0.1), 40) == 40
    ratios.observe(request("b", [[1], 40]), ended(request("b", [[1], 40])))
    assert ratios.expected(request("b", [[1], 40]), 40) == 40


def deadlines() -> Deadlines:
    """Steps take a second each, and it is always 0 o'clock."""
    pace = Pace()
    pace.observe(43, 1.0)
    return Deadlines(pace, 4096, 2.0, lambda: 0.0)


def test_a_deadline_that_the_bound_forbids_holds_once_the_rule_is_known():
    due = replace(ruled("a"), deadline=30.0, min_steps=40)
    watch, completion = deadlines(), ended(ruled("a"))
    with pytest.raises(DeadlineInfeasible):
        watch.fit([due], 0, 0)

    for _ in range(50):
        watch.learn(due, completion)

    assert watch.fit([due], 0, 0) == [due]


def test_fewer_steps_than_asked_for_are_counted_whole():
    """They fill more masks each whatever the rule says, so that its ratio is not theirs."""
    watch, completion = deadlines(), ended(ruled("a"))
    for _ in range(200):
        watch.learn(ruled("a"), completion)
    needed = completion.usage.forward_passes
    short = replace(ruled("b"), deadline=1.2 * (needed - 2), min_steps=1)

    (fitted,) = watch.fit([short], 0, 0)

    assert fitted.timetable[0][1] <= needed - 2


def test_the_asynchronous_engine_learns_from_what_ends():
    """On a clock that goes on by a second whenever it is read, so each step takes one."""

    async def run_all(engine: AsyncEngine) -> None:
        for n in range(30):
            async for _ in engine.generate(ruled(f"r{n}")):
                pass

    seconds = count()
    engine = AsyncEngine(golden_engine(), lambda: float(next(seconds)))
    try:
        asyncio.run(run_all(engine))
        whole = replace(ruled("x"), deadline=engine.clock() + 40, min_steps=40)
        fitted = engine.fit([whole])
    finally:
        engine.shutdown()

    assert fitted == [whole]
