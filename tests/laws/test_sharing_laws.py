"""Laws of requests that share the rows of a forward, as equal canvases do."""

from __future__ import annotations

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


@laws
@given(requests(max_size=1, alg_temp=None, temperature=0.0, order="confidence"), st.data())
def test_twins_get_what_each_gets_alone_and_share_its_rows(drawn, data):
    first = drawn[0]
    names = ["r0", *data.draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))]
    twins = [renamed(first, name) for name in names]
    alone = {twin.id: run(golden_engine(), twin) for twin in twins}
    single, engine = golden_engine(), golden_engine()
    run(single, first)

    events, done = run(engine, *twins)

    for twin in twins:
        assert events[twin.id] == alone[twin.id][0][twin.id]
        assert done[twin.id] == alone[twin.id][1][twin.id]
    shares = first.params.approximation is None
    copies = 1 if shares else len(twins)
    assert engine.stats.token_forwards == copies * single.stats.token_forwards
    assert engine.stats.forward_passes == len(twins) * single.stats.forward_passes
    assert engine.stats.requests_finished == len(twins)


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
    assert engine.pending_token_forwards == 0


def test_every_field_has_another_value():
    assert set(OTHER_VALUES) == {field.name for field in fields(SamplingParams)}


ALONE_AT_0 = ("history", "history_top")
CASES = [(0.0, field) for field in OTHER_VALUES if field != "seed"]
CASES += [(1.0, field) for field in OTHER_VALUES if field not in ALONE_AT_0]
"""A greedy request does not look at its seed, and a history goes with temperature 0 alone."""


@pytest.mark.parametrize(("temperature", "field"), CASES)
def test_requests_that_differ_in_one_field_do_not_disturb_each_other(temperature, field):
    own = {"temperature": temperature, "seed": 1, **NEEDS.get(field, {})}
    one = request("one", SHAPE, **own)
    other = request("other", SHAPE, **(own | {field: OTHER_VALUES[field]}))

    assert_undisturbed(one, other)


def assert_undisturbed(one: Request, other: Request) -> None:
    alone = [run(ending_engine(), wanted) for wanted in (one, other)]
    engine = ending_engine()

    events, done = run(engine, one, other)

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
def test_requests_of_different_templates_do_not_disturb_each_other(segments):
    one, own = request("one", SHAPE), SamplingParams(steps=None)

    assert_undisturbed(one, Request(id="other", template=Template(segments), params=own))


@pytest.mark.parametrize("extra", [{"alg": "origin"}, {"order": "random"}, {"alg_temp": 0.5}])
def test_seeds_matter_wherever_something_is_drawn(extra):
    one, other = (request(f"r{seed}", SHAPE, seed=seed, **extra) for seed in (1, 2))

    assert_undisturbed(one, other)


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
    while engine.has_work:
        told += engine.step()
    done = {completion.id: completion for completion in engine.collect()}
    for name, (events, completions) in alone.items():
        assert [e for e in told if e.request_id == name] == events[name]
        assert done[name] == completions[name]
