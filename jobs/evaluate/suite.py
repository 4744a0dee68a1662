"""A suite: problems as they are put to a model, how its answer is read, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dream.text import TextTemplate
from jobs.tasks.base import Problem

__all__ = ["Metric", "Question", "Suite", "filled"]

Metric = Callable[[str, str], bool]
"""Whether an answer is right: takes the problem's input and the answer as read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A problem, and the text with the holes that its answer goes into."""

    problem: Problem
    text: TextTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Questions with one way to read and score their answers.

    `metrics` maps names to scores; the first is the suite's own, the others are reported beside
    it. `config` is what results record about how the questions were made.
    """

    name: str
    version: int
    questions: tuple[Question, ...]
    read_answer: Callable[[Question, Sequence[str]], str]
    metrics: Mapping[str, Metric]
    config: Mapping[str, str | int | float | None]


def filled(question: Question, spans: Sequence[str]) -> str:
    """The whole text: given text, and the span of each hole in its place."""
    return question.text.join(spans)
