"""Countdown: reach a target from k numbers with + - * /, each number used exactly once.

Data format of Dream's planning set: input `15,44,79,50` (the last number is the target), output
`44-15=29,79-29=50`. Generation follows diffusion-vs-ar: random operations on a pool of numbers.

Answers are ASCII: digits, one operation, `=`, digits, joined by commas, and nothing else. Leading
zeros are allowed, because the embedded checkpoint writes two digits; signs and blanks are not, so
no result is negative.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from jobs.common.errors import Refused
from jobs.tasks.base import EOS, Keyed, Problem, Sample, draw_distinct, is_held_out

__all__ = ["FULL", "MINI", "Range", "draw", "holds_out", "is_correct", "is_correct_dream"]
__all__ += ["mini_prompt", "mini_sample", "num_numbers", "read_equations", "read_problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers are drawn from 1 to `largest`; results stay in 1 to `cap`."""

    largest: int
    cap: int
    operations: str


FULL = Range(largest=100, cap=100, operations="+-*/")
MINI = Range(largest=20, cap=99, operations="+-*")
"""The range of the embedded checkpoint: every number has at most two digits."""

MINI_ANSWER = len("15+07=22,22-04=18")
"""Length of every answer of the mini form."""

# ASCII digits only: \d and int() also take other scripts' digits.
_EQUATION = re.compile(r"([0-9]{1,9})([+\-*/])([0-9]{1,9})=([0-9]{1,9})")
_INPUT = re.compile(r"[0-9]{1,9}(,[0-9]{1,9}){2,}")


@dataclass(frozen=True, slots=True)
class Equation:
    """`left op right = result`, as written."""

    left: int
    op: str
    right: int
    result: int

    @property
    def is_true(self) -> bool:
        """Exact in integers; a quotient must be whole."""
        if self.op == "/":
            return self.right != 0 and self.left == self.result * self.right
        values = {"+": self.left + self.right, "-": self.left - self.right}
        return self.result == values.get(self.op, self.left * self.right)

    def __str__(self) -> str:
        return f"{self.left}{self.op}{self.right}={self.result}"


def draw(
    rng: np.random.Generator, num: int, *, count: int, within: Range, held_out: bool = True
) -> list[Problem]:
    """`num` distinct problems of `count` numbers and a target, all of one split."""

    def attempt(_: int) -> Keyed | None:
        numbers, trace = _draw_trace(rng, count, within)
        key = _key(numbers, trace[-1].result)
        if is_held_out(key) != held_out:
            return None
        text = ",".join(map(str, [*numbers, trace[-1].result]))
        reference = ",".join(map(str, trace))
        return Keyed(key, Problem(input=text, reference=reference, bucket=f"{count} numbers"))

    return draw_distinct(num, attempt, what=f"countdown with numbers up to {within.largest}")


def num_numbers(problem_input: str) -> int:
    """How many numbers an input has beside its target; 0 where it is no input."""
    return problem_input.count(",") if _INPUT.fullmatch(problem_input) else 0


def read_problem(problem_input: str) -> tuple[list[int], int]:
    """The numbers and the target of an input `15,44,79,50`."""
    if _INPUT.fullmatch(problem_input) is None:
        raise Refused(f"{problem_input!r} is no Countdown input: numbers and a target, as 1,2,3")
    *numbers, target = map(int, problem_input.split(","))
    return numbers, target


def read_equations(answer: str) -> list[Equation] | None:
    """The equations of an answer `a+b=c,...`; None where it is anything else."""
    equations: list[Equation] = []
    for part in answer.split(","):
        match = _EQUATION.fullmatch(part)
        if match is None:
            return None
        left, op, right, result = match.groups()
        equations.append(Equation(int(left), op, int(right), int(result)))
    return equations


def is_correct(problem_input: str, answer: str) -> bool:
    """The pool rule: an equation takes two members and adds its result; the target alone is left.

    So every number is used exactly once, as every intermediate result is.
    """
    numbers, target = read_problem(problem_input)
    equations = read_equations(answer)
    if equations is None:
        return False
    pool = Counter(numbers)
    for equation in equations:
        taken = Counter([equation.left, equation.right])
        if not equation.is_true or not taken <= pool:
            return False
        pool = pool - taken + Counter([equation.result])
    return pool == Counter([target])


def is_correct_dream(problem_input: str, answer: str) -> bool:
    """The rule of Dream's evaluation: true equations, each input used once, results reusable."""
    numbers, target = read_problem(problem_input)
    equations = read_equations(answer)
    if not equations or not all(equation.is_true for equation in equations):
        return False
    inputs = Counter(numbers)
    results: set[int] = set()
    for equation in equations:
        for operand in (equation.left, equation.right):
            if inputs[operand] > 0:
                inputs[operand] -= 1
            elif operand not in results:
                return False
        results.add(equation.result)
    return not +inputs and equations[-1].result == target


def holds_out(visible: str) -> bool:
    """Whether a visible mini text `C:15,07,04,18=...` shows a held-out problem."""
    numbers = visible[2 : visible.index("=")].split(",")
    return is_held_out(_key(list(map(int, numbers[:-1])), int(numbers[-1])))


def mini_prompt(problem_input: str) -> str:
    """The embedded checkpoint's form `C:15,07,04,18=`: two digits each, largest number first."""
    numbers, target = read_problem(problem_input)
    return "C:" + ",".join(f"{n:02}" for n in [*sorted(numbers, reverse=True), target]) + "="


def mini_sample(rng: np.random.Generator) -> Sample:
    """A prompt and its answer of fixed width, then one to three EOS."""
    numbers, trace = _draw_trace(rng, 3, MINI)
    prompt = mini_prompt(",".join(map(str, [*numbers, trace[-1].result])))
    answer = ",".join(f"{e.left:02}{e.op}{e.right:02}={e.result:02}" for e in trace)
    answer += EOS * int(rng.integers(1, 4))
    return Sample(prompt + answer, " " * len(prompt) + "#" * len(answer))


def _draw_trace(
    rng: np.random.Generator, count: int, within: Range
) -> tuple[list[int], list[Equation]]:
    """Numbers and a way to a target; sums and products name their larger operand first."""
    while True:
        numbers = [int(n) for n in rng.integers(1, within.largest + 1, count)]
        pool, trace = list(numbers), list[Equation]()
        while len(pool) > 1:
            first, second = (int(i) for i in rng.choice(len(pool), 2, replace=False))
            big, small = max(pool[first], pool[second]), min(pool[first], pool[second])
            op = within.operations[int(rng.integers(len(within.operations)))]
            result = _apply(big, op, small)
            if result is None or not 1 <= result <= within.cap:
                break
            trace.append(Equation(big, op, small, result))
            pool = [n for i, n in enumerate(pool) if i not in (first, second)] + [result]
        else:
            return numbers, trace


def _apply(big: int, op: str, small: int) -> int | None:
    if op == "/":
        return big // small if big % small == 0 else None
    return {"+": big + small, "-": big - small, "*": big * small}[op]


def _key(numbers: list[int], target: int) -> str:
    """Canonical text: the order of the numbers does not make another problem."""
    return "countdown " + ",".join(map(str, sorted(numbers))) + f"={target}"
