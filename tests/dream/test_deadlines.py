"""Deadlines: steps chosen from the pace, fewer on the way, refused where nothing helps.

Time is a clock that the tests hold: a step takes what a line says that it takes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import AsyncEngine, Completion, Engine, InvalidRequest, Request
from dream.engine.deadlines import Deadlines, Work, finish_times
from dream.engine.pace import Pace
from dream.errors import DeadlineInfeasible
from tests.laws.reference import run
from tests.models import golden_engine, request

laws = settings(max_examples=60, deadline=None, derandomize=True)

works = st.lists(st.builds(Work, st.integers(1, 40), st.integers(0, 12)), min_size=1, max_size=8)


def seconds(tokens: int) -> float:
    """A step's time on the clock of the tests."""
    return 0.5 + 0.01 * tokens


@laws
@given(works, st.integers(40, 120))
def test_finish_times_are_those_of_running_step_after_step(work, max_tokens):
    left = [one.passes for one in work]
    expected, now = [0.0] * len(work), 0.0
    while any(left):
        chosen, tokens = [], 0
        for n, one in enumerate(work):
            if left[n] and chosen and tokens + one.tokens > max_tokens:
                break
            if left[n]:
                chosen.append(n)
                tokens += one.tokens
        now += seconds(tokens)
        for n in chosen:
            left[n] -= 1
            if not left[n]:
                expected[n] = now

    assert finish_times(work, seconds, max_tokens, 0) == pytest.approx(expected)


@laws
@given(works, st.integers(0, 200))
def test_other_work_makes_a_step_longer_up_to_a_full_one(work, others):
    alone = finish_times(work, seconds, 100, 0)
    beside = finish_times(work, seconds, 100, others)
    full = finish_times(work, lambda tokens: seconds(max(tokens, 100)), 100, 0)

    for a, b, c in zip(alone, beside, full, strict=True):
        assert a <= b + 1e-9 <= c + 2e-9


@laws
@given(
    st.floats(0, 1),
    st.floats(1e-4, 0.1),
    st.lists(st.integers(1, 4000), min_size=2, max_size=20, unique=True),
)
def test_the_pace_finds_the_line_of_the_steps(constant, slope, sizes):
    pace = Pace(memory_s=1e12)
    for size in sizes:
        pace.observe(size, constant + slope * size)

    assert pace.step_seconds(2000) == pytest.approx(constant + slope * 2000, rel=1e-3)


@dataclass
class Server:
    """An engine and its deadlines, driven as AsyncEngine drives them, on a clock of its own."""

    engine: Engine
    now: float = 0.0
    pace: Pace = field(default_factory=Pace)
    refused: list[str] = field(default_factory=list)
    done: dict[str, tuple[float, Completion]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pace.observe(10, seconds(10))
        self.pace.observe(500, seconds(500))
        most = self.engine.limits.max_num_batched_tokens
        self.deadlines = Deadlines(self.pace, most, 2.0, lambda: self.now)

    def admit(self, wanted: Request) -> None:
        try:
            (fitted,) = self.deadlines.fit([wanted], self.engine.pending_token_forwards, 0)
        except DeadlineInfeasible:
            self.refused.append(wanted.id)
            return
        self.engine.add(fitted)
        self.deadlines.track(fitted, ())

    def step(self) -> None:
        for request_id, steps in self.deadlines.replans(0):
            self.engine.replan(request_id, steps)
        before = self.engine.stats.token_forwards
        events = self.engine.step()
        taken = seconds(self.engine.stats.token_forwards - before)
        self.now += taken
        self.pace.observe(self.engine.stats.token_forwards - before, taken)
        for event in events:
            self.deadlines.observe(event)
        for completion in self.engine.collect():
            self.deadlines.forget(completion.id)
            self.done[completion.id] = (self.now, completion)

    def serve(self, arrivals: Sequence[tuple[float, Request]]) -> None:
        """Each request arrives at its time; until all are done."""
        waiting = list(arrivals)
        while waiting or self.engine.has_work:
            if not self.engine.has_work:
                self.now = max(self.now, waiting[0][0])
            while waiting and waiting[0][0] <= self.now:
                self.admit(waiting.pop(0)[1])
            if self.engine.has_work:
                self.step()

    def met(self, arrivals: Sequence[tuple[float, Request]]) -> float:
        """Share of the deadlines that were met; a refused request has missed its."""
        in_time = [
            one.id in self.done and self.done[one.id][0] <= (one.deadline or 0)
            for _, one in arrivals
        ]
        return sum(in_time) / len(in_time)


def due(name: str, within_s: float, *, now: float = 0.0, **params) -> Request:
    """A request for 20 tokens in 20 steps, of which 5 have to run."""
    wanted = request(name, [[1, 2, 3, 4], 20], steps=20, **params)
    return replace(wanted, deadline=now + within_s, min_steps=5)


def test_time_for_all_steps_leaves_them_as_they_are():
    server = Server(golden_engine())

    server.serve([(0.0, due("a", 100))])

    finished, completion = server.done["a"]
    assert completion.usage.timetable == ((0, 20),)
    assert completion == replace(golden_engine().generate([due("a", 100)])[0])
    assert finished <= 100


def test_little_time_means_fewer_steps_and_the_timetable_repeats_them():
    server = Server(golden_engine())

    server.serve([(0.0, due("a", 10))])

    finished, completion = server.done["a"]
    (at, steps), *_ = completion.usage.timetable
    assert finished <= 10
    assert at == 0
    assert 5 <= steps < 20
    again = replace(due("a", 10), timetable=completion.usage.timetable)
    assert golden_engine().generate([again]) == [completion]


def test_what_comes_later_takes_steps_from_what_runs():
    server = Server(golden_engine())
    arrivals = [(0.0, due("a", 19)), *[(2.0, due(f"b{n}", 17, now=2.0)) for n in range(8)]]

    server.serve(arrivals)

    timetable = server.done["a"][1].usage.timetable
    assert len(timetable) > 1
    assert timetable[-1][1] < timetable[0][1]
    assert server.met(arrivals) == 1


def test_too_little_time_for_the_fewest_steps_is_refused_at_once():
    server = Server(golden_engine())

    server.admit(due("a", 2))

    assert server.refused == ["a"]
    assert not server.engine.has_work


def test_a_request_that_would_make_others_late_is_refused():
    server = Server(golden_engine(max_num_batched_tokens=24))
    for n in range(3):
        server.admit(due(f"a{n}", 16))
    assert server.refused == []

    server.admit(due("late", 6))
    server.serve([])

    assert server.refused == ["late"]
    assert all(finished <= 16 for finished, _ in server.done.values())


def test_elastic_requests_get_fewer_steps_the_more_waits_and_never_too_few():
    server = Server(golden_engine())
    elastic = replace(request("e", [[1], 40], steps=40), is_elastic=True, min_steps=8)

    def steps(backlog: float, wanted: Request = elastic) -> int:
        tokens = round(backlog * (server.pace.token_forwards_per_s or 0))
        (fitted,) = server.deadlines.fit([wanted], tokens, 0)
        return fitted.timetable[0][1] if fitted.timetable else 40

    assert steps(1.9) == 40
    assert steps(4.0) == 20
    assert steps(8.0) == 10
    assert steps(1e6) == 8
    assert steps(1e6, replace(elastic, is_elastic=False)) == 40


def poisson(rate: float, count: int, *, has_deadlines: bool) -> list[tuple[float, Request]]:
    """Mixed requests: 8 to 40 tokens, as many steps, a quarter of them needed."""
    draw, now, arrivals = random.Random(7), 0.0, []
    for n in range(count):
        now += draw.expovariate(rate)
        size = draw.choice([8, 16, 24, 40])
        wanted = request(f"r{n}", [[1, 2, 3, 4], size], steps=size, seed=n)
        deadline = now + 3 * size * seconds(size + 4)
        if has_deadlines:
            wanted = replace(wanted, deadline=deadline, min_steps=size // 4)
        arrivals.append((now, replace(wanted, deadline=deadline) if has_deadlines else wanted))
    return arrivals


def test_at_one_and_a_half_times_saturation_nearly_all_deadlines_are_met():
    """The floor, a quarter of all steps, fits: .375 of what the engine can do."""
    mean_size = (8 + 16 + 24 + 40) / 4
    batch = golden_engine(max_num_batched_tokens=64)
    full_cost = sum(size * seconds(64) * (size + 4) / 64 for size in (8, 16, 24, 40)) / 4
    rate = 1.5 / full_cost
    arrivals = poisson(rate, 150, has_deadlines=True)
    server = Server(batch)

    server.serve(arrivals)

    plain = Server(golden_engine(max_num_batched_tokens=64))
    plain.serve([(at, replace(one, deadline=None)) for at, one in arrivals])
    in_time = [plain.done[one.id][0] <= (one.deadline or 0) for _, one in arrivals]
    assert mean_size == 22
    assert server.met(arrivals) >= 0.95
    assert len(server.done) + len(server.refused) == 150
    assert sum(in_time) / 150 <= 0.8


def test_the_asynchronous_engine_plans_and_repeats():
    """On the real clock: what there is no time for is refused, and what is planned repeats."""

    async def all_of(engine: AsyncEngine, wanted: Request) -> Completion:
        *_, done = [item async for item in engine.generate(wanted)]
        assert isinstance(done, Completion)
        return done

    async def asked(engine: AsyncEngine) -> Completion:
        await all_of(engine, request("first", [[1], 30]))
        now = engine.clock()
        with pytest.raises(DeadlineInfeasible, match="deadline_ms"):
            engine.fit([replace(request("no", [[1], 60]), deadline=now, min_steps=60)])
        long = replace(request("long", [[1, 2], 200]), deadline=now + 120)
        return await all_of(engine, engine.fit([long])[0])

    engine = AsyncEngine(golden_engine())
    try:
        done = asyncio.run(asked(engine))
    finally:
        engine.shutdown()

    again = replace(request("long", [[1, 2], 200]), timetable=done.usage.timetable)
    assert golden_engine().generate([again]) == [done]


def test_a_growing_canvas_has_no_deadline():
    with pytest.raises(InvalidRequest, match="deadline"):
        replace(request("a", [4], grow_to=8), deadline=1.0)


def test_a_request_that_moved_is_watched_with_what_it_has_run():
    wanted = due("a", 30)
    events, _ = run(golden_engine(), wanted)
    server = Server(golden_engine(), now=22.0)
    server.engine.add(wanted, events["a"][:3])
    server.deadlines.track(wanted, events["a"][:3])

    server.serve([])

    finished, completion = server.done["a"]
    assert finished <= 30
    assert completion.usage.steps < 20
    assert completion.usage.timetable[0] == (0, 20)


def test_requests_that_come_in_one_step_see_each_other():
    """The engine takes them after the step that runs; until then what was promised counts."""
    server = Server(golden_engine(max_num_batched_tokens=24))
    fitted = []
    for n in range(6):
        try:
            fitted += server.deadlines.fit([due(f"a{n}", 12)], 0, 0)
        except DeadlineInfeasible:
            server.refused.append(f"a{n}")
    for one in fitted:
        server.engine.add(one)
        server.deadlines.track(one, ())

    server.serve([])

    assert server.refused
    assert all(finished <= 12 for finished, _ in server.done.values())


def test_what_was_promised_and_never_came_is_forgotten():
    server = Server(golden_engine(max_num_batched_tokens=24))
    for n in range(3):
        server.deadlines.fit([due(f"gone{n}", 16)], 0, 0)

    server.now = 11.0
    (alone,) = server.deadlines.fit([due("a", 30, now=11.0)], 0, 0)

    assert alone.timetable == ()


def test_a_deadline_that_passes_during_a_look_harms_nobody():
    times = iter([0.0, *[0.05 * n for n in range(1000)]])
    pace = Pace()
    pace.observe(10, seconds(10))
    pace.observe(500, seconds(500))
    deadlines = Deadlines(pace, 64, 2.0, lambda: next(times))
    for n in range(4):
        deadlines.track(due(f"r{n}", 1.0 + n), ())

    for _ in range(40):
        list(deadlines.replans(0))
