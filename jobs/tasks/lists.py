"""Short list work: sort, reverse, copy, and close brackets; nearly solvable in one step."""

from __future__ import annotations

import numpy as np

from jobs.tasks.base import EOS, Keyed, Problem, Sample, draw_distinct, is_held_out

__all__ = ["KINDS", "draw", "holds_out", "is_correct", "prompt_text", "sample"]

KINDS = ("sort", "reverse", "copy", "close")
"""Order the digits; turn the letters round; repeat the letters; close the open brackets."""

LONGEST = 10
_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw(rng: np.random.Generator, num: int, *, held_out: bool = True) -> list[Problem]:
    """`num` distinct problems of one split, kinds in turn."""

    def attempt(num_found: int) -> Keyed | None:
        kind = KINDS[num_found % len(KINDS)]
        text = f"{kind} {_draw_item(rng, kind, shortest=4)}"
        if is_held_out(text) != held_out:
            return None
        return Keyed(text, Problem(input=text, reference=_answer(text), bucket=kind))

    return draw_distinct(num, attempt, what="list work")


def prompt_text(problem_input: str) -> str:
    """The text the embedded checkpoint is given: `sort 4127=`."""
    return problem_input + "="


def is_correct(problem_input: str, answer: str) -> bool:
    """Whether it is the one right answer."""
    return answer == _answer(problem_input)


def holds_out(visible: str) -> bool:
    """Whether the visible text `sort 4127=...` shows a held-out problem."""
    return is_held_out(visible[: visible.index("=")])


def sample(rng: np.random.Generator) -> Sample:
    """A prompt and its answer, then one to four EOS."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    text = f"{kind} {_draw_item(rng, kind, shortest=2)}"
    prompt, answer = prompt_text(text), _answer(text) + EOS * int(rng.integers(1, 5))
    return Sample(prompt + answer, " " * len(prompt) + "#" * len(answer))


def _draw_item(rng: np.random.Generator, kind: str, *, shortest: int) -> str:
    alphabet = {"sort": "0123456789", "close": "".join(_PAIRS)}.get(kind, _LETTERS)
    length = int(rng.integers(shortest, LONGEST + 1))
    return "".join(alphabet[int(i)] for i in rng.integers(len(alphabet), size=length))


def _answer(problem_input: str) -> str:
    kind, item = problem_input.split(" ")
    if kind == "sort":
        return "".join(sorted(item))
    if kind == "close":
        return "".join(_PAIRS[bracket] for bracket in reversed(item))
    return item[::-1] if kind == "reverse" else item
