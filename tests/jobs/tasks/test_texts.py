"""List work, prose and JSON: one right answer, or any sentence that keeps what was given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.tasks import lists, prose
from jobs.tasks.base import MASK

RAIN = "It was rainy in Oslo, so Ana took an umbrella."
PAIR = '{"name":"Ana","city":"Oslo","country":"Norway"}'


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(0, 10**6))
def test_references_are_right(seed):
    for task in (lists, prose):
        for problem in task.draw(np.random.default_rng(seed), 12):
            assert task.is_correct(problem.input, problem.reference)


@pytest.mark.parametrize("task", [lists, prose])
def test_problems_are_distinct_and_the_same_for_a_seed(task):
    first, second, other = (task.draw(np.random.default_rng(seed), 80) for seed in (1, 1, 2))

    assert first == second != other
    assert len({problem.input for problem in first}) == 80


def test_kinds_of_list_work_come_in_turn():
    drawn = lists.draw(np.random.default_rng(0), 8)

    assert [problem.bucket for problem in drawn] == [*lists.KINDS, *lists.KINDS]


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        ("sort 4127", "1247"),
        ("sort 4100", "0014"),
        ("reverse abca", "acba"),
        ("copy abca", "abca"),
        ("close ([<{", "}>])"),
    ],
)
def test_the_right_answer_of_each_kind_and_nothing_else(problem_input, answer):
    assert lists.is_correct(problem_input, answer)
    for wrong in ("", answer + " ", " " + answer, answer[:-1], answer + answer[-1], answer + "\n"):
        assert not lists.is_correct(problem_input, wrong)


def test_a_digit_of_another_script_is_not_that_digit():
    assert not lists.is_correct("sort 4127", "\u0661247")


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        (RAIN.replace("rainy", MASK * 5), RAIN),
        (RAIN.replace("Ana", MASK * 3), RAIN.replace("Ana", "Ben")),
        (RAIN.replace("Oslo", MASK * 6), RAIN),  # a hole may be longer than what fills it
        (PAIR.replace("Oslo", MASK * 4).replace("Norway", MASK * 6), PAIR),
        (
            PAIR.replace("Oslo", MASK * 4).replace("Norway", MASK * 6),
            PAIR.replace("Oslo", "Rome").replace("Norway", "Italy"),
        ),
    ],
)
def test_any_sentence_that_keeps_the_given_text_is_right(problem_input, answer):
    assert prose.is_correct(problem_input, answer)


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        (RAIN.replace("rainy", MASK * 5), ""),
        (RAIN.replace("rainy", MASK * 5), RAIN.replace("rainy", "sunny")),  # no umbrella then
        (RAIN.replace("rainy", MASK * 5), RAIN.replace("Ana", "Ben")),  # given, and changed
        (RAIN.replace("rainy", MASK * 5), RAIN + " "),
        (RAIN.replace("rainy", MASK * 5), RAIN + "\n"),
        (RAIN.replace("rainy", MASK * 5), RAIN.replace("rainy", MASK * 5)),
        (RAIN.replace("Ana", MASK * 2), RAIN),  # longer than the hole
        (PAIR.replace("Norway", MASK * 6), PAIR.replace("Norway", "Sweden")),
        (PAIR.replace("Norway", MASK * 6), PAIR.replace(":", ": ")),
    ],
)
def test_anything_else_is_wrong(problem_input, answer):
    assert not prose.is_correct(problem_input, answer)
