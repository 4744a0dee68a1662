"""Countdown as the authors of Dream's planning set make it and score it.

`is_correct` is the rule of DreamLM/Dream, eval/cd_metric.py. A count is kept for each number, as
text: the inputs add one each, every number on a left side takes one, every result adds one, and
the target takes one at the end. An answer is right if all counts are then zero, every equation is
true, and the text after the last `=` is the target. So every input and every result is used
exactly once, the equations may stand in any order, and a left side may hold more than two numbers.

`draw` follows kanishkg/stream-of-search, src/countdown.py, which the examples of the planning set
agree with: numbers and a target are drawn first, and the reference is the first solution that a
depth-first search finds. So results along the way may exceed 100, and products are frequent.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np

from jobs.tasks.base import Keyed, Problem, draw_distinct, is_held_out
from jobs.tasks.countdown import problem_key, read_problem

__all__ = ["LARGEST", "TARGETS", "draw", "is_correct"]

LARGEST = 99
"""Numbers are drawn from 1 to this."""

TARGETS = (10, 100)
"""The least and the greatest target."""

LARGEST_OF_POWER = 1000
"""No base and no exponent of a power is larger: such an answer could take for ever."""

_BEGINS = re.compile(r"[0-9]+[-+*/][0-9]+")
_LEFT = re.compile(r"[-+*/(). 0-9]*")
_RESULT = re.compile(r"[0-9]+")
_USED = re.compile(r"[0-9]+(?=[-+,./*=])")
"""A number counts as used where one of these signs follows it, as in the published rule."""

_Number = int | float


def _power(base: _Number, exponent: _Number) -> _Number:
    if base < 0 or max(base, abs(exponent)) > LARGEST_OF_POWER:
        raise ArithmeticError(f"{base} ** {exponent} is not computed")
    value: _Number = base**exponent
    return value


_OPERATIONS: dict[type[ast.operator], Callable[[_Number, _Number], _Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}


def draw(rng: np.random.Generator, num: int, *, count: int, held_out: bool = True) -> list[Problem]:
    """`num` distinct solvable problems of `count` numbers, all of one split."""

    def attempt(_: int) -> Keyed | None:
        target = int(rng.integers(TARGETS[0], TARGETS[1] + 1))
        numbers = [int(n) for n in rng.integers(1, LARGEST + 1, count)]
        key = problem_key(numbers, target)
        if is_held_out(key) != held_out:
            return None
        trace = _search(numbers, target)
        if trace is None:
            return None
        text = ",".join(map(str, [*numbers, target]))
        problem = Problem(input=text, reference=",".join(trace), bucket=f"{count} numbers")
        return Keyed(key, problem)

    return draw_distinct(num, attempt, what=f"countdown with {count} numbers and a target")


def is_correct(problem_input: str, answer: str) -> bool:
    """Whether the published rule takes the answer.

    A left side is arithmetic: digits, + - * / // **, points, brackets and blanks. The published
    code evaluates any other Python too; here that is no equation, as huge powers are none.
    """
    read_problem(problem_input)
    *numbers, target = problem_input.split(",")
    counts = Counter(numbers)
    result = ""
    for equation in answer.split(","):
        left, sign, result = equation.partition("=")
        if not sign or not _is_true(left, result):
            return False
        counts.subtract(_USED.findall(left + sign))
        counts[result] += 1
    counts[target] -= 1
    return result == target and not any(counts.values())


def _is_true(left: str, result: str) -> bool:
    """Whether `left` begins as an equation does, and its value is `result` as a float.

    A result of anything but digits is refused at once: its count could never be zero.
    """
    if not (_BEGINS.match(left) and _LEFT.fullmatch(left) and _RESULT.fullmatch(result)):
        return False
    try:
        return _value(ast.parse(left, mode="eval").body) == float(result)
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError):
        return False


def _value(node: ast.expr) -> _Number:
    """The value of plain arithmetic; a SyntaxError for anything else."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            return _value(operand) * (1 if isinstance(sign, ast.UAdd) else -1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](_value(left), _value(right))
    raise SyntaxError(f"{type(node).__name__} is no arithmetic")


def _search(numbers: list[int], target: int) -> list[str] | None:
    """The equations of the first way from the numbers to the target, depth first."""
    if len(numbers) == 1:
        return [] if numbers[0] == target else None
    for i, j in combinations(range(len(numbers)), 2):
        rest = [number for place, number in enumerate(numbers) if place not in (i, j)]
        for result, equation in _results(numbers[i], numbers[j]):
            found = _search([*rest, result], target)
            if found is not None:
                return [equation, *found]
    return None


def _results(first: int, second: int) -> list[tuple[int, str]]:
    """What two numbers give: a difference is not negative, and a quotient is whole."""
    big, small = max(first, second), min(first, second)
    found = [
        (first + second, f"{first}+{second}={first + second}"),
        (first * second, f"{first}*{second}={first * second}"),
        (big - small, f"{big}-{small}={big - small}"),
    ]
    if small and big % small == 0:
        found.append((big // small, f"{big}/{small}={big // small}"))
    return found
