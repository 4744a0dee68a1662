"""Who runs next: first come, first served, up to a number of canvas rows a step."""

from __future__ import annotations

from collections.abc import Iterator

from dream.canvas import Canvas

__all__ = ["Scheduler"]


class Scheduler:
    """Holds every unfinished canvas, in order of arrival.

    Canvases of any length, step and algorithm share a step. Those that run keep running until
    they are finished; a newcomer is admitted at any step that has room for its rows.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._canvases: dict[str, Canvas] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._canvases

    def __len__(self) -> int:
        return len(self._canvases)

    def __iter__(self) -> Iterator[Canvas]:
        return iter(self._canvases.values())

    def add(self, canvas: Canvas) -> None:
        """Queue a canvas behind those already here."""
        self._canvases[canvas.request.id] = canvas

    def remove(self, request_id: str) -> bool:
        """Forget a canvas, finished or not; False when there is none of this id."""
        return self._canvases.pop(request_id, None) is not None

    def schedule(self) -> list[Canvas]:
        """The canvases of the next step: the longest prefix of the queue that fits."""
        chosen: list[Canvas] = []
        rows = 0
        for canvas in self._canvases.values():
            if chosen and rows + len(canvas) > self._max_rows:
                break
            chosen.append(canvas)
            rows += len(canvas)
        return chosen
