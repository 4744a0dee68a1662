"""Laws of log-probabilities: they change no token, and say what the model's raw logits say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Completion, Request, StepEvent
from tests.laws.reference import predictions, replayed, run
from tests.laws.strategies import requests
from tests.models import ending_engine, golden_engine

laws = settings(max_examples=30, deadline=None, derandomize=True)
EXACT = {"window": None, "suffix_window": None, "refresh_every": None, "vicinity": 0}
wishes = st.sampled_from([None, 0, 1, 5])
engines = st.sampled_from([golden_engine, ending_engine])


def asking(wanted: Sequence[Request], data: st.DataObject) -> list[Request]:
    return [replace(one, logprobs=data.draw(wishes)) for one in wanted]


def silent(events: Sequence[StepEvent]) -> list[StepEvent]:
    return [replace(event, logprobs=None) for event in events]


def last_attempt(events: Sequence[StepEvent]) -> list[StepEvent]:
    return [event for event in events if event.attempt == events[-1].attempt]


@laws
@given(requests(max_size=4) | requests(max_size=3, grow_to=9), engines, st.data())
def test_tokens_are_the_same_with_and_without_alone_and_in_any_batch(plain, build, data):
    wanted = asking(plain, data)
    without = [run(build(), one) for one in plain]
    alone = [run(build(), one) for one in wanted]
    config = {
        "max_num_batched_tokens": data.draw(st.sampled_from([8, 20, 4096])),
        "max_logit_rows": data.draw(st.sampled_from([1, 3, 128])),
        "async_scheduling": data.draw(st.booleans()),
    }

    engine = build(**config)
    engine._scheduler._least_half = 8

    events, done = run(engine, *data.draw(st.permutations(wanted)))

    for one, (plain_events, plain_done), (own_events, own_done) in zip(
        wanted, without, alone, strict=True
    ):
        assert events[one.id] == own_events[one.id]
        assert done[one.id] == own_done[one.id]
        assert silent(events[one.id]) == plain_events[one.id]
        assert replace(done[one.id], logprobs=None) == plain_done[one.id]


@laws
@given(requests(max_size=3) | requests(max_size=3, grow_to=9), engines, st.data())
def test_every_committed_token_has_its_own_and_a_completion_keeps_the_last_attempts(
    plain, build, data
):
    wanted = asking(plain, data)

    events, done = run(build(), *wanted)

    for one in wanted:
        if one.logprobs is None:
            assert done[one.id].logprobs is None
            assert all(event.logprobs is None for event in events[one.id])
            continue
        for event in events[one.id]:
            assert len(event.logprobs) == len(event.positions)
        check_shape(one.logprobs, events[one.id])
        check_kept(done[one.id], events[one.id])


def check_shape(num_top: int, events: Sequence[StepEvent]) -> None:
    """The most probable ids in order, of which the committed one has the same number."""
    for event in events:
        for token, told in zip(event.token_ids, event.logprobs, strict=True):
            assert len(told.top) == num_top
            assert list(told.top) == sorted(told.top, key=lambda pair: (-pair[1], pair[0]))
            assert all(told.logprob <= told.top[0][1] <= 0 for _ in told.top[:1])
            ids = dict(told.top)
            assert len(ids) == num_top
            if token in ids:
                assert told.logprob == ids[token]
            elif num_top:
                assert told.logprob <= told.top[-1][1]


def check_kept(done: Completion, events: Sequence[StepEvent]) -> None:
    """By position, and none where no step committed: an early exit fills without one."""
    kept = {}
    for event in last_attempt(events) if events else []:
        kept |= zip(event.positions, event.logprobs, strict=True)
    assert list(done.logprobs.items()) == sorted(kept.items())


@laws
@given(requests(max_size=3, **EXACT), wishes)
def test_they_are_those_of_the_raw_logits_of_a_plain_forward(plain, num_top):
    """Whatever the algorithm, temperature, filters, rules, history, annealing and order."""
    wanted = [replace(one, logprobs=num_top or 0) for one in plain]

    events, _ = run(golden_engine(), *wanted)

    for one in wanted:
        for canvas, event in replayed(one, events[one.id]):
            raw = predictions(canvas).log_softmax(-1)
            for position, token, told in zip(
                event.positions, event.token_ids, event.logprobs, strict=True
            ):
                assert told.logprob == pytest.approx(float(raw[position, token]), abs=1e-5)
                highest = raw[position].topk(one.logprobs).values.tolist()
                assert [value for _, value in told.top] == pytest.approx(highest, abs=1e-5)
                of_ids = [float(raw[position, token_id]) for token_id, _ in told.top]
                assert of_ids == pytest.approx(highest, abs=1e-5)
