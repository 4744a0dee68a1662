"""Laws of requests that share a canvas, or the rows of their first forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Fixed, Hole, Request, SamplingParams, Template
from tests.laws.reference import run
from tests.laws.strategies import requests
from tests.models import ending_engine, golden_engine, request

laws = settings(max_examples=25, deadline=None, derandomize=True)
SHAPE = ([7, 8], 9)

OTHER_VALUES = {
    "steps": 5,
    "alg": "maskgit_plus",
    "alg_temp": 0.5,
    "eps": 0.05,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "threshold": 0.4,
    "block_length": 3,
    "order": "left_to_right",
    "seed": 2,
    "early_exit": False,
    "low_threshold": 0.2,
    "factor": 2.0,
    "entropy_bound": 1.0,
    "entropy_threshold": 2.0,
    "min_commits": 2,
    "max_commits": 3,
    "frontier": 2,
    "eos_frontier": 1,
    "eos_annealing": 3.0,
    "egi_temperature": 0.9,
    "history": 2,
    "history_top": 2,
    "grow_to": 12,
    "window": "dual",
    "refresh_every": 2,
    "vicinity": 1,
    "suffix_window": 1,
}
"""One value of each field that `base` does not have."""

NEEDS = {
    "low_threshold": {"threshold": 0.5},
    "min_commits": {"factor": 1.0},
    "max_commits": {"factor": 1.0},
    "history_top": {"history": 2},
    "refresh_every": {"window": "dual", "block_length": 3},
    "vicinity": {"window": "dual", "block_length": 3},
    "suffix_window": {"block_length": 3},
}
"""What a field goes with."""


def renamed(wanted: Request, name: str) -> Request:
    """The same work under other names."""
    segments = [
        Hole(part.num_tokens, f"{name}{n}", part.priority) if isinstance(part, Hole) else part
        for n, part in enumerate(wanted.template.segments)
    ]
    return replace(wanted, id=name, template=Template(segments))


def as_told_to(name: str, events: Sequence) -> list:
    return [replace(event, request_id=name) for event in events]


@laws
@given(requests(max_size=1, alg_temp=None, temperature=0.0, order="confidence"), st.data())
def test_twins_get_what_each_gets_alone_for_the_cost_of_one(drawn, data):
    first = drawn[0]
    names = ["r0", *data.draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))]
    twins = [renamed(first, name) for name in names]
    if not first.params.is_drawn:
        seeds = [None, 3, 5, 8, 0]
        twins = [
            replace(twin, params=replace(twin.params, seed=seed))
            for twin, seed in zip(twins, seeds, strict=False)
        ]
    alone = {twin.id: run(golden_engine(), twin) for twin in twins}
    single, engine = golden_engine(), golden_engine()
    run(single, first)

    events, done = run(engine, *twins)

    for twin in twins:
        assert events[twin.id] == alone[twin.id][0][twin.id]
        assert done[twin.id] == alone[twin.id][1][twin.id]
    assert engine.stats.token_forwards == single.stats.token_forwards
    assert engine.stats.forward_passes == single.stats.forward_passes
    assert engine.stats.requests_finished == len(twins)
    has_work = first.template.num_masked > 0
    assert engine.stats.requests_shared == (len(twins) - 1 if has_work else 0)


@pytest.mark.parametrize("late", range(8))
def test_who_joins_late_is_told_every_step_in_order_under_its_own_name(late):
    first = request("first", SHAPE)
    alone, done = run(golden_engine(), first)
    engine = golden_engine()
    engine.add(first)
    for _ in range(late):
        engine.step()

    engine.add(renamed(first, "late"))
    told = list(engine.step())
    news = [event for event in told if event.request_id == "late"]
    while engine.has_work:
        news += [event for event in engine.step() if event.request_id == "late"]

    assert news == as_told_to("late", alone["first"])
    spans = [replace(span, id="late1") for span in done["first"].spans]
    finished = {completion.id: completion for completion in engine.collect()}
    assert finished["first"] == done["first"]
    assert finished["late"] == replace(done["first"], id="late", spans=spans)
    assert engine.stats.token_forwards == done["first"].usage.token_forwards


@pytest.mark.parametrize("late", [0, 1, 3, 5, 9])
def test_who_joins_a_growing_canvas_late_is_told_every_run(late):
    first = request("first", ([7, 8], 3), grow_to=12)
    alone = run(golden_engine(), first)
    engine = golden_engine()
    engine.add(first)
    told = [event for _ in range(late) for event in engine.step()]

    engine.add(renamed(first, "late"))
    while engine.has_work:
        told += engine.step()

    for name in ("first", "late"):
        assert [e for e in told if e.request_id == name] == as_told_to(name, alone[0]["first"])
    usages = [completion.usage for completion in engine.collect()]
    assert usages == [alone[1]["first"].usage] * 2


@pytest.mark.parametrize("gone", ["a", "b", "c"])
@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("extra", [{}, {"history": 2}, {"grow_to": 20}, {"window": "dual"}])
def test_a_twin_that_is_aborted_leaves_the_others_alone(gone, after, extra):
    twins = [request(name, SHAPE, **extra) for name in "abc"]
    alone = {twin.id: run(golden_engine(), twin) for twin in twins}
    engine = golden_engine()
    for twin in twins:
        engine.add(twin)
    told = [event for _ in range(after) for event in engine.step()]

    engine.abort(gone)
    while engine.has_work:
        told += engine.step()

    done = {completion.id: completion for completion in engine.collect()}
    assert done == {name: alone[name][1][name] for name in "abc" if name != gone}
    for name in done:
        assert [e for e in told if e.request_id == name] == alone[name][0][name]
    assert len([e for e in told if e.request_id == gone]) == after
    assert engine.stats.token_forwards == done[min(done)].usage.token_forwards


def test_a_canvas_ends_with_its_last_reader_and_is_joined_by_nobody_after():
    engine = golden_engine()
    for name in "ab":
        engine.add(request(name, SHAPE))
    engine.step()
    engine.abort("a")
    engine.abort("b")

    events, done = run(engine, request("c", SHAPE))

    assert not engine.has_work
    assert (events, done) == run(golden_engine(), request("c", SHAPE))
    assert engine.pending_token_forwards == 0


def test_every_field_has_another_value():
    assert set(OTHER_VALUES) == {field.name for field in fields(SamplingParams)}


ALONE_AT_0 = ("history", "history_top")
CASES = [(0.0, field) for field in OTHER_VALUES if field != "seed"]
CASES += [(1.0, field) for field in OTHER_VALUES if field not in ALONE_AT_0]
"""A greedy request does not look at its seed, and a history goes with temperature 0 alone."""


@pytest.mark.parametrize(("temperature", "field"), CASES)
def test_requests_that_differ_in_one_field_share_nothing(temperature, field):
    own = {"temperature": temperature, "seed": 1, **NEEDS.get(field, {})}
    one = request("one", SHAPE, **own)
    other = request("other", SHAPE, **(own | {field: OTHER_VALUES[field]}))

    assert_share_nothing(one, other)


def assert_share_nothing(one: Request, other: Request) -> None:
    alone = [run(ending_engine(), wanted) for wanted in (one, other)]
    engine = ending_engine()

    events, done = run(engine, one, other)

    assert engine.stats.requests_shared == 0
    assert events == alone[0][0] | alone[1][0]
    assert done == alone[0][1] | alone[1][1]


@pytest.mark.parametrize(
    "segments",
    [
        [Fixed([7, 9]), Hole(9)],
        [Fixed([7]), Hole(9)],
        [Fixed([7, 8]), Hole(8)],
        [Fixed([7, 8]), Hole(9, priority=[0] * 8 + [1])],
        [Fixed([7, 8]), Hole(4), Hole(5, priority=-1)],
        [Hole(9), Fixed([7, 8])],
        [Fixed([7, 8]), Hole(9), Fixed([1])],
    ],
)
def test_requests_of_different_templates_share_nothing(segments):
    one, own = request("one", SHAPE), SamplingParams(steps=None)

    assert_share_nothing(one, Request(id="other", template=Template(segments), params=own))


@pytest.mark.parametrize("extra", [{"alg": "origin"}, {"order": "random"}, {"alg_temp": 0.5}])
def test_seeds_matter_wherever_something_is_drawn(extra):
    one, other = (request(f"r{seed}", SHAPE, seed=seed, **extra) for seed in (1, 2))

    assert_share_nothing(one, other)


@settings(laws, max_examples=12)
@given(
    st.integers(2, 5),
    st.sampled_from(["entropy", "maskgit_plus", "maskgit_tpp"]),
    st.sampled_from([{}, {"egi_temperature": 0.9}, {"threshold": 0.3}, {"block_length": 3}]),
)
def test_samples_of_one_prompt_share_their_first_forward(n, alg, extra):
    samples = [
        request(f"r{seed}", SHAPE, seed=seed, temperature=1.0, alg=alg, **extra)
        for seed in range(n)
    ]
    alone = {sample.id: run(golden_engine(), sample) for sample in samples}
    engine = golden_engine()
    for sample in samples:
        engine.add(sample)

    told = engine.step()

    assert engine.stats.token_forwards == 11
    assert engine.stats.forward_passes == n
    assert engine.stats.requests_shared == 0
    while engine.has_work:
        told += engine.step()
    done = {completion.id: completion for completion in engine.collect()}
    for name, (events, completions) in alone.items():
        assert [e for e in told if e.request_id == name] == events[name]
        assert done[name] == completions[name]
