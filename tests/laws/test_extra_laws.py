"""Laws of first draws, histories and EOS rules, against a slow decoder."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dream import Engine, EngineConfig, Hole, Request, SamplingParams, Template
from dream.canvas import Canvas
from dream.conflicts import RULE_FIELDS
from dream.remasking import STRATEGIES
from tests.laws.reference import (
    ALGS,
    Choose,
    Pick,
    commits,
    decoded,
    eligible,
    entropy,
    filtered,
    given_tokens,
    greedy,
    masks,
    predictions,
    replayed,
    run,
    score_of,
    timetable,
)
from tests.laws.strategies import sampling_params
from tests.models import VOCAB, ending_engine, golden_engine, golden_model, request

laws = settings(max_examples=25, deadline=None, derandomize=True)
SHAPES = ([[7, 8], 9], [5, [3, 4, 5], 6], [[11], 4, [12, 13], 1, [14], 7])
ENDS = range(0, VOCAB, 3)
"""EOS ids of `ending_engine`."""

shapes = st.sampled_from(SHAPES)
algs = st.sampled_from(ALGS)
steps = st.sampled_from([None, 3, 5, 20])
places = st.sampled_from(
    [{}, {"block_length": 1}, {"block_length": 3}, {"frontier": 1}, {"frontier": 4}]
)
depths, tops = st.integers(0, 4), st.sampled_from([1, 4, 5])


# EGI: the first token is drawn alone, where the entropy is largest.


@pytest.mark.parametrize("temperature", [0.3, 0.9, 2.0])
@pytest.mark.parametrize("block_length", [None, 4])
def test_the_first_draw_is_one_token_of_the_widest_tempered_distribution(temperature, block_length):
    def wanted(seed):
        own = {"egi_temperature": temperature, "block_length": block_length, "seed": seed}
        return request(str(seed), SHAPES[2], steps=4, **own)

    engine = golden_engine(max_num_batched_tokens=2**20)
    for seed in range(3000):
        engine.add(wanted(seed))

    events = engine.step()

    canvas = given_tokens(wanted(0))
    probs = (predictions(canvas) / temperature).softmax(-1)
    widest = max(eligible(wanted(0), canvas, 1), key=lambda p: entropy(probs[p]))
    assert {tuple(event.positions) for event in events} == {(widest,)}
    assert {len(event.token_ids) for event in events} == {1}
    found = torch.bincount(torch.tensor([e.token_ids[0] for e in events]), minlength=VOCAB)
    assert_follows(found, probs[widest])


def assert_follows(found: torch.Tensor, probs: torch.Tensor) -> None:
    """Chi-squared over 16 groups of ids of nearly equal mass; 15 degrees of freedom, p ~ 1e-4."""
    by_mass = probs.sort(descending=True).indices
    expected, counts = (
        torch.stack([values[by_mass[start::16]].sum() for start in range(16)])
        for values in (probs * found.sum(), found.double())
    )
    assert found[probs == 0].sum() == 0
    assert ((counts - expected) ** 2 / expected).sum() < 44.3


@laws
@given(shapes, algs, places, st.sampled_from([3, 5, 20, None]), st.integers(0, 99))
def test_after_the_first_draw_a_request_goes_on_by_its_own_rules(shape, alg, place, steps, seed):
    own = {"alg": alg, "steps": steps, "early_exit": False, **place}
    wanted = request("a", shape, egi_temperature=0.9, seed=seed, **own)

    events = commits(run(golden_engine(), wanted)[0]["a"])

    assert len(events[0][1]) == 1
    assert events == decoded(wanted, greedy(alg), first=events[0][1])
    assert sum(len(filled) for _, filled in events) == wanted.template.num_masked


@laws
@given(shapes, places, st.sampled_from([None, 20]), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_after_the_first_draw_a_threshold_is_obeyed(shape, place, steps, threshold):
    own = {"alg": "maskgit_plus", "steps": steps, "threshold": threshold, "early_exit": False}
    wanted = request("a", shape, egi_temperature=2.0, seed=3, **own, **place)

    events = commits(run(golden_engine(), wanted)[0]["a"])

    assert len(events[0][1]) == 1
    assert events == decoded(wanted, greedy("maskgit_plus"), first=events[0][1])


def test_a_request_of_one_step_fills_everything_at_once_whatever_its_first_draw():
    wanted = request("a", SHAPES[1], steps=1, egi_temperature=0.9, early_exit=False)

    events = commits(run(golden_engine(), wanted)[0]["a"])

    assert events == decoded(wanted, greedy("entropy"))
    assert len(events) == 1


# Histories: tokens and ranks come from the mean of a position's last distributions.


def averaging(alg: str, depth: int, top: int) -> Choose:
    """Keeps of each candidate its last depth + 1 distributions, as their largest entries."""
    kept: dict[int, list[dict[int, float]]] = {}

    def choose(
        step: int, logits: torch.Tensor, candidates: Sequence[int], is_last: bool
    ) -> dict[int, Pick]:
        picks = {}
        for position in candidates:
            probs = logits[position].softmax(-1)
            largest = probs.sort(descending=True, stable=True).indices[:top]
            sparse = {v: float(probs[v]) for v in largest.tolist()}
            kept[position] = [sparse, *kept.get(position, [])][: depth + 1]
            picks[position] = best_of_mean(alg, kept[position])
        return picks

    return choose


def best_of_mean(alg: str, kept: list[dict[int, float]]) -> Pick:
    mean = torch.zeros(VOCAB, dtype=torch.float64)
    for sparse in kept:
        for v, p in sparse.items():
            mean[v] += p / len(kept)
    token = int((mean == mean.max()).nonzero()[0])
    return Pick(token, score_of(alg, mean, token))


@laws
@given(shapes, algs, places, steps, st.integers(1, 8), st.sampled_from([1, 2, 4, 16]))
def test_a_history_ranks_and_fills_by_the_mean_of_sparse_distributions(
    shape, alg, place, steps, depth, top
):
    kept = {"history": depth, "history_top": top}
    own = {"alg": alg, "steps": steps, "early_exit": False, **place}
    wanted = request("a", shape, **kept, **own)

    events = commits(run(golden_engine(), wanted)[0]["a"])

    assert events == decoded(wanted, averaging(alg, depth, top))


def test_a_history_changes_what_is_filled_and_one_of_depth_0_does_not():
    plain, none, some = (
        run(golden_engine(), request("a", [[1, 2], 16], alg="maskgit_plus", **kept))
        for kept in ({}, {"history": 0, "history_top": 1}, {"history": 3})
    )

    assert none == plain
    assert some[0] != plain[0]


@settings(laws, max_examples=12)
@given(st.lists(st.tuples(shapes, depths, tops), min_size=2, max_size=4))
@example([(SHAPES[0], 1, 1), (SHAPES[0], 1, 4), (SHAPES[0], 4, 4)])
def test_a_history_does_not_depend_on_others_or_on_who_held_its_slots_before(drawn):
    wanted = [
        request(f"r{n}", shape, history=depth, history_top=top)
        for n, (shape, depth, top) in enumerate(drawn)
    ]
    alone = {r.id: run(golden_engine(), r)[0][r.id] for r in wanted}
    engine = golden_engine(max_cache_tokens=30)
    stray = request("stray", SHAPES[0], history=8, history_top=16)
    engine.add(stray)
    for _ in range(3):
        engine.step()
    engine.abort("stray")

    together, _ = run(engine, *wanted)

    assert together == alone


# EOS annealing: ranks see smaller EOS logits, tokens do not.


def annealing(wanted: Request) -> Choose:
    """Tokens by the raw logits; scores by the best token where EOS logits are divided."""
    own, num_steps = wanted.params, wanted.params.steps or wanted.template.num_masked

    def choose(
        step: int, logits: torch.Tensor, candidates: Sequence[int], is_last: bool
    ) -> dict[int, Pick]:
        done = step / (num_steps - 1) if num_steps > 1 else 0
        annealed = logits.clone()
        annealed[:, ENDS] /= 1 + (own.eos_annealing - 1) * (1 - done)
        picks = {}
        for p in candidates:
            score = score_of(own.alg, filtered(annealed[p], own.top_p), int(annealed[p].argmax()))
            picks[p] = Pick(int(logits[p].argmax()), score)
        return picks

    return choose


@laws
@given(shapes, algs, places, steps, st.sampled_from([1.5, 3.0, 40.0]))
def test_annealed_ranks_equal_those_of_divided_eos_logits(shape, alg, place, steps, annealed):
    own = {"alg": alg, "steps": steps, "early_exit": False, **place}
    wanted = request("a", shape, eos_annealing=annealed, **own)

    events = run(ending_engine(), wanted)[0]["a"]

    assert commits(events) == decoded(wanted, annealing(wanted))
    for canvas, event in replayed(wanted, events):
        assert event.token_ids == predictions(canvas).argmax(-1)[event.positions].tolist()


@laws
@given(
    shapes,
    algs,
    st.sampled_from([0.05, 0.6, 0.97, 0.98, 0.99, 0.9999]),
    st.sampled_from([1.5, 3.0, 40.0]),
)
def test_annealed_ranks_go_with_a_filter_however_wide(shape, alg, top_p, annealed):
    own = {"alg": alg, "early_exit": False, "top_p": top_p}
    wanted = request("a", shape, eos_annealing=annealed, **own)

    events = run(ending_engine(), wanted)[0]["a"]

    assert commits(events) == decoded(wanted, annealing(wanted))


@pytest.mark.parametrize("alg", ["maskgit_plus", "topk_margin", "entropy"])
@pytest.mark.parametrize("top_p", [0.9, 0.99, 0.999])
def test_annealed_scores_do_not_depend_on_how_many_logits_a_filter_looks_at(alg, top_p):
    """A few EOS are nearly certain until they are annealed; a top_k of all ids drops none."""
    model = deepcopy(golden_model())
    model.lm_head.weight.data[0::3] *= 4
    model.config.eos_token_id = list(ENDS)
    own = {"alg": alg, "top_p": top_p, "eos_annealing": 40.0, "early_exit": False}

    narrow, wide = (
        commits(
            run(Engine(model, None, EngineConfig()), request("a", [[1, 2], 16], **more))[0]["a"]
        )
        for more in (own, own | {"top_k": VOCAB})
    )

    assert narrow == wide


@laws
@given(shapes, algs, steps, st.sampled_from([0.0, 1.0]), st.sampled_from([None, 0.5, 0.9]))
def test_annealing_from_1_changes_nothing(shape, alg, steps, temperature, top_p):
    own = {"alg": alg, "steps": steps, "temperature": temperature, "top_p": top_p, "seed": 4}

    plain, annealed = (
        run(ending_engine(), request("a", shape, **own, **more))
        for more in ({}, {"eos_annealing": 1.0})
    )

    assert annealed == plain


def test_annealing_changes_the_order():
    plain, annealed = (
        run(ending_engine(), request("a", SHAPES[2], early_exit=False, **more))
        for more in ({}, {"eos_annealing": 3.0})
    )

    assert annealed[0] != plain[0]


# EOS frontier: an EOS waits until what is before it is nearly filled.


def waiting(wanted: Request) -> Choose:
    """An EOS farther than eos_frontier beyond the first candidate of its hole waits."""
    plain, reach = greedy(wanted.params.alg), wanted.params.eos_frontier

    def choose(
        step: int, logits: torch.Tensor, candidates: Sequence[int], is_last: bool
    ) -> dict[int, Pick]:
        picks = plain(step, logits, candidates, is_last)
        for hole in wanted.template.holes:
            inside = [p for p in candidates if hole.start <= p < hole.end]
            for p in inside if not is_last else []:
                is_far = p > inside[0] + reach and picks[p].token in ENDS
                picks[p] = picks[p]._replace(is_barred=is_far)
        return picks

    return choose


@laws
@given(shapes, algs, places, steps, st.sampled_from([0, 1, 3]))
def test_an_eos_waits_for_what_is_before_it(shape, alg, place, steps, reach):
    own = {"alg": alg, "steps": steps, "early_exit": False, **place}
    wanted = request("a", shape, eos_frontier=reach, **own)

    events = run(ending_engine(), wanted)[0]["a"]

    assert commits(events) == decoded(wanted, waiting(wanted))


@laws
@given(shapes, sampling_params(), st.sampled_from([0, 1, 3]))
def test_no_eos_is_beyond_its_frontier_before_the_last_visit(shape, params, reach):
    if params.alg == "origin":
        return
    params = replace(params, eos_frontier=reach, early_exit=False)
    wanted = replace(request("a", shape), params=params)

    events = run(ending_engine(), wanted)[0]["a"]

    for canvas, event in replayed(wanted, events):
        assert event.positions
        if event.step == last_step(wanted):
            continue
        for p, token in zip(event.positions, event.token_ids, strict=True):
            hole = next(h for h in wanted.template.holes if h.start <= p < h.end)
            first = next(q for q in masks(canvas) if q >= hole.start)
            assert token not in ENDS or p <= first + reach
    assert sum(len(event.positions) for event in events) == wanted.template.num_masked


def last_step(wanted: Request) -> int:
    if wanted.params.rule is None:
        return timetable(wanted)[-1][0]
    return (wanted.params.steps or wanted.template.num_masked) - 1


@laws
@given(shapes, sampling_params(eos_frontier=None))
def test_an_eos_frontier_beyond_the_canvas_changes_nothing(shape, params):
    if params.alg == "origin":
        return
    plain, wide = (
        run(ending_engine(), replace(request("a", shape), params=own))
        for own in (params, replace(params, eos_frontier=2048))
    )

    assert wide == plain


@pytest.mark.parametrize("name", RULE_FIELDS)
def test_the_first_visit_knows_no_rule_whichever_the_request_has(name):
    params = SamplingParams(steps=None, egi_temperature=0.9, **{name: 0.5})
    wanted = Request(id="a", template=Template([Hole(6)]), params=params)
    canvas = Canvas(wanted, STRATEGIES["entropy"].plan, mask_id=501, eos_ids=frozenset([500]))

    assert params.rule == name
    assert canvas.step_plan.params.rule is None
