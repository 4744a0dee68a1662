"""From requests to canvases: new ones, ones that go on from events, larger ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dream.canvas import Canvas
from dream.growth import grown
from dream.remasking import STRATEGIES
from dream.request import Request, StepEvent

__all__ = ["Canvases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvases:
    """Makes the canvases of one engine: its special ids, and what it may do with them."""

    mask_id: int
    eos_ids: frozenset[int]
    is_parity: bool
    is_bit_exact: bool
    approximation: str | None

    def make(self, request: Request, before: Canvas | None = None) -> Canvas:
        """A canvas before its first step; `before` is the smaller one that it follows."""
        return Canvas(
            request,
            STRATEGIES[request.params.alg].plan,
            mask_id=self.mask_id,
            eos_ids=self.eos_ids,
            can_exit_early=not self.is_parity,
            is_bit_exact=self.is_bit_exact,
            approximation=self.approximation,
            before=before,
        )

    def resume(self, request: Request, so_far: Sequence[StepEvent]) -> Canvas:
        """The canvas as it was after these events, which hold all of its state.

        What keeps more between steps (`window`, `history`, parity) begins anew. InvalidRequest
        where the events are not the first ones of this request.
        """
        canvas = self.make(request)
        if request.params.keeps_state or self.is_parity:
            return canvas
        for event in so_far:
            if event.attempt > canvas.attempt and (larger := self.follow(canvas)) is not None:
                canvas = larger
            canvas.replay(event)
        return canvas

    def follow(self, canvas: Canvas) -> Canvas | None:
        """After a canvas that is filled without an end: a larger one, where the request has it."""
        larger = grown(canvas.request)
        if not canvas.is_finished or larger is None or not canvas.has_open_end():
            return None
        return self.make(larger, canvas)
