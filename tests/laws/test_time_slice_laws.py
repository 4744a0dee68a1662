"""Laws of turns: who needs more than a quantum goes on behind those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Engine, Request
from tests.laws.reference import run
from tests.models import golden_engine, request

laws = settings(max_examples=15, deadline=None, derandomize=True)


def finished_after(engine: Engine, wanted: Sequence[Request]) -> dict[str, int]:
    """After how many steps each request is complete."""
    for one in wanted:
        engine.add(one)
    found, count = {}, 0
    while engine.has_work:
        engine.step()
        count += 1
        found |= {done.id: count for done in engine.collect()}
    return found


LONG, SHORT = request("long", ([1, 2], 30)), request("short", ([3], 5))


@pytest.mark.parametrize("quantum", [1, 32, 64])
def test_a_short_request_behind_a_long_one_is_done_long_before_it(quantum):
    engine = golden_engine(max_num_batched_tokens=32, quantum=quantum)

    found = finished_after(engine, [LONG, SHORT])

    turn = -(-quantum // 32)
    assert found["short"] <= 4 * (turn + 1)
    assert found["long"] == 29 + 4


def test_requests_of_one_size_are_first_come_first_served():
    wanted = [request(f"r{n}", ([n], 7)) for n in range(12)]
    engine = golden_engine(max_num_batched_tokens=32)

    found = finished_after(engine, wanted)

    assert list(found) == [f"r{n}" for n in range(12)]
    assert list(found.values()) == [6] * 4 + [12] * 4 + [18] * 4


def large_requests(key: str) -> list[Request]:
    """Five requests of 128 canvases each, as of 16 prompts and n 8."""
    shape = ([1, 2], 6)
    return [
        replace(request(f"{key}{g}-{n}", shape), key=key, group=f"{key}{g}")
        for g in range(5)
        for n in range(128)
    ]


@pytest.mark.parametrize("key", ["large", "another"])
def test_a_request_of_one_token_does_not_wait_for_large_ones(key):
    engine = golden_engine(max_num_batched_tokens=256)
    for one in large_requests("large"):
        engine.add(one)
    engine.step()
    wanted = replace(request("small", ([3], 1), steps=1), key=key)

    engine.add(wanted)
    engine.step()

    assert [done.id for done in engine.collect()] == ["small"]


@laws
@given(
    st.lists(st.integers(2, 14), min_size=2, max_size=5),
    st.sampled_from([1, 10, 40, 200]),
    st.sampled_from([1, 16, 30]),
    st.integers(0, 6),
)
def test_nobody_waits_longer_than_a_turn_of_each_other_and_small_ones(sizes, quantum, tokens, late):
    wanted = [request(f"r{n}", ([n + 1], size)) for n, size in enumerate(sizes)]
    alone = {one.id: run(golden_engine(), one) for one in wanted}
    engine = golden_engine(max_num_batched_tokens=tokens, quantum=quantum)
    bound = len(wanted) * (2 * quantum + 15) * 4 / 3 + 4 * max(tokens, 15)
    coming, waits_since, told, clock = list(wanted), {}, [], 0
    engine.add(coming.pop(0))

    while engine.has_work or coming:
        if coming and clock >= late:
            one = coming.pop(0)
            engine.add(one)
            waits_since[one.id] = clock
        events = engine.step()
        clock = engine.stats.token_forwards
        for event in events:
            assert clock - waits_since.get(event.request_id, 0) <= bound
            waits_since[event.request_id] = clock
        told += events

    done = {completion.id: completion for completion in engine.collect()}
    for name, (events, completions) in alone.items():
        assert [e for e in told if e.request_id == name] == events[name]
        assert done[name] == completions[name]
