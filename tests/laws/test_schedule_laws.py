"""Laws of a step: how full it is, and in which order canvases get into it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.scheduling import QUANTUM, STEP, Line

laws = settings(max_examples=15, deadline=None, derandomize=True)

SIZES = st.integers(6, 16)


@laws
@given(
    st.lists(st.tuples(st.integers(2, 20), st.sampled_from([None, "x", "y"])), max_size=30),
    st.sampled_from([8, 40, STEP]),
    st.sampled_from([1, 60, QUANTUM]),
    st.booleans(),
)
def test_a_key_leaves_no_more_room_than_a_canvas_that_waits_needs(wanted, step, quantum, urgent):
    line = Line(step=step, quantum=quantum)
    for n, (size, group) in enumerate(wanted):
        line.add(f"r{n}", size=size, group=group, deadline=float(n % 3) if urgent else None)

    while line.canvases:
        sizes = {name: len(canvas) for name, canvas in line.canvases.items()}
        names = line.step()
        assert len(names) == len(set(names)) > 0
        left = step - sum(sizes.pop(name) for name in names)
        assert left >= 0 or len(names) == 1
        assert not sizes or left < max(sizes.values())


@laws
@given(st.integers(2, 40), SIZES, st.sampled_from([8, STEP]))
def test_equal_requests_run_in_the_order_in_which_they_came(count, size, step):
    line = Line(step=step)
    for n in range(count):
        line.add(f"r{n}", size=size)

    while line.canvases:
        line.step()

    assert list(line.finished) == [f"r{n}" for n in range(count)]


@laws
@given(st.permutations(range(12)), SIZES)
def test_deadlines_are_met_in_their_order_before_all_else(deadlines, size):
    line = Line()
    line.add_group("old", count=100)
    for n in range(5):
        line.add(f"short{n}")
    for deadline in deadlines:
        line.add(f"{deadline}", size=size, deadline=float(deadline))

    while len(line.canvases) > 60:
        line.step()

    finished = [name for name in line.finished if name.isdigit()]
    assert finished == [str(n) for n in range(12)]
    assert max(line.finished[name] for name in finished) <= 12 * size * size * 4 / 3 + 4 * STEP


def test_a_deadline_goes_first_only_while_its_key_has_used_less_than_its_part():
    line = Line()
    line.add_group("greedy", count=100, key="greedy", deadline=1.0)
    for _ in range(20):
        line.step()

    line.add("plain", key="plain")
    line.add("urgent", key="urgent", deadline=9.0)

    assert line.step() == ["urgent"]
    while "urgent" in line.canvases:
        line.step()
    assert line.step() == ["plain"]


def test_batch_work_runs_when_no_interactive_work_waits():
    line = Line()
    line.add_group("batch", count=20, priority="batch")
    assert len(line.step()) == 8

    line.add("now")

    assert [line.step() for _ in range(6)] == [["now"]] * 6
    assert len(line.step()) == 8


@pytest.mark.parametrize("shared", [0, 16, 40, 1000])
@pytest.mark.parametrize("others", [{"key": "other"}, {"priority": "batch"}])
def test_others_join_a_step_up_to_the_shared_tokens(shared, others):
    line = Line(max_shared_tokens=shared)
    line.add_group("other", count=50, **others)
    line.step()
    line.add("first")

    names = line.step()

    assert names[0] == "first"
    assert len(names) == max(1, min(shared, STEP) // 8)


def test_others_do_not_join_a_step_that_is_as_large_already():
    line = Line(max_shared_tokens=16)
    line.add_group("other", count=50, key="other")
    line.step()
    line.add_group("first", count=4, key="first")

    assert len(line.step()) == 4


def test_beside_a_small_step_that_runs_no_other_key_starts_a_large_one():
    line = Line(max_shared_tokens=16, halves=True, least_half=24)
    line.add_group("other", count=50, key="other")
    line.step()
    line.add("small", key="polite")

    first = line.scheduler.schedule()
    line.scheduler.mark(first, is_running=True)

    assert [canvas.request.id for canvas in first] == ["small", "other-0"]
    assert line.scheduler.schedule() == []


@laws
@given(st.lists(st.integers(2, 30), min_size=1, max_size=12))
def test_slots_are_lent_in_the_order_of_arrival_and_keep_nobody_else_waiting(sizes):
    line = Line(slots=32, quantum=30)
    for n, size in enumerate(sizes):
        line.add(f"s{n}", size=size, params={"history": 2, "alg": "maskgit_plus"})
    line.add("plain", size=4)

    while line.canvases:
        line.step()
        assert sum(len(c) for c in line.canvases.values() if c.slots is not None) <= 32

    assert "plain" in line.finished
    assert line.lent == [f"s{n}" for n in range(len(sizes))]


@laws
@given(
    st.lists(
        st.tuples(
            SIZES,
            st.sampled_from(["", "a", "b"]),
            st.sampled_from([None, "x"]),
            st.sampled_from(["interactive", "batch"]),
            st.sampled_from([None, 1.0, 2.0]),
        ),
        max_size=20,
    ),
    st.integers(0, 100),
)
def test_schedulers_that_are_told_the_same_choose_the_same(wanted, shared):
    lines = [Line(max_shared_tokens=shared) for _ in range(2)]
    for n, (size, key, group, priority, deadline) in enumerate(wanted):
        for line in lines:
            fields = {"key": key, "group": group, "priority": priority, "deadline": deadline}
            line.add(f"r{n}", size=size, **fields)
        assert lines[0].step() == lines[1].step()

    while lines[0].canvases:
        assert lines[0].step() == lines[1].step()

    assert not lines[1].canvases
    assert lines[0].scheduler.pending_token_forwards == 0
