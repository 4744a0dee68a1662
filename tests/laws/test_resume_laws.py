"""Laws of requests that move or change on the way: events are all of a request's state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Completion, Engine, InvalidRequest, Request, StepEvent
from tests.laws.reference import run
from tests.laws.strategies import requests
from tests.laws.test_growth_laws import growing
from tests.models import ending_engine, golden_engine, request

laws = settings(max_examples=40, deadline=None, derandomize=True)

ENGINES: dict[bool, Callable[[], Engine]] = {False: golden_engine, True: ending_engine}
"""Whether every third id ends a text."""


def rest_of(
    engine: Engine, wanted: Request, so_far: Sequence[StepEvent]
) -> tuple[list[StepEvent], Completion]:
    """What an engine does with a request after these events."""
    engine.add(wanted, so_far)
    events: list[StepEvent] = []
    while engine.has_work:
        events += engine.step()
    (done,) = engine.collect()
    return events, done


def run_with_changes(
    engine: Engine, wanted: Request, changes: dict[int, int]
) -> tuple[list[StepEvent], Completion]:
    """A run whose number of steps is changed after so many of its passes."""
    engine.add(wanted)
    events: list[StepEvent] = []
    while engine.has_work:
        if len(events) in changes:
            engine.replan(wanted.id, changes[len(events)])
        events += engine.step()
    (done,) = engine.collect()
    return events, done


def with_logprobs(wanted: Request, is_wanted: bool) -> Request:
    return replace(wanted, logprobs=2) if is_wanted else wanted


@laws
@given(requests(max_size=1), st.booleans(), st.booleans(), st.integers(0, 2**16))
def test_another_engine_goes_on_from_the_events_to_the_same_end(
    wanted, has_logprobs, ends_often, place
):
    one = with_logprobs(wanted[0], has_logprobs)
    events, done = run(ENGINES[ends_often](), one)
    so_far = events[one.id][: place % (len(events[one.id]) + 1)]

    rest, resumed = rest_of(ENGINES[ends_often](), one, so_far)

    kept = [] if one.params.keeps_state else so_far
    assert [*kept, *rest] == events[one.id]
    assert resumed == done[one.id]


@laws
@given(growing, st.integers(0, 2**16))
def test_a_growing_canvas_goes_on_at_the_size_it_had(wanted, place):
    events, done = run(ending_engine(), wanted)
    so_far = events[wanted.id][: place % (len(events[wanted.id]) + 1)]

    rest, resumed = rest_of(ending_engine(), wanted, so_far)

    assert [*so_far, *rest] == events[wanted.id]
    assert resumed == done[wanted.id]


@laws
@given(
    requests(max_size=1),
    st.dictionaries(st.integers(0, 12), st.integers(1, 20), max_size=3),
    st.integers(0, 2**16),
)
def test_fewer_steps_on_the_way_repeat_from_the_timetable_and_from_the_events(
    wanted, changes, place
):
    (one,) = wanted
    masked = one.template.num_masked
    events, done = run_with_changes(golden_engine(), one, changes)
    timetable = done.usage.timetable

    assert timetable[0] in [
        (0, one.params.steps or max(1, masked)),
        *[(0, n) for n in changes.values()],
    ]
    assert done.usage.steps == timetable[-1][1]
    assert all(event.step < event.steps for event in events)
    assert 501 not in [done.token_ids[p] for event in events for p in event.positions]

    again, repeated = rest_of(golden_engine(), replace(one, timetable=timetable), ())
    assert again == events
    assert repeated == done

    so_far = events[: place % (len(events) + 1)]
    if so_far and so_far[-1].steps == done.usage.steps and not one.params.keeps_state:
        rest, resumed = rest_of(golden_engine(), one, so_far)
        assert [*so_far, *rest] == events
        assert resumed == done


def test_no_change_leaves_a_mask_or_more_steps_than_before():
    wanted = request("a", [[1, 2], 12], steps=12)
    for at in range(12):
        for steps in range(1, 14):
            events, done = run_with_changes(golden_engine(), wanted, {at: steps})

            begun = events[at - 1].step + 1 if 0 < at <= len(events) else 0
            is_over = at >= len(events) and events[-1].steps == 12
            assert done.usage.steps == (12 if is_over else min(12, max(steps, begun + 1)))
            assert done.usage.forward_passes <= 12
            assert golden_engine().mask_token_id not in done.token_ids


def test_a_change_while_a_step_runs_holds_from_the_next_one_on():
    """With two halves in flight, steps that are launched already keep their timetable."""
    wanted = [request(f"r{n}", [[1, 2], 30], steps=28) for n in range(3)]
    engine = golden_engine(async_scheduling=True, max_num_batched_tokens=64)
    engine._scheduler._least_half = 16
    events: list[StepEvent] = []
    for one in wanted:
        engine.add(one)
    while engine.has_work:
        if len(events) == 9:
            for one in wanted:
                engine.replan(one.id, 9)
        events += engine.step()
    done = {completion.id: completion for completion in engine.collect()}

    for one in wanted:
        assert done[one.id].usage.timetable[-1][1] == 9
        mine = [event for event in events if event.request_id == one.id]
        repeated, completion = rest_of(
            golden_engine(), replace(one, timetable=done[one.id].usage.timetable), ()
        )
        assert repeated == mine
        assert completion.token_ids == done[one.id].token_ids


@pytest.mark.parametrize("timetable", [[(3, 2)], [(0, 4), (0, 3)], [(-1, 4)], [(0, 2), (1, 4)]])
def test_a_timetable_that_cannot_be_is_refused(timetable):
    with pytest.raises(InvalidRequest, match="timetable"):
        replace(request("a", [4]), timetable=timetable)


def test_growing_canvases_keep_their_timetable():
    with pytest.raises(InvalidRequest, match="beside grow_to"):
        replace(request("a", [4], grow_to=8), timetable=[(0, 2)])
    engine = golden_engine()
    engine.add(request("a", [4], grow_to=8))
    with pytest.raises(InvalidRequest, match="beside grow_to"):
        engine.replan("a", 2)


def test_events_of_another_request_are_refused():
    events, _ = run(golden_engine(), request("a", [[1], 6], steps=6))
    engine = golden_engine()

    beyond = replace(events["a"][0], positions=[99])
    for so_far in ([beyond], events["a"][1:], [*events["a"], events["a"][-1]], events["a"][::-1]):
        with pytest.raises(InvalidRequest, match="so_far"):
            engine.add(request("a", [[1], 6], steps=6), so_far)
    assert not engine.has_work
