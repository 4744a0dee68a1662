"""Equation infill: `1_+2_=4_` with a blank for any digit or sign; any true equation counts.

Numbers are plain ASCII integers without leading zeros; nothing is negative.
"""

from __future__ import annotations

import re

import numpy as np

from jobs.tasks.base import MASK, Keyed, Problem, Sample, draw_distinct, is_held_out

__all__ = ["draw", "holds_out", "infill_text", "is_correct", "sample"]

SMALLEST, LARGEST = 10, 99
"""Numbers of the equations drawn; answers may hold any."""

_EQUATION = re.compile(r"(0|[1-9][0-9]{0,3})([+-])(0|[1-9][0-9]{0,3})=(0|[1-9][0-9]{0,3})")


def draw(rng: np.random.Generator, num: int, *, held_out: bool = True) -> list[Problem]:
    """`num` distinct equations of one split, with a uniform number of blanks; buckets by blanks."""

    def attempt(_: int) -> Keyed | None:
        equation = _draw_equation(rng)
        places = [i for i, character in enumerate(equation) if character != "="]
        blanks = rng.permutation(places)[: int(rng.integers(1, len(places) + 1))]
        text = "".join(MASK if i in blanks else c for i, c in enumerate(equation))
        if is_held_out(_key(text)) != held_out:
            return None
        bucket = f"{len(blanks)} blanks"
        return Keyed(text, Problem(input=text, reference=equation, bucket=bucket))

    return draw_distinct(num, attempt, what="equation infill")


def infill_text(problem_input: str) -> str:
    """The text the embedded checkpoint is given: `E:1_+2_=4_`."""
    return "E:" + problem_input


def is_correct(problem_input: str, answer: str) -> bool:
    """Whether `answer` keeps every given character and is a true equation of plain integers."""
    match = _EQUATION.fullmatch(answer)
    if match is None or len(answer) != len(problem_input):
        return False
    keeps = all(given in (MASK, c) for given, c in zip(problem_input, answer, strict=True))
    left, op, right, result = match.groups()
    value = int(left) + int(right) if op == "+" else int(left) - int(right)
    return keeps and value == int(result)


def holds_out(visible: str) -> bool:
    """Whether the visible text `E:1_+2_=4_` is a held-out problem."""
    return is_held_out(_key(visible.removeprefix("E:")))


def sample(rng: np.random.Generator) -> Sample:
    """A true equation; everything but its mark and the equals sign may be masked."""
    equation = _draw_equation(rng)
    return Sample("E:" + equation, "  " + "".join(" " if c == "=" else "#" for c in equation))


def _draw_equation(rng: np.random.Generator) -> str:
    """A sum of two numbers, or a difference of two, in which every number has two digits.

    All pairs are equally likely: a fair share of them carries, and no total stands out.
    """
    while True:
        first, second = (int(n) for n in rng.integers(SMALLEST, LARGEST + 1, 2))
        if first + second <= LARGEST:
            break
    if rng.random() < 0.5:
        return f"{first}+{second}={first + second}"
    return f"{first + second}-{second}={first}"


def _key(text: str) -> str:
    return "equation " + text
