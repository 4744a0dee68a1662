"""The embedded checkpoint does what its card says, measured through the engine."""

from __future__ import annotations

import json

import pytest

from benchmarks.embedded import measure, wilson
from dream import Engine
from dream.model.loader import EMBEDDED, weights_sha256


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.from_pretrained("embedded")


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((EMBEDDED / "card.json").read_text())


def test_the_card_belongs_to_the_weights(card):
    assert card["weights_sha256"] == weights_sha256(EMBEDDED)
    assert card["recipe"]["seed"] > 0
    assert card["flops"] == 6 * card["parameters"] * card["tokens"]
    assert card["log"][-1]["update"] == card["recipe"]["updates"]


def test_it_is_small_enough_to_ship(engine, card):
    assert 0.8e6 <= card["parameters"] <= 3e6
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) <= 12e6


def test_eight_givens_are_solved_at_sixteen_steps(engine):
    point = measure(engine, givens=8, steps=16, n=300)

    assert point.solved >= 0.95


@pytest.mark.parametrize("givens", [0, 2, 4])
def test_one_step_is_at_least_thirty_points_below_sixteen_on_few_givens(engine, givens):
    one, sixteen = (measure(engine, givens=givens, steps=steps, n=150) for steps in (1, 16))

    assert sixteen.solved - one.solved >= 0.30


def test_the_card_repeats_what_is_measured(engine, card):
    for written in card["measured"]["points"]:
        if (written["givens"], written["steps"]) in {(4, 4), (8, 16)}:
            found = measure(
                engine,
                givens=written["givens"],
                steps=written["steps"],
                n=200,
                order=written["order"],
            )
            low, high = wilson(round(found.solved * 200), 200, z=3.5)
            assert low - 1e-9 <= written["solved"] <= high + 1e-9


def test_a_prompt_is_answered_with_a_grid(engine):
    from dream import Fixed, Hole, Request, SamplingParams, Template
    from jobs.tasks import sudoku

    puzzle = [1, 0, 0, 4, 0, 4, 1, 0, 2, 0, 4, 0, 0, 3, 0, 1]
    prompt = engine.tokenizer.encode(sudoku.prompt_text(puzzle))
    template = Template([Fixed(prompt), Hole(24)])

    done = engine.generate([Request(id="a", template=template, params=SamplingParams(steps=24))])[0]

    assert sudoku.is_solved(puzzle, engine.tokenizer.decode(done.spans[0].token_ids))
    assert done.finish_reason == "stop"
