"""Few-shot prompts for Base models, built as Dream's planning evaluation builds them.

An instruction, then solved examples, then the question; blank lines between them. How examples
and questions are laid out, and where an answer is cut, follows DreamLM/Dream's eval_planning.py;
the instructions are our own and live in `templates/`, one file each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jobs.common.errors import Refused
from jobs.tasks.base import Problem

__all__ = ["COUNTDOWN", "SUDOKU", "Instruction", "Layout", "few_shot_prompt"]
__all__ += ["read_instruction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a task is written in a prompt, how long its answers may be, and where they are cut.

    `before_input` and `before_output` frame an example. A question ends in `before_answer`, which
    leaves the model where an answer begins. `cut` takes the problem's input and the generated
    text.
    """

    before_input: str
    before_output: str
    before_answer: str
    max_new_tokens: int
    cut: Callable[[str, str], str]

    def example(self, problem: Problem) -> str:
        """A solved problem."""
        return self._framed(problem.input) + self.before_output + problem.reference

    def question(self, problem_input: str) -> str:
        """An open problem."""
        return self._framed(problem_input) + self.before_answer

    def _framed(self, problem_input: str) -> str:
        return self.before_input + problem_input


class Instruction(NamedTuple):
    """The sentence a prompt opens with, and the digest of its text."""

    text: str
    sha256: str


def few_shot_prompt(
    instruction: str, layout: Layout, shots: Sequence[Problem], problem_input: str
) -> str:
    """The whole prompt of one problem."""
    examples = [layout.example(shot) for shot in shots]
    return "\n\n".join([instruction, *examples, layout.question(problem_input)])


def read_instruction(name: str, path: str | None = None) -> Instruction:
    """Our own instruction of that name, or the text of another file; final newlines are dropped."""
    source = files("jobs.evaluate") / "templates" / f"{name}.txt" if path is None else Path(path)
    try:
        text = source.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, ValueError) as error:
        raise Refused(f"prompt template {source}: not readable as UTF-8 text: {error}") from error
    if not text.strip():
        raise Refused(f"prompt template {source}: it is empty; an instruction is needed")
    return Instruction(text, hashlib.sha256(text.encode("utf-8")).hexdigest())


def _first_line(problem_input: str, text: str) -> str:
    """Up to the first newline."""
    return text.split("\n", 1)[0]


def _first_block(problem_input: str, text: str) -> str:
    """Up to the first blank line, without spaces, no longer than the puzzle."""
    return text.split("\n\n", 1)[0].replace(" ", "")[: len(problem_input)]


COUNTDOWN = Layout(
    before_input="Input: ",
    before_output="\nOutput: ",
    before_answer="\nOutput: ",
    max_new_tokens=32,
    cut=_first_line,
)

SUDOKU = Layout(
    before_input="Input:\n",
    before_output="\nOutput:\n",
    before_answer="\nOutput:\n ",  # the published prompt ends in this space
    max_new_tokens=24,
    cut=_first_block,
)
