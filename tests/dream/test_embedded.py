"""The embedded checkpoint does what its card says, measured through the engine."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.model_card import with_tables
from benchmarks.quality_speed import measure
from dream import Engine, Fixed, Hole, Request, SamplingParams, Template
from dream.model.loader import EMBEDDED, weights_sha256
from jobs.evaluate.stats import wilson
from jobs.evaluate.suites import SuiteOptions, build_suite
from jobs.tasks import prose, sudoku

PAGE = EMBEDDED.parents[1] / "docs" / "model-card.md"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.from_pretrained("embedded")


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((EMBEDDED / "card.json").read_text())


def suite_of(name: str, num: int, givens: int | None = None):
    return build_suite(name, SuiteOptions(num=num, givens=None if givens is None else (givens,)))


def fill(engine: Engine, *pieces: str | int, **params: int) -> list[str]:
    encode = engine.tokenizer.encode
    template = Template([Hole(p) if isinstance(p, int) else Fixed(encode(p)) for p in pieces])
    request = Request(id="a", template=template, params=SamplingParams(steps=None, **params))
    done = engine.generate([request])[0]
    return [engine.tokenizer.decode(span.token_ids) for span in done.spans]


def test_the_card_belongs_to_the_weights(card):
    assert card["weights_sha256"] == weights_sha256(EMBEDDED)
    assert card["recipe"]["seed"] > 0
    assert card["flops"] == 6 * card["parameters"] * card["tokens"]
    assert card["log"][-1]["update"] == card["recipe"]["updates"]


def test_the_page_shows_the_card(card):
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page, card["measured"]) == page
    for figure in re.findall(r"\]\((figures/[^)]+)\)", page):
        assert (PAGE.parent / figure).exists()


def test_the_words_of_the_page_quote_the_card(card):
    words = PAGE.read_text(encoding="utf-8").partition("## What it cannot do")[2]

    quoted = set(re.findall(r"\b[01]\.\d{3}\b", words))
    assert len(quoted) >= 8
    assert quoted <= {f"{point['acc']:.3f}" for point in card["measured"]["points"]}


def test_it_is_small_enough_to_ship(card):
    assert 0.8e6 <= card["parameters"] <= 3e6
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) <= 12e6


def test_the_card_counts_a_thousand_held_out_questions_a_point(card):
    assert min(point["n"] for point in card["measured"]["points"]) >= 1000


def test_eight_givens_are_solved_at_sixteen_steps(engine):
    assert measure(engine, suite_of("sudoku4", 200, 8), steps=16).right >= 0.97


def test_one_step_is_at_least_thirty_points_below_sixteen_on_few_givens(engine):
    suite = suite_of("sudoku4", 150, 4)
    one, sixteen = (measure(engine, suite, steps=steps).right for steps in (1, 16))

    assert sixteen - one >= 0.30


@pytest.mark.parametrize("name", ["sudoku4", "countdown3-mini", "infill-eq"])
def test_the_card_repeats_what_is_measured(engine, card, name):
    suite = suite_of(name, 200, 4 if name == "sudoku4" else None)
    steps = 4
    found = measure(engine, suite, steps=steps)

    bucket = suite.questions[0].problem.bucket if name == "sudoku4" else "all"
    key = {"suite": name, "bucket": bucket, "order": "confidence", "steps": str(steps)}
    key |= {"threshold": None, "entropy_bound": None}
    written = [p for p in card["measured"]["points"] if key.items() <= p.items()]
    low, high = wilson(round(found.right * 200), 200, confidence=0.9995)
    assert len(written) == 1
    assert low - 1e-9 <= written[0]["acc"] <= high + 1e-9


def test_a_prompt_is_answered_with_a_grid(engine):
    puzzle = [1, 0, 0, 4, 0, 4, 1, 0, 2, 0, 4, 0, 0, 3, 0, 1]

    assert sudoku.is_solved(puzzle, fill(engine, sudoku.prompt_text(puzzle), 24)[0])


def test_a_hole_in_a_sentence_is_filled_with_what_the_rest_asks_for(engine):
    pieces = ("It was ", 5, " in Oslo, so Mia took ", 14, ".")
    weather, thing = fill(engine, *pieces)

    assert prose.is_correct(
        "It was _____ in Oslo, so Mia took ______________.",
        f"It was {weather} in Oslo, so Mia took {thing}.",
    )


def test_a_json_field_is_filled_with_what_the_others_ask_for(engine):
    [city] = fill(engine, '{"name":"Ben","city":"', 8, '","country":"Japan"}')

    assert city == "Tokyo"
