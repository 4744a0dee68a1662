"""What tasks share: distinct problems that run out with words, and splits that never meet."""

from __future__ import annotations

import re

import numpy as np
import pytest

from jobs.common.errors import Refused
from jobs.evaluate.suite import Question
from jobs.evaluate.suites import SuiteOptions, build_suite
from jobs.tasks.base import EOS, MASK, Keyed, Problem, Sample, draw_distinct, is_held_out
from jobs.train.corpus import TASK_VARIANTS
from tests.jobs.evaluate.pieces import pieces_of

NATIVE = {
    "sudoku4": ("sudoku", "sudoku-answer"),
    "countdown3-mini": ("countdown",),
    "infill-eq": ("equation",),
    "infill-text": ("prose", "prose-long"),
    "lists": ("lists",),
}
"""Suites of the embedded checkpoint, and its task variants that could show their problems."""

FIRST_HELD_OUT = [17, 18, 19, 25, 29]
"""Numbers below 30 whose text is held out, written down so that no change moves the split."""


def problem(text: str) -> Problem:
    return Problem(input=text, reference="", bucket="all")


def visible(sample: Sample, rng: np.random.Generator) -> str:
    """A sample as training shows it: masks at random maskable places."""
    share = rng.uniform(0.05, 1)
    return "".join(
        MASK if mark == "#" and rng.random() < share else character
        for character, mark in zip(sample.text, sample.maskable, strict=True)
    )


def shown(question: Question) -> str:
    return "".join(p if isinstance(p, str) else MASK * p for p in pieces_of(question))


def key_of(variant: str, text: str) -> str:
    """What makes a visible text the problem it is, whatever the length of its holes."""
    if variant in ("countdown", "lists"):
        return text.split("=")[0]
    if variant in ("sudoku", "sudoku-answer"):
        return text.split("=")[0].replace(MASK, "0")
    return re.sub(f"{MASK}+", MASK, text.replace(EOS, "")) if variant.startswith("prose") else text


def test_the_split_is_stable_and_takes_about_an_eighth():
    held_out = [is_held_out(str(number)) for number in range(8000)]

    assert [number for number in range(30) if held_out[number]] == FIRST_HELD_OUT
    assert abs(sum(held_out) / 8000 - 1 / 8) < 0.01


def test_problems_of_one_key_are_drawn_once():
    attempts = iter(["a", "b", "a", "b", "c"])

    drawn = draw_distinct(3, lambda _: Keyed(next(attempts), problem("x")), what="letters")

    assert len(drawn) == 3
    assert next(attempts, None) is None


def test_drawing_ends_with_words_when_there_are_no_more():
    words = "5 different problems of coins were asked for: 2 were found, and 50 more"

    def attempt(num_found: int) -> Keyed | None:
        return Keyed(str(num_found % 2), problem("coin"))

    with pytest.raises(Refused, match=words):
        draw_distinct(5, attempt, what="coins", patience=50)
    with pytest.raises(Refused, match="0 were found"):
        draw_distinct(1, lambda _: None, what="nothing", patience=50)


@pytest.mark.parametrize("name", NATIVE)
def test_training_tells_every_question_of_a_native_suite(name):
    questions = build_suite(name, SuiteOptions(num=60)).questions

    assert questions
    for question in questions:
        for variant in NATIVE[name]:
            text = shown(question)
            if variant == "sudoku-answer":
                text = text.replace(MASK, "0") + "=" + MASK * 19
            assert TASK_VARIANTS[variant].holds_out(text), text


@pytest.mark.parametrize("name", TASK_VARIANTS)
def test_what_training_keeps_is_no_held_out_problem(name):
    """The puzzle of `sudoku-answer` is its prompt: of its answer nothing is promised."""
    sample, holds_out = TASK_VARIANTS[name].sample, TASK_VARIANTS[name].holds_out
    suite = next(suite for suite, variants in NATIVE.items() if name in variants)
    few = SuiteOptions(num=150, givens=(2,)) if suite == "sudoku4" else SuiteOptions(num=400)
    asked = {key_of(name, shown(question)) for question in build_suite(suite, few).questions}
    rng = np.random.default_rng(1)

    texts = [visible(sample(rng), rng) for _ in range(4000)]
    kept = [text for text in texts if not holds_out(text)]

    assert len(kept) > 3000
    assert not asked & {key_of(name, text) for text in kept}
    assert asked & {key_of(name, text) for text in texts}, "no held-out problem was ever drawn"


@pytest.mark.parametrize("name", TASK_VARIANTS)
def test_samples_depend_on_the_generator_alone(name):
    sample = TASK_VARIANTS[name].sample

    first, second = ([sample(rng) for _ in range(20)] for rng in map(np.random.default_rng, (3, 3)))

    assert first == second
    for text, maskable in first:
        assert len(text) == len(maskable)
        assert text.isascii()
        assert set(maskable) <= {"#", " "}
