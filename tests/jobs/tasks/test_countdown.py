"""Countdown: generated references are right, and scores agree with an independent checker."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.common.errors import Refused
from jobs.tasks import countdown
from jobs.tasks.base import EOS

PROBLEM = "15,44,79,50"
ANSWER = "44-15=29,79-29=50"
LETTERS = "0123456789+-*/=, x\u0662"

Steps = list[tuple[int, str, int, int]]


def read(answer: str) -> Steps | None:
    """Equations by hand: no regular expression, no library code."""
    steps: Steps = []
    for part in answer.split(","):
        if part.count("=") != 1:
            return None
        left, result = part.split("=")
        signs = [sign for sign in left if sign in "+-*/"]
        if len(signs) != 1:
            return None
        first, second = left.split(signs[0])
        for number in (first, second, result):
            if not 1 <= len(number) <= 9 or any(digit not in "0123456789" for digit in number):
                return None
        steps.append((int(first), signs[0], int(second), int(result)))
    return steps


def is_true(step: tuple[int, str, int, int]) -> bool:
    first, sign, second, result = step
    if sign == "/":
        return second != 0 and Fraction(first, second) == result
    return {"+": first + second, "-": first - second, "*": first * second}[sign] == result


def by_pool(numbers: list[int], target: int, steps: Steps) -> bool:
    pool = list(numbers)
    for step in steps:
        for operand in (step[0], step[2]):
            if operand not in pool:
                return False
            pool.remove(operand)
        if not is_true(step):
            return False
        pool.append(step[3])
    return pool == [target]


def verdict(problem_input: str, answer: str) -> bool:
    *numbers, target = map(int, problem_input.split(","))
    steps = read(answer)
    return steps is not None and by_pool(numbers, target, steps)


def mutations(answer: str) -> Iterator[str]:
    for place in range(len(answer) + 1):
        yield answer[:place] + answer[place + 1 :]
        for letter in LETTERS:
            yield answer[:place] + letter + answer[place:]
            yield answer[:place] + letter + answer[place + 1 :]


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(3, 5), st.booleans(), st.integers(0, 10**6))
def test_references_are_right(count, is_mini, seed):
    within = countdown.MINI if is_mini else countdown.FULL

    problems = countdown.draw(np.random.default_rng(seed), 5, count=count, within=within)

    for problem in problems:
        assert problem.bucket == f"{count} numbers"
        assert countdown.is_correct(problem.input, problem.reference)
        numbers, target = countdown.read_problem(problem.input)
        assert len(numbers) == count
        assert 1 <= target <= within.cap
        assert all(1 <= number <= within.largest for number in numbers)


@pytest.mark.parametrize("held_out", [True, False])
def test_problems_are_distinct_of_one_split_and_the_same_for_a_seed(held_out):
    first, second, other = (
        countdown.draw(
            np.random.default_rng(seed), 60, count=3, within=countdown.MINI, held_out=held_out
        )
        for seed in (1, 1, 2)
    )

    assert first == second != other
    for problem in first:
        assert countdown.holds_out(countdown.mini_prompt(problem.input)) == held_out
    keys = {(tuple(sorted(n)), t) for n, t in (countdown.read_problem(p.input) for p in first)}
    assert len(keys) == 60


@pytest.mark.parametrize("count", [3, 4])
def test_every_changed_character_scores_as_an_independent_checker_says(count):
    rng = np.random.default_rng(count)
    for problem in countdown.draw(rng, 6, count=count, within=countdown.FULL):
        for answer in {*mutations(problem.reference)}:
            assert countdown.is_correct(problem.input, answer) == verdict(problem.input, answer), (
                answer
            )


def test_every_changed_character_of_a_mini_answer_scores_so_too():
    rng = np.random.default_rng(0)
    for _ in range(4):
        prompt, _, answer = countdown.mini_sample(rng).text.rstrip(EOS).partition("=")
        text = prompt.removeprefix("C:")
        assert countdown.is_correct(text, answer)
        for changed in {*mutations(answer)}:
            assert countdown.is_correct(text, changed) == verdict(text, changed), changed


numbers = st.integers(0, 4)
equations = st.lists(
    st.tuples(numbers, st.sampled_from("+-*/"), numbers).flatmap(
        lambda t: st.tuples(
            *map(st.just, t),
            st.sampled_from([t[0] + t[2], abs(t[0] - t[2]), t[0] * t[2], t[0] // (t[2] or 1)]),
        )
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, derandomize=True, max_examples=800)
@given(st.lists(numbers, min_size=2, max_size=3), equations)
def test_made_up_answers_score_as_an_independent_checker_says(drawn, steps):
    text = ",".join(map(str, [*drawn, steps[-1][3]]))
    answer = ",".join(f"{a}{op}{b}={c}" for a, op, b, c in steps)

    assert countdown.is_correct(text, answer) == verdict(text, answer)


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        (PROBLEM, ""),
        (PROBLEM, ","),
        (PROBLEM, "50"),
        (PROBLEM, "=50"),
        (PROBLEM, "44-15=29"),  # a number is left
        (PROBLEM, "44-15=29,79-29=50,"),
        (PROBLEM, "44-15=29,79-29=50\n"),
        (PROBLEM, "44-15=29,79-29=50 "),
        (PROBLEM, " 44-15=29,79-29=50"),
        (PROBLEM, "44 - 15 = 29,79-29=50"),
        (PROBLEM, "44-15=29;79-29=50"),
        (PROBLEM, "44-15=29,79-29=50,50-0=50"),  # a number that is not there
        (PROBLEM, "44-15=29,79-29=50 so"),
        (PROBLEM, "44-15=29,79-29=50=50"),
        (PROBLEM, "+44-15=29,79-29=50"),
        (PROBLEM, "44-15=+29,79-29=50"),
        (PROBLEM, "15-44=-29,79+-29=50"),
        (PROBLEM, "4_4-15=29,79-29=50"),
        (PROBLEM, "44.0-15=29,79-29=50"),
        (PROBLEM, "0x2c-15=29,79-29=50"),
        (PROBLEM, "4e1-15=25,79-29=50"),
        (PROBLEM, "\u0664\u0664-15=29,79-29=50"),  # Arabic-Indic 44
        (PROBLEM, "\uff14\uff14-15=29,79-29=50"),  # full-width 44
        (PROBLEM, "44\u221215=29,79-29=50"),  # a minus sign of mathematics
        (PROBLEM, "4\u00b2-15=1,79-29=50"),
        (PROBLEM, "79-44=35,35+15=50,15+35=50"),  # 15 again
        (PROBLEM, "15+35=50"),
        (PROBLEM, "44-15=28,79-29=50"),
        (PROBLEM, "44-15=29,79-29=51"),
        ("5,0,5", "5/0=5"),
        ("0,0,0", "0/0=0"),
        ("7,2,3", "7/2=3"),  # not whole
        ("7,2,4", "7/2=4"),
        ("1,3,1", "1/3=0,0+1=1"),
        ("3,3,6", "3+3=6,6+0=6"),
        ("3,5,8", "3+5=8,3+5=8"),
        ("3,5,8", "3+3=6,5+3=8"),  # 3 twice, though it is there once
        ("1,2,3", "1" * 5000 + "+2=3"),
        ("1,2,3", "1+2=" + "0" * 5000 + "3"),
        ("1,2,3", "1+2=3" + "," * 5000),
    ],
)
def test_wrong_answers_score_nothing(problem_input, answer):
    assert not countdown.is_correct(problem_input, answer)


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        (PROBLEM, ANSWER),
        (PROBLEM, "044-015=029,79-29=50"),  # leading zeros, as the embedded checkpoint writes them
        ("15,7,4,18", "15+07=22,22-04=18"),
        ("6,3,2", "6/3=2"),
        ("3,3,9", "3*3=9"),
        ("3,3,9,9", "3-3=0,9+0=9"),
    ],
)
def test_right_answers_score(problem_input, answer):
    assert countdown.is_correct(problem_input, answer)


@pytest.mark.parametrize(
    "text", ["", "5", "1,2", "1,2,", "1, 2,3", "1,2,-3", "1,\u0662,3", "a,b,c"]
)
def test_an_odd_problem_is_refused(text):
    assert countdown.num_numbers(text) == 0
    with pytest.raises(Refused, match="is no Countdown input"):
        countdown.is_correct(text, "1+2=3")


def test_the_mini_prompt_writes_two_digits_and_the_largest_first():
    assert countdown.mini_prompt("4,15,7,18") == "C:15,07,04,18="
    assert countdown.num_numbers("4,15,7,18") == 3


def test_an_answer_is_written_without_leading_zeros():
    assert countdown.without_zeros("15+07=22,22-04=18") == "15+7=22,22-4=18"
    assert countdown.without_zeros("00*100=00,1=") == "0*100=0,1="


@pytest.mark.parametrize("held_out", [True, False])
def test_every_mini_problem_is_there_once_and_in_one_split(held_out):
    problems = countdown.every(countdown.MINI, held_out=held_out)
    drawn = countdown.draw(
        np.random.default_rng(0), 200, count=3, within=countdown.MINI, held_out=held_out
    )

    texts = {countdown.mini_prompt(problem.input) for problem in problems}
    assert len(texts) == len(problems) == (1575 if held_out else 11495)
    assert {countdown.mini_prompt(problem.input) for problem in drawn} <= texts
    for problem in problems[::50]:
        assert countdown.is_correct(problem.input, problem.reference)
        assert countdown.holds_out(countdown.mini_prompt(problem.input)) == held_out
