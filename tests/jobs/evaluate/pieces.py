"""Questions as plain values: given text, and holes as their numbers of tokens."""

from __future__ import annotations

from dream import Hole
from jobs.evaluate.suite import Question


def pieces_of(question: Question) -> tuple[str | int, ...]:
    """The pieces of a question in order."""
    return tuple(p.num_tokens if isinstance(p, Hole) else p for p in question.text.pieces)
