"""Countdown: reach a target from k numbers with + - * /, each number used exactly once.

Data format of Dream's planning set: input `15,44,79,50` (the last number is the target), output
`44-15=29,79-29=50`. Generation follows diffusion-vs-ar: random operations on a pool of numbers.

Answers are ASCII: digits, one operation, `=`, digits, joined by commas, and nothing else. Leading
zeros are allowed, because the embedded checkpoint writes two digits; signs and blanks are not, so
no result is negative. The rule of Dream's authors is in `countdown_planning`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np

from jobs.common.errors import Refused
from jobs.tasks.base import EOS, Keyed, Problem, Sample, draw_distinct, is_held_out

__all__ = ["FULL", "MINI", "Range", "draw", "every", "holds_out", "is_correct", "mini_prompt"]
__all__ += ["mini_sample", "num_numbers", "problem_key", "read_equations", "read_problem"]
__all__ += ["without_zeros"]


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
"""Length of every answer to the mini prompt."""

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
        key = problem_key(numbers, trace[-1].result)
        if is_held_out(key) != held_out:
            return None
        text = ",".join(map(str, [*numbers, trace[-1].result]))
        reference = ",".join(map(str, trace))
        return Keyed(key, Problem(input=text, reference=reference, bucket=f"{count} numbers"))

    return draw_distinct(num, attempt, what=f"countdown with numbers up to {within.largest}")


def every(within: Range, *, held_out: bool = True) -> list[Problem]:
    """Every problem of three numbers in the range, once, of one split; in order of the numbers."""
    found: dict[str, Problem] = {}
    for numbers in combinations_with_replacement(range(1, within.largest + 1), 3):
        for trace in _traces(list(numbers), within):
            target = trace[-1].result
            key = problem_key(numbers, target)
            if key not in found and is_held_out(key) == held_out:
                text = ",".join(map(str, [*numbers, target]))
                reference = ",".join(map(str, trace))
                found[key] = Problem(input=text, reference=reference, bucket="3 numbers")
    return list(found.values())


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


def problem_key(numbers: Sequence[int], target: int) -> str:
    """Canonical text: the order of the numbers does not make another problem."""
    return "countdown " + ",".join(map(str, sorted(numbers))) + f"={target}"


def holds_out(visible: str) -> bool:
    """Whether a visible mini text `C:15,07,04,18=...` shows a held-out problem."""
    numbers = visible[2 : visible.index("=")].split(",")
    return is_held_out(problem_key(list(map(int, numbers[:-1])), int(numbers[-1])))


def mini_prompt(problem_input: str) -> str:
    """What the embedded checkpoint is given, `C:15,07,04,18=`: two digits each, largest first."""
    numbers, target = read_problem(problem_input)
    return "C:" + ",".join(f"{n:02}" for n in [*sorted(numbers, reverse=True), target]) + "="


def without_zeros(answer: str) -> str:
    """An answer to the mini prompt with its numbers written without leading zeros."""
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", answer)


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


def _traces(pool: list[int], within: Range) -> Iterator[list[Equation]]:
    """Every trace that `_draw_trace` can draw from these numbers."""
    if len(pool) == 1:
        yield []
    for first, second in combinations(range(len(pool)), 2):
        big, small = max(pool[first], pool[second]), min(pool[first], pool[second])
        rest = [n for i, n in enumerate(pool) if i not in (first, second)]
        for op in within.operations:
            result = _apply(big, op, small)
            if result is not None and 1 <= result <= within.cap:
                for trace in _traces([*rest, result], within):
                    yield [Equation(big, op, small, result), *trace]


def _apply(big: int, op: str, small: int) -> int | None:
    if op == "/":
        return big // small if big % small == 0 else None
    return {"+": big + small, "-": big - small, "*": big * small}[op]
