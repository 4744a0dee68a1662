"""What a caller says about a suite, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jobs.common.errors import Refused

__all__ = ["Form", "SuiteOptions", "Task"]

Form = Literal["native", "few-shot"]
"""The embedded checkpoint's own text form, or a prompt with examples for a Base model."""

Task = Literal["generate", "infill"]
"""As in `run`: complete a prompt, or fill the holes of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """How a suite is made; None means the suite's own default. Suites refuse what they ignore.

    num: problems of each bucket of givens (Sudoku), of the suite (others), or rows of a file;
        by default 1000, and all rows of a file.
    seed: of the problems and of the examples, which are drawn from streams of their own.
    givens: numbers of Sudoku clues.
    form: native or few-shot.
    shots, prompt_template: examples (8) and the instruction file of few-shot prompts.
    max_new_tokens: length of the hole after a prompt.
    data: a file of Dream's planning set, whose first rows are the examples; or custom's Parquet.
    task, prompt_column, mask_token: how custom reads rows, as in `run`.
    reference_column, bucket_column, scorer: how custom scores and groups them.
    """

    num: int | None = None
    seed: int = 0
    givens: tuple[int, ...] | None = None
    form: Form | None = None
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
        for name, value, allowed in (("form", self.form, Form), ("task", self.task, Task)):
            if value is not None and value not in get_args(allowed):
                raise Refused(f"{name}: {value!r} is not one of {', '.join(get_args(allowed))}")
        for givens in self.givens or ():
            _check_integer("givens", givens, 0)
        if self.givens is not None and len(set(self.givens)) != max(1, len(self.givens)):
            raise Refused(f"givens: {self.givens} names no number, or one twice")


def _check_integer(name: str, value: int | None, low: int) -> None:
    is_right = isinstance(value, int) and not isinstance(value, bool) and value >= low
    if value is not None and not is_right:
        raise Refused(f"{name}: {value!r} is not an integer >= {low}")
