"""What a canvas will cost, before it is tokenised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deployments.messages import CanvasRequest
from dream.template import Fixed, Hole
from dream.text import Piece

__all__ = ["CHARS_PER_TOKEN", "estimated_token_forwards", "messages_of"]

CHARS_PER_TOKEN = 4
"""Of English text in Dream's vocabulary, about."""


def estimated_token_forwards(message: CanvasRequest) -> int:
    """Canvas tokens x steps of its first attempt; holes are exact, given text is estimated."""
    num_masked = message.template.num_masked
    given = sum(_num_given(piece) for piece in message.canvas.pieces)
    return (given + num_masked) * (message.params.steps or num_masked)


def messages_of(args: Sequence[object], kwargs: Mapping[str, object]) -> list[CanvasRequest]:
    """Every canvas among the arguments of a call, alone or in lists."""
    found: list[CanvasRequest] = []
    for value in (*args, *kwargs.values()):
        items = value if isinstance(value, list | tuple) else (value,)
        found += [item for item in items if isinstance(item, CanvasRequest)]
    return found


def _num_given(piece: Piece) -> int:
    if isinstance(piece, Hole):
        return 0
    if isinstance(piece, Fixed):
        return len(piece.token_ids)
    return -(-len(piece) // CHARS_PER_TOKEN) if isinstance(piece, str) else 1
