"""Equation infill: generated references are right, and scores agree with an independent checker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.tasks import equations
from jobs.tasks.base import MASK

LETTERS = "0123456789+-*= _x\u0662"
PLAIN = {str(number) for number in range(10_000)}


def is_right(problem_input: str, answer: str) -> bool:
    """By hand: no regular expression, and numbers are looked up instead of read."""
    if len(answer) != len(problem_input):
        return False
    if any(mark not in (MASK, answer[place]) for place, mark in enumerate(problem_input)):
        return False
    if answer.count("=") != 1 or sum(answer.count(sign) for sign in "+-") != 1:
        return False
    left, result = answer.split("=")
    sign = "+" if "+" in left else "-"
    if left.count(sign) != 1:
        return False
    numbers = [*left.split(sign), result]
    if any(number not in PLAIN for number in numbers):
        return False
    first, second, third = (int(number) for number in numbers)
    return third - second == first if sign == "+" else third + second == first


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 10**6))
def test_references_are_right_and_blanks_are_where_they_are_counted(seed):
    for problem in equations.draw(np.random.default_rng(seed), 10):
        assert equations.is_correct(problem.input, problem.reference)
        assert is_right(problem.input, problem.reference)
        assert problem.bucket == f"{problem.input.count(MASK)} blanks"
        assert MASK in problem.input
        assert equations.holds_out(equations.infill_text(problem.input))


def test_problems_are_the_same_for_a_seed():
    first, second, other = (equations.draw(np.random.default_rng(seed), 50) for seed in (1, 1, 2))

    assert first == second != other
    assert len({problem.input for problem in first}) == 50


def test_every_changed_character_scores_as_an_independent_checker_says():
    for problem in equations.draw(np.random.default_rng(5), 25):
        reference = problem.reference
        for place in range(len(reference) + 1):
            for letter in LETTERS:
                for rest in (reference[place:], reference[place + 1 :]):
                    answer = reference[:place] + letter + rest
                    expected = is_right(problem.input, answer)
                    assert equations.is_correct(problem.input, answer) == expected, answer
            answer = reference[:place] + reference[place + 1 :]
            assert not equations.is_correct(problem.input, answer) or answer == reference


@settings(deadline=None, derandomize=True, max_examples=600)
@given(st.text("0123+-=", min_size=5, max_size=7))
def test_made_up_answers_score_as_an_independent_checker_says(answer):
    blanks = "".join("=" if mark == "=" else MASK for mark in answer)

    assert equations.is_correct(blanks, answer) == is_right(blanks, answer)


def test_any_true_equation_counts():
    assert equations.is_correct("_+_=5", "2+3=5")
    assert equations.is_correct("_+_=5", "0+5=5")
    assert equations.is_correct("___=_", "9-9=0")


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        ("_+_=5", ""),
        ("_+_=5", "2+3=6"),
        ("_+_=5", "2-3=5"),
        ("_+_=5", "2+3=5 "),
        ("_+_=5", "2+3=5\n"),
        ("_+_=5", "1+1+3=5"),
        ("_+_=5", "\u0662+3=5"),
        ("_+_=5", "_+_=5"),
        ("_+_=5", "2+4=5"),
        ("__+_=5", "02+3=5"),  # leading zero
        ("_+__=5", "2+03=5"),
        ("__+_=5", "+2+3=5"),
        ("__+_=5", " 2+3=5"),
        ("___=__", "2-3=-1"),  # nothing is negative
        ("___=__", "2+3=05"),
        ("___=_", "2*3=6"),
        ("_______=_", "10000+1=10001"),
    ],
)
def test_wrong_answers_score_nothing(problem_input, answer):
    assert not equations.is_correct(problem_input, answer)
