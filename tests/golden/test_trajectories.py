"""The official loop's token ids, step by step, through `Engine.step`."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dream import Engine, EngineConfig, StepEvent
from dream.remasking import STRATEGIES
from dream.remasking.origin import Origin
from dream.timetable import ScheduledStep
from tests.golden.replay import DATA, Replay, cases, mask_id, play, replays

TRAJECTORIES = [
    case
    for case in cases("generate", "infill", "generate_token_hook")
    if case["params"]["alg"] != "origin"
]
ORIGIN = [case for case in cases("generate", "infill") if case["params"]["alg"] == "origin"]


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    config = EngineConfig(parity=True)
    return {name: Engine.from_pretrained(DATA / name, config) for name in ("ckpt_a", "ckpt_b")}


def run(engine: Engine, rows: list[Replay]) -> dict[str, list[StepEvent]]:
    """Feed the rows a few at a time, so that requests at different steps share a forward."""
    events: dict[str, list[StepEvent]] = {row.request.id: [] for row in rows}
    waiting = list(rows)
    while waiting or engine.has_work:
        for row in waiting[:3]:
            engine.add(row.request)
        waiting = waiting[3:]
        for event in engine.step():
            events[event.request_id].append(event)
    assert {done.id for done in engine.collect()} == set(events)
    return events


def assert_equal_history(row: Replay, events: list[StepEvent]) -> None:
    frames = play(row.canvas, events, len(row.history))
    np.testing.assert_array_equal(frames, row.history)


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda case: case["case"])
def test_each_row_alone_equals_the_official_loop(case, engines):
    for row in replays(case):
        events = run(engines[case["checkpoint"]], [row])

        assert_equal_history(row, events[row.request.id])


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda case: case["case"])
def test_one_pass_over_the_logits_gives_the_tokens_of_the_official_loop(case):
    """As on CUDA, where greedy rows are ranked by their statistics."""
    engine = Engine.from_pretrained(DATA / case["checkpoint"], EngineConfig(parity=True))
    engine._runner.reads_stats = True
    for row in replays(case):
        assert_equal_history(row, run(engine, [row])[row.request.id])


@pytest.mark.parametrize("checkpoint", ["ckpt_a", "ckpt_b"])
def test_all_cases_in_one_mixed_continuous_batch_equal_the_official_loop(checkpoint, engines):
    rows = [row for c in TRAJECTORIES if c["checkpoint"] == checkpoint for row in replays(c)]
    random.Random(7).shuffle(rows)

    events = run(engines[checkpoint], rows)

    for row in rows:
        assert_equal_history(row, events[row.request.id])


@pytest.mark.parametrize("case", ORIGIN, ids=lambda case: case["case"])
def test_origin_places_the_official_tokens_at_the_recorded_positions(case, engines, monkeypatch):
    """Random positions are no target; given the recorded ones, tokens must be equal."""
    for row in replays(case):
        monkeypatch.setitem(STRATEGIES, "origin", RecordedOrigin(row))

        events = run(engines[case["checkpoint"]], [row])

        assert_equal_history(row, events[row.request.id])


class RecordedOrigin:
    """origin, except that positions are committed when the recording committed them."""

    def __init__(self, row: Replay) -> None:
        frames = np.concatenate([row.canvas[None], row.history])
        changed = [(frames[s] != frames[s + 1]).nonzero()[0] for s in range(len(row.history))]
        self._scheduled = [ScheduledStep(s, len(p), p) for s, p in enumerate(changed) if len(p)]

    def plan(self, masked, params, steps, first):
        return list(self._scheduled)

    def score(self, probs, index):
        return Origin().score(probs, index)


@pytest.mark.parametrize("case", cases("reference_defect"), ids=lambda case: case["case"])
def test_rows_of_unequal_holes_keep_their_given_tokens_and_fill_every_mask(case, engines):
    """The official loop overwrites given tokens here; each row gets a timetable of its own."""
    engine = engines[case["checkpoint"]]
    rows = replays(case)

    done = engine.generate([row.request for row in rows])

    for row, completion in zip(rows, done, strict=True):
        given = np.ones(len(row.canvas), bool)
        for hole in row.request.template.holes:
            given[hole.start : hole.end] = False
        ids = np.array(completion.token_ids)
        np.testing.assert_array_equal(ids[given], row.canvas[given])
        assert not (ids == mask_id(case["checkpoint"]))[~given].any()
