"""Laws of fair turns: who waits for whom, and what part of the engine each gets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.scheduling import QUANTUM, STEP, Line

laws = settings(max_examples=15, deadline=None, derandomize=True)

SIZES = st.integers(6, 16)
"""Tokens of a canvas: at most a quarter of a step."""


def add_bulk(line: Line, name: str, size: int, **fields) -> None:
    """Queue a group of about 8,000 token-forwards."""
    line.add_group(name, count=8000 // (size * (size - 2)), size=size, **fields)


@laws
@given(st.lists(SIZES, min_size=1, max_size=3), st.sampled_from(["old", "new"]), st.integers(0, 9))
def test_a_small_request_runs_at_once_whatever_waits(sizes, key, before):
    line = Line()
    for n, size in enumerate(sizes):
        add_bulk(line, f"large{n}", size=size, key="old")
    for _ in range(before):
        line.step()

    line.add("small", size=2, key=key)

    assert "small" in line.step() + line.step()


def test_a_small_request_of_a_key_with_large_ones_runs_in_the_next_step_of_its_key():
    line = Line()
    for key in "abcd":
        add_bulk(line, key, size=8, key=key)
    for _ in range(40):
        line.step()

    line.add("small", size=2, key="c")

    assert any("small" in line.step() for _ in range(4))


def test_a_small_request_of_a_new_key_leads_the_next_step_alone():
    line = Line()
    line.add_group("large", count=100, key="greedy")
    for _ in range(3):
        line.step()

    line.add("small", key="polite")

    assert line.step() == ["small"]


@laws
@given(SIZES, SIZES, st.integers(0, 30))
def test_two_keys_that_always_have_work_get_equal_parts(first, second, late):
    line = Line()
    add_bulk(line, "a", size=first, key="a")
    for _ in range(late):
        line.step()
    before = line.served_by("a")
    add_bulk(line, "b", size=second, key="b")

    for _ in range(60):
        line.step()
        ahead = line.served_by("b") - (line.served_by("a") - before)
        assert -2 * STEP <= ahead <= QUANTUM + 2 * STEP


def test_many_keys_that_always_have_work_get_equal_parts():
    line = Line()
    for key in "abcde":
        add_bulk(line, key, size=8 + ord(key) % 5, key=key)

    for _ in range(100):
        line.step()

    parts = [line.served_by(key) for key in "abcde"]
    assert max(parts) - min(parts) <= QUANTUM // 4 + 2 * STEP


def latencies(arrivals: list[int], beside: bool) -> list[int]:
    """Tokens that the engine computed between the arrival and the end of each polite request."""
    line, coming, count = Line(quantum=4096), list(enumerate(arrivals)), 0
    while len(line.finished.keys() & {f"p{n}" for n in range(len(arrivals))}) < len(arrivals):
        while coming and coming[0][1] <= line.clock:
            line.add(f"p{coming.pop(0)[0]}", size=16, steps=15, key="polite")
        if beside and len(line.canvases) < 40:
            count += 1
            line.add_group(f"g{count}", count=16, size=16, key="greedy")
        if not line.step():
            line.clock = coming[0][1]
    return sorted(line.finished[f"p{n}"] - arrival for n, arrival in enumerate(arrivals))


@pytest.mark.parametrize("load", [0.2, 0.4])
def test_a_greedy_key_adds_less_than_half_to_the_wait_of_a_polite_one(load):
    draw, now, arrivals = random.Random(4), 10_000.0, []
    for _ in range(200):
        now += draw.expovariate(load / (16 * 14))
        arrivals.append(int(now))

    alone, together = latencies(arrivals, beside=False), latencies(arrivals, beside=True)

    assert together[197] <= 1.5 * alone[197]
    assert together[100] <= 1.5 * alone[100]


FLOODS = {
    "short work of the same key": ({}, {}, 4),
    "short work beside less short work": ({}, {"group": None}, 4),
    "deadlines of the same key": ({"deadline": 1.0}, {}, 4),
    "interactive work": ({}, {"priority": "batch"}, 16),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("size", [16, 40])
def test_a_flood_leaves_the_stated_part_to_those_that_wait(kind, size):
    flood, old, parts = FLOODS[kind]
    line, count = Line(), 0
    for n in range(200):
        line.add(f"old{n}", size, **{"group": "old", **old})

    for step in range(200):
        for _ in range(5):
            line.add(f"flood{count}", steps=2, **flood)
            count += 1
        line.step()
        if step == 20:
            begin, served = line.clock, line.served_by("old")

    part = (line.served_by("old") - served) / (line.clock - begin)
    assert 0.9 / parts <= part <= 1.5 / parts


def test_an_old_key_runs_again_once_those_that_waited_with_it_have_run():
    line, count, waits_since, bound = Line(), 0, 0, 8 * STEP
    add_bulk(line, "old", size=8, key="old")

    for _ in range(200):
        for _ in range(2):
            line.add(f"new{count}", key=f"new{count}")
            count += 1
        if any(name.startswith("old") for name in line.step()):
            waits_since = line.clock
            waiting = {canvas.request.key for canvas in line.canvases.values()}
            bound = 8 * STEP * (len(waiting) + 1)
        assert line.clock - waits_since <= bound


@laws
@given(
    st.lists(st.tuples(SIZES, st.integers(1, 12)), min_size=1, max_size=8),
    st.sampled_from([1, 60, QUANTUM]),
    st.sampled_from([8, 30, STEP]),
)
def test_every_canvas_runs_within_a_bound_of_tokens(groups, quantum, step):
    """Beside other groups that come at the same time.

    While the group of a canvas takes the turns that its earlier canvases need, each other large
    group takes as many, and each small one runs. What is due to larger ones is a part beside that.
    """
    line, largest = Line(quantum=quantum, step=step), max(step, *(size for size, _ in groups))
    waiting_since, bounds = {}, {}
    for n, (size, count) in enumerate(groups):
        line.add_group(f"g{n}", count=count, size=size)
        for place in range(count):
            turns = place * size * size // quantum + 2
            each = turns * (quantum + largest) + quantum
            waiting_since[f"g{n}-{place}"] = 0
            bounds[f"g{n}-{place}"] = 2 * len(groups) * each + 4 * largest

    while line.canvases:
        for name in line.step():
            assert line.clock - waiting_since[name] <= bounds[name]
            waiting_since[name] = line.clock
