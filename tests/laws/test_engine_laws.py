"""Laws of the engine, for every strategy, order, filter and template."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dream import Engine, Fixed, Hole, Request, SamplingParams, Template
from dream.params import Alg
from dream.remasking import STRATEGIES
from dream.timetable import commit_counts
from tests.laws.strategies import requests
from tests.models import EOS, MASK, ending_engine, golden_engine
from tests.models import request as build_request

laws = settings(max_examples=40, deadline=None, derandomize=True)


def steps_of(engine: Engine, wanted: list[Request]) -> dict[str, list]:
    """Every event of every request, and at `done` the completions by id."""
    events = {request.id: [] for request in wanted}
    for request in wanted:
        engine.add(request)
    while engine.has_work:
        for event in engine.step():
            events[event.request_id].append(event)
    return events | {"done": {done.id: done for done in engine.collect()}}


def given_canvas(request: Request) -> np.ndarray:
    """The canvas before step 0, -1 where it is to be filled."""
    canvas: list[int] = []
    for segment in request.template.segments:
        ids = getattr(segment, "token_ids", None)
        canvas += [-1] * segment.num_tokens if ids is None else list(ids)
    return np.array(canvas)


@laws
@given(requests())
def test_given_tokens_come_back_and_every_hole_is_filled_once(wanted):
    result = steps_of(golden_engine(), wanted)

    for request in wanted:
        canvas = given_canvas(request)
        done = result["done"][request.id]
        ids = np.array(done.token_ids)
        np.testing.assert_array_equal(ids[canvas >= 0], canvas[canvas >= 0])
        assert not (ids[canvas < 0] == MASK).any()
        positions = [p for event in result[request.id] for p in event.positions]
        assert len(positions) == len(set(positions))
        assert set(positions) <= set((canvas < 0).nonzero()[0].tolist())
        if not request.params.early_exit:
            assert len(positions) == (canvas < 0).sum()


@laws
@given(requests())
def test_a_committed_token_never_changes(wanted):
    result = steps_of(golden_engine(), wanted)

    for request in wanted:
        ids = result["done"][request.id].token_ids
        for event in result[request.id]:
            assert [ids[p] for p in event.positions] == event.token_ids


@laws
@given(requests(early_exit=False))
def test_counts_per_step_equal_the_timetable(wanted):
    result = steps_of(golden_engine(), wanted)

    for request in wanted:
        counts = [(event.step, len(event.positions)) for event in result[request.id]]
        n = request.template.num_masked
        steps = request.params.steps or max(n, 1)
        if request.params.alg == "origin":
            assert sum(count for _, count in counts) == n
            assert all(0 <= step < steps for step, _ in counts)
        elif request.params.egi_temperature or request.params.eos_frontier is not None:
            assert sum(count for _, count in counts) == n
            assert all(count > 0 for _, count in counts)
        elif request.params.rule is not None:
            assert_no_later_than_the_timetable(request, counts)
        else:
            assert tuple(counts) == commit_counts(n, steps, request.params.eps)
        usage = result["done"][request.id].usage
        assert usage.forward_passes == len(counts) <= min(steps, max(n, 1))
        most = len(counts) * request.template.num_tokens
        is_exact = request.params.approximation is None
        assert usage.token_forwards == most if is_exact else usage.token_forwards <= most
        assert usage.approximation == request.params.approximation


def assert_no_later_than_the_timetable(request: Request, counts: list) -> None:
    """A rule fills at least min_commits a step, and after each step no fewer than without it."""
    params, n = request.params, request.template.num_masked
    planned = dict(commit_counts(n, params.steps or n, params.eps))
    done = due = 0
    for step, count in enumerate(count for _, count in counts):
        assert counts[step][0] == step
        assert count >= min(params.min_commits, n - done)
        done, due = done + count, due + planned.get(step, 0)
        assert done >= due
        if params.max_commits is not None:
            assert count <= max(params.max_commits, due - (done - count))
    assert done == n


@laws
@given(requests(min_size=2, max_size=6) | requests(min_size=2, grow_to=9), st.data())
def test_a_result_does_not_depend_on_batch_mates_order_or_room(wanted, data):
    alone = {r.id: steps_of(golden_engine(), [r])["done"][r.id] for r in wanted}
    shuffled = data.draw(st.permutations(wanted))
    rows = data.draw(st.sampled_from([8, 20, 4096]))
    chunk = data.draw(st.sampled_from([1, 3, 128]))
    quantum = data.draw(st.sampled_from([1, 60, 2**20]))
    slots = data.draw(st.sampled_from([40, 4096]))
    limits = {"quantum": quantum, "max_cache_tokens": slots}

    engine = golden_engine(max_num_batched_tokens=rows, max_logit_rows=chunk, **limits)
    together = steps_of(engine, shuffled)

    assert together["done"] == alone


@laws
@given(requests(min_size=2, max_size=5) | requests(min_size=2, grow_to=9), st.data())
def test_an_abort_frees_its_row_and_leaves_the_others_alone(wanted, data):
    alone = {r.id: golden_engine().generate([r])[0] for r in wanted}
    victim = data.draw(st.sampled_from(wanted)).id
    after = data.draw(st.integers(0, 4))
    engine = golden_engine()
    for request in wanted:
        engine.add(request)
    done = {}
    for _ in range(after):
        engine.step()
    done |= {c.id: c for c in engine.collect()}

    engine.abort(victim)

    while engine.has_work:
        assert victim not in {event.request_id for event in engine.step()}
    done |= {c.id: c for c in engine.collect()}
    assert done.keys() - {victim} == alone.keys() - {victim}
    assert all(done[name] == alone[name] for name in done)


@laws
@given(requests(early_exit=True))
def test_early_exit_changes_no_span(wanted):
    full = [
        Request(id=r.id, template=r.template, params=replace(r.params, early_exit=False))
        for r in wanted
    ]

    early = golden_engine().generate(wanted)

    for short, long in zip(early, golden_engine().generate(full), strict=True):
        assert short.spans == long.spans
        assert short.finish_reason == long.finish_reason
        assert short.usage.forward_passes <= long.usage.forward_passes


@laws
@given(requests(temperature=1.0))
def test_the_same_seed_gives_the_same_tokens(wanted):
    assert golden_engine().generate(wanted) == golden_engine().generate(wanted)


def test_another_seed_gives_other_tokens():
    one, two = (
        golden_engine().generate([build_request("a", [[1, 2], 30], temperature=1.0, seed=seed)])[0]
        for seed in (1, 2)
    )

    assert one.token_ids != two.token_ids


@laws
@given(requests(early_exit=False))
def test_early_exit_stops_at_the_first_step_after_which_nothing_visible_can_change(wanted):
    """With ends of text everywhere: same spans, same committed tokens, and not one pass more."""
    full = steps_of(ending_engine(), wanted)
    early = [Request(id=r.id, template=r.template, params=exiting(r.params)) for r in wanted]

    short = steps_of(ending_engine(), early)

    for request in wanted:
        long_done, done = full["done"][request.id], short["done"][request.id]
        assert done.spans == long_done.spans
        num_passes = settled_after(request, full[request.id])
        assert short[request.id] == full[request.id][:num_passes]
        for event in short[request.id]:
            assert [done.token_ids[p] for p in event.positions] == event.token_ids


def exiting(params):
    return replace(params, early_exit=True)


def settled_after(request: Request, events: list) -> int:
    """How many steps it takes until, in each hole, all is committed up to its first EOS."""
    tokens: dict[int, int] = {}
    if not request.template.holes:
        return 0
    for count, event in enumerate(events, start=1):
        tokens |= dict(zip(event.positions, event.token_ids, strict=True))
        if all(is_settled(tokens, hole) for hole in request.template.holes):
            return count
    raise AssertionError("a whole request fills every hole")


def is_settled(tokens: dict[int, int], hole) -> bool:
    for position in range(hole.start, hole.end):
        if position not in tokens:
            return False
        if tokens[position] % 3 == 0:
            return True
    return True


@laws
@given(requests(max_size=3) | requests(max_size=3, grow_to=9))
def test_spans_are_the_holes_cut_at_the_first_eos(wanted):
    for request, done in zip(wanted, golden_engine().generate(wanted), strict=True):
        holes = [(h.id, h.start, h.end) for h in request.template.holes]
        if request.params.grow_to is None:
            assert [(s.id, s.start, s.end) for s in done.spans] == holes
        else:
            assert [s.id for s in done.spans] == [name for name, _, _ in holes]
        for span in done.spans:
            ids = list(done.token_ids[span.start : span.end])
            assert span.token_ids == (ids[: ids.index(EOS)] if EOS in ids else ids)


def test_every_strategy_is_covered():
    algs = {"origin", "maskgit_plus", "maskgit_tpp", "topk_margin", "entropy"}
    assert set(STRATEGIES) == algs == set(get_args(Alg))


@laws
@given(requests(early_exit=False))
def test_blocks_priorities_and_frontiers_are_filled_in_their_order(wanted):
    """A mask may only be filled together with, or after, all that come before its class."""
    result = steps_of(golden_engine(), wanted)

    for request in wanted:
        params = request.params
        if params.alg == "origin":
            continue
        left = numbered(request)
        for event in result[request.id]:
            filled = {position: left.pop(position) for position in event.positions}
            if not left:
                continue
            first = min(left.values())
            for priority, number in filled.values():
                assert priority <= first[0]
                if params.block_length is not None and priority == first[0]:
                    assert number // params.block_length <= first[1] // params.block_length


def numbered(request: Request) -> dict[int, tuple[int, int]]:
    """(priority, number by priority and position) of each masked position."""
    positions = (given_canvas(request) < 0).nonzero()[0].tolist()
    pairs = sorted(zip(request.template.priorities, positions, strict=True))
    return {position: (priority, n) for n, (priority, position) in enumerate(pairs)}


@pytest.mark.parametrize("frontier", [1, 3])
def test_a_frontier_reaches_so_many_masks_from_the_leftmost(frontier):
    wanted = build_request("a", [[1, 2], 6, [3], 9], frontier=frontier, threshold=1.0)

    events = steps_of(golden_engine(), [wanted])["a"]

    left = [*range(2, 8), *range(9, 18)]
    for event in events:
        (position,) = event.positions
        assert left.index(position) < frontier
        left.remove(position)


def test_blocks_of_one_are_filled_from_the_left():
    wanted = build_request("a", [[1, 2], 6, [3], 4], block_length=1)

    events = steps_of(golden_engine(), [wanted])["a"]

    assert [p for event in events for p in event.positions] == [*range(2, 8), *range(9, 13)]


def test_priorities_of_single_positions_are_obeyed():
    template = Template([Fixed([1]), Hole(4, priority=[2, 0, 1, -1])])
    wanted = Request(id="a", template=template, params=SamplingParams(steps=None, threshold=1.0))

    events = steps_of(golden_engine(), [wanted])["a"]

    assert [p for event in events for p in event.positions] == [4, 2, 3, 1]
