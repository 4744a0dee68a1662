"""A suite: problems as they are put to a model, how its answer is read, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jobs.tasks.base import Problem

__all__ = ["Metric", "Piece", "Question", "Suite", "filled"]

Piece = str | int
"""Given text, or a hole of so many tokens."""

Metric = Callable[[str, str], bool]
"""Whether an answer is right: takes the problem's input and the answer as read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A problem and the text around the holes its answer goes into."""

    problem: Problem
    pieces: tuple[Piece, ...]


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
    """The whole text: given pieces, and the span of each hole in its place."""
    texts = iter(spans)
    return "".join(piece if isinstance(piece, str) else next(texts) for piece in question.pieces)
