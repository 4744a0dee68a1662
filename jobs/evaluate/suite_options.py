"""What a caller says about a suite, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jobs.common.errors import Refused

__all__ = ["Draw", "PromptStyle", "Split", "SuiteOptions", "Task"]

PromptStyle = Literal["native", "few-shot"]
"""The text the embedded checkpoint was trained on, or a prompt with examples for a Base model."""

Draw = Literal["plain", "planning", "every"]
"""Which problems of a task: `jobs.tasks` says what each draws."""

Split = Literal["test", "train"]
"""Problems that training never shows, or the others."""

Task = Literal["generate", "infill"]
"""As in `run`: complete a prompt, or fill the holes of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """How a suite is made; None means the suite's own default. Suites refuse what they ignore.

    num: problems of each bucket of givens (Sudoku), of the suite (others), or rows of a file;
        by default 1000, and all rows of a file.
    seed: of the problems and of the examples, which are drawn from streams of their own.
    givens: numbers of Sudoku clues.
    prompt_style: native or few-shot.
    draw: plain; planning, as the Dream authors' planning set is made; every problem there is once.
    split: problems that the embedded checkpoint was never shown (test), or others (train).
    slack: most characters by which a hole of a sentence is longer than what belongs in it (0).
    shots, prompt_template: examples (8) and the instruction file of few-shot prompts.
    max_new_tokens: length of the hole after a prompt.
    data: a file of Dream's planning set, whose first rows are the examples; or custom's Parquet.
    task, prompt_column, mask_token: how custom reads rows, as in `run`.
    reference_column, bucket_column, scorer: how custom scores and groups them.
    """

    num: int | None = None
    seed: int = 0
    givens: tuple[int, ...] | None = None
    prompt_style: PromptStyle | None = None
    draw: Draw | None = None
    split: Split | None = None
    slack: int | None = None
    shots: int | None = None
    prompt_template: str | None = None
    max_new_tokens: int | None = None
    data: str | None = None
    task: Task | None = None
    prompt_column: str | None = None
    mask_token: str | None = None
    reference_column: str | None = None
    bucket_column: str | None = None
    scorer: str | None = None

    def __post_init__(self) -> None:
        _check_integer("num", self.num, 1)
        _check_integer("seed", self.seed, 0)
        _check_integer("shots", self.shots, 0)
        _check_integer("max_new_tokens", self.max_new_tokens, 1)
        _check_integer("slack", self.slack, 0)
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise Refused(f"{name}: {value!r} is not one of {', '.join(allowed)}")
        for givens in self.givens or ():
            _check_integer("givens", givens, 0)
        if self.givens is not None and len(set(self.givens)) != max(1, len(self.givens)):
            raise Refused(f"givens: {self.givens} names no number, or one twice")


_CHOICES = {
    "prompt_style": get_args(PromptStyle),
    "draw": get_args(Draw),
    "split": get_args(Split),
    "task": get_args(Task),
}


def _check_integer(name: str, value: int | None, low: int) -> None:
    is_right = isinstance(value, int) and not isinstance(value, bool) and value >= low
    if value is not None and not is_right:
        raise Refused(f"{name}: {value!r} is not an integer >= {low}")
