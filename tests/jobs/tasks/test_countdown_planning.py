"""Countdown as the Dream authors make and score it, against a slow reading of their rule."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.common.errors import Refused
from jobs.tasks import countdown, countdown_planning
from jobs.tasks.countdown_planning import is_correct

LETTERS = "0123456789+-*/=,. ()x\u0662"
ARITHMETIC = set("0123456789+-*/.() ")


def by_counts(problem_input: str, answer: str) -> bool:
    """The rule, letter by letter: Python evaluates the left side, a list counts the numbers."""
    *balance, target = problem_input.split(",")
    spent: list[str] = []
    right = ""
    for equation in answer.split(","):
        sides = equation.split("=")
        if len(sides) != 2 or not begins_as_an_equation(sides[0]) or "**" in sides[0]:
            return False
        left, right = sides
        if not set(left) <= ARITHMETIC or not right or not set(right) <= set("0123456789"):
            return False
        if value_of(left) != float(right):
            return False
        spent += numbers_before_a_sign(left + "=")
        balance.append(right)
    return right == target and sorted(balance) == sorted([*spent, target])


def begins_as_an_equation(left: str) -> bool:
    rest = left.lstrip("0123456789")
    return rest != left and rest[:1] in tuple("+-*/") and rest[1:2] in tuple("0123456789")


def value_of(left: str) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = eval(left, {})
        except (SyntaxError, TypeError, ArithmeticError, ValueError):
            return None
    return value if isinstance(value, int | float) else None


def numbers_before_a_sign(text: str) -> list[str]:
    found, number = [], ""
    for letter in text:
        if letter in "0123456789":
            number += letter
            continue
        if number and letter in "+-*/,.=":
            found.append(number)
        number = ""
    return found


def mutations(answer: str) -> Iterator[str]:
    for place in range(len(answer) + 1):
        yield answer[:place] + answer[place + 1 :]
        for letter in LETTERS:
            yield answer[:place] + letter + answer[place:]
            yield answer[:place] + letter + answer[place + 1 :]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_every_changed_character_scores_as_the_slow_reading_says(count):
    rng = np.random.default_rng(count)
    right = 0
    for problem in countdown_planning.draw(rng, 4, count=count):
        for answer in sorted({*mutations(problem.reference)}):
            expected = by_counts(problem.input, answer)
            right += expected
            assert is_correct(problem.input, answer) == expected, answer
    assert right >= 4, "some changes leave an answer right"


def test_equations_in_any_order_and_joined_score_as_the_slow_reading_says():
    rng = np.random.default_rng(0)
    verdicts: Counter[bool] = Counter()
    for problem in countdown_planning.draw(rng, 40, count=4):
        parts = problem.reference.split(",")
        for _ in range(40):
            any_of_them = rng.choice(parts, size=int(rng.integers(1, 5)))
            taken = rng.permutation(parts) if rng.random() < 0.5 else any_of_them
            joint = str(rng.choice([",", ",", ",", "+", "*", "="]))
            answer = ",".join([joint.join(taken[:2]), *taken[2:]])
            expected = by_counts(problem.input, answer)
            verdicts[expected] += 1
            assert is_correct(problem.input, answer) == expected, answer
    assert min(verdicts[True], verdicts[False]) > 100, verdicts


numbers = st.integers(0, 4)
lefts = st.lists(st.tuples(st.sampled_from("+-*/"), numbers), min_size=1, max_size=3)


@st.composite
def equations(draw) -> str:
    """A left side of two to four small numbers, and most often what it comes to."""
    left = str(draw(numbers)) + "".join(f"{op}{n}" for op, n in draw(lefts))
    value = value_of(left)
    is_plain = value is not None and value >= 0 and value == int(value)
    return f"{left}={int(value) if is_plain else draw(numbers)}"


@settings(deadline=None, derandomize=True, max_examples=1500)
@given(st.data())
def test_made_up_answers_score_as_the_slow_reading_says(data):
    answer = ",".join(data.draw(st.lists(equations(), min_size=1, max_size=3)))
    *_, target = answer.split("=")
    spent = Counter(numbers_before_a_sign(answer + ","))
    made = Counter(part.split("=")[1] for part in answer.split(","))
    inputs = sorted((spent - made + Counter([target])).elements())
    inputs = data.draw(st.permutations(inputs))
    inputs = [*inputs, "1", "2"][: max(2, len(inputs))]
    problem_input = ",".join([*inputs, target])

    assert is_correct(problem_input, answer) == by_counts(problem_input, answer), problem_input


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        ("15,44,79,50", "44-15=29,79-29=50"),
        ("8,2,1,4", "4*1=4,8/2=4"),  # 4 is used before an equation gives it
        ("2,3,4,14", "2+3*4=14"),
        ("1,2,3,4,10", "1+2+3=6,6+4=10"),
        ("7,2,2,7", "7/2*2=7"),  # halves on the way
        ("5,5,0,25", "5*5=25,25-0=25"),
    ],
)
def test_what_the_published_rule_takes(problem_input, answer):
    assert by_counts(problem_input, answer)
    assert is_correct(problem_input, answer)


@pytest.mark.parametrize(
    ("problem_input", "answer"),
    [
        ("2,3,50", "2+3=5,5*5=25,25+25=50"),  # results used twice
        ("15,44,79,50", "44-15=29"),
        ("15,44,79,50", "79-29=50,44-15=29"),  # the target is not the last result
        ("15,44,79,50", "044-15=29,79-29=50"),
        ("15,44,79,50", "44-15=29.0,79-29=50"),
        ("15,44,79,50", "44-15=29,79-29=50 "),
        ("15,44,79,50", ""),
        ("5,0,5", "5/0=5"),
        ("7,2,3", "7/2=3"),
        ("1,2,3", "1+__import__('os').getpid()=3"),
        ("1,2,3", "1+2 if 1 else 0=3"),
        ("2,9,9,1", "2+9**9**9**9=1"),
        ("1,2,3", "1" * 5000 + "+2=3"),
        ("1,2,3", "1+2" + "+0" * 5000 + "=3"),
        ("1,2,3", "1+" + "(" * 5000 + "2=3"),
    ],
)
def test_what_the_published_rule_refuses_or_is_no_arithmetic(problem_input, answer):
    assert not is_correct(problem_input, answer)


def test_powers_are_arithmetic_as_long_as_they_are_small():
    assert not is_correct("2,2,2001,9", "2+2**2001=9")
    assert is_correct("1,2,2,5", "1+2**2=5")


def test_an_odd_problem_is_refused():
    with pytest.raises(Refused, match="is no Countdown input"):
        is_correct("1,2", "1+1=2")


@pytest.mark.parametrize("count", [3, 4])
def test_problems_are_distinct_right_by_both_rules_and_of_one_split(count):
    first, second, seen = (
        countdown_planning.draw(np.random.default_rng(1), 40, count=count, held_out=held_out)
        for held_out in (True, True, False)
    )

    assert first == second
    assert not {problem.input for problem in first} & {problem.input for problem in seen}
    for problem in first:
        numbers, target = countdown.read_problem(problem.input)
        assert len(numbers) == count
        assert 10 <= target <= 100
        assert all(1 <= number <= 99 for number in numbers)
        assert is_correct(problem.input, problem.reference)
        if "-0=" not in problem.reference:
            assert countdown.is_correct(problem.input, problem.reference)


def test_results_and_products_are_those_of_the_planning_set_not_of_the_plain_draw():
    """The planning set: about an eighth of its operations are products, and results exceed 100."""
    rng = np.random.default_rng(0)
    searched = countdown_planning.draw(rng, 200, count=4)
    plain = countdown.draw(rng, 200, count=4, within=countdown.FULL)

    def share(problems, judge):
        found = [e for p in problems for e in countdown.read_equations(p.reference) or []]
        return sum(map(judge, found)) / len(found)

    assert 0.08 < share(searched, lambda e: e.op == "*") < 0.16
    assert share(plain, lambda e: e.op == "*") < 0.06
    assert share(searched, lambda e: e.result > 100) > 0.08
    assert share(plain, lambda e: e.result > 100) == 0


def test_the_first_solution_of_a_search_is_the_reference():
    """The worked example of the published set, which the same search gives."""
    assert countdown_planning._search([86, 28, 13, 31], 96) == [
        "86+28=114",
        "31-13=18",
        "114-18=96",
    ]
