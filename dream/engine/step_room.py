"""The canvases of a step while they are chosen, and the room that is left."""

from __future__ import annotations

from collections.abc import Collection

from dream.canvas import Canvas

__all__ = ["StepRoom"]


class StepRoom:
    """Canvases fill a step in the order in which they are put; the first that does not fit ends it.

    A canvas that is larger than a whole step runs alone. A canvas of a step that is not read yet
    takes up its room there and is not chosen again.
    """

    def __init__(self, running: Collection[Canvas], limit: int) -> None:
        self.chosen: dict[Canvas, None] = {}
        self.is_full = False
        self._running = running
        self._limit = limit
        self._num_tokens = sum(canvas.num_step_tokens for canvas in running)

    def __contains__(self, canvas: Canvas) -> bool:
        return canvas in self.chosen or canvas in self._running

    def put(self, canvas: Canvas) -> None:
        """Choose a canvas, or find that the step is full."""
        size = canvas.num_step_tokens
        self.is_full |= self._num_tokens > 0 and self._num_tokens + size > self._limit
        if not self.is_full:
            self.chosen[canvas] = None
            self._num_tokens += size

    def narrow(self, limit: int) -> None:
        """Leave room for what comes on top only up to so many tokens of the step in all."""
        self._limit = min(self._limit, limit)
        self.is_full |= self._num_tokens >= self._limit
