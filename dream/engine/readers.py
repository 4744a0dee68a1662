"""Who reads which canvas: requests whose tokens must be equal share one.

Two requests are the same work when their templates and parameters are equal, but for names, and
for the seed where nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from dream.canvas import Canvas
from dream.growth import grown
from dream.request import Request, StepEvent
from dream.template import Fixed

__all__ = ["Readers"]


class Readers:
    """The requests under way, each with its canvas and how much it has been told."""

    def __init__(self) -> None:
        self._canvas_of: dict[str, Canvas] = {}
        self._requests: dict[Canvas, dict[str, Request]] = {}
        self._num_told: dict[str, int] = {}
        self._at_work: dict[Hashable, Canvas] = {}

    def __len__(self) -> int:
        return len(self._canvas_of)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._canvas_of

    def join(self, request: Request) -> bool:
        """Read a canvas of the same work, from its first step on; False where there is none."""
        canvas = self._at_work.get(_work(request))
        if canvas is not None:
            self._seat(request, canvas)
        return canvas is not None

    def open(self, request: Request, canvas: Canvas) -> None:
        """Read a canvas of one's own, which others may join."""
        self._at_work[_work(request)] = canvas
        self._requests[canvas] = {}
        self._seat(request, canvas)

    def leave(self, request_id: str) -> Canvas | None:
        """Stop reading; the canvas, if nobody else reads it."""
        canvas = self._canvas_of.pop(request_id)
        del self._num_told[request_id]
        request = self._requests[canvas].pop(request_id)
        if self._requests[canvas]:
            return None
        self._forget(canvas, request)
        return canvas

    def news(self, canvas: Canvas) -> list[StepEvent]:
        """What each reader of a canvas has not been told yet."""
        news: list[StepEvent] = []
        for request_id in self._requests[canvas]:
            missed = canvas.events[self._num_told[request_id] :]
            news += [_told_to(request_id, event) for event in missed]
            self._num_told[request_id] = len(canvas.events)
        return news

    def close(self, canvas: Canvas) -> list[Request]:
        """The readers of a finished canvas, who leave it."""
        requests = list(self._requests[canvas].values())
        for request in requests:
            self.leave(request.id)
        return requests

    def move(self, canvas: Canvas, larger: Canvas) -> None:
        """Let the readers of a canvas read its next run; nobody joins that one."""
        requests = self.close(canvas)
        self._requests[larger] = {}
        for request in requests:
            next_run = grown(request)
            assert next_run is not None, "equal work grows alike"
            self._seat(next_run, larger)

    def _seat(self, request: Request, canvas: Canvas) -> None:
        self._canvas_of[request.id] = canvas
        self._requests[canvas][request.id] = request
        self._num_told[request.id] = 0

    def _forget(self, canvas: Canvas, request: Request) -> None:
        del self._requests[canvas]
        work = _work(request)
        if self._at_work.get(work) is canvas:
            del self._at_work[work]


def _told_to(request_id: str, event: StepEvent) -> StepEvent:
    """The event with lists of its own: readers may do with them what they like."""
    return replace(
        event,
        request_id=request_id,
        positions=list(event.positions),
        token_ids=list(event.token_ids),
        confidences=list(event.confidences),
    )


def _work(request: Request) -> Hashable:
    params = request.params
    segments = tuple(
        segment.token_ids if isinstance(segment, Fixed) else (segment.num_tokens, segment.priority)
        for segment in request.template.segments
    )
    kinds = tuple(isinstance(segment, Fixed) for segment in request.template.segments)
    return kinds, segments, params if params.is_drawn else replace(params, seed=None)
