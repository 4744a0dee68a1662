"""Laws of turns: who needs more than a quantum goes on behind those that wait."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Engine, Request
from tests.laws.reference import run
from tests.models import golden_engine, request

laws = settings(max_examples=25, deadline=None, derandomize=True)


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


def test_a_turn_longer_than_every_request_is_first_come_first_served():
    wanted = [LONG, SHORT, request("third", ([4], 8)), request("fourth", ([5, 6], 12))]
    engine = golden_engine(max_num_batched_tokens=32, quantum=2**40)
    together = golden_engine(max_num_batched_tokens=4096, quantum=2**40)

    found = finished_after(engine, wanted)

    assert found["long"] == 29
    assert found["short"] == 29 + 4
    assert max(finished_after(together, wanted).values()) == 29


@laws
@given(
    st.lists(st.integers(2, 14), min_size=2, max_size=5),
    st.sampled_from([1, 10, 40, 200]),
    st.sampled_from([1, 16, 30]),
    st.integers(0, 6),
)
def test_nobody_waits_longer_than_a_turn_of_each_of_the_others(sizes, quantum, rows, late):
    wanted = [request(f"r{n}", ([n + 1], size)) for n, size in enumerate(sizes)]
    alone = {one.id: run(golden_engine(), one) for one in wanted}
    engine = golden_engine(max_num_batched_tokens=rows, quantum=quantum)
    turns = {one.id: -(-quantum // one.template.num_tokens) for one in wanted}
    coming, served, told, count = list(wanted), {}, [], 0
    engine.add(coming.pop(0))

    while engine.has_work or coming:
        if coming and count >= late:
            one = coming.pop(0)
            engine.add(one)
            served[one.id] = count
        events = engine.step()
        count += 1
        for name in {event.request_id for event in events}:
            others = sum(turn for other, turn in turns.items() if other != name)
            assert count - served.get(name, 0) <= others + 1
            served[name] = count
        told += events

    done = {completion.id: completion for completion in engine.collect()}
    for name, (events, completions) in alone.items():
        assert [e for e in told if e.request_id == name] == events[name]
        assert done[name] == completions[name]
