"""Who runs next: first come, first served, up to a number of canvas rows a step, in time slices."""

from __future__ import annotations

from collections.abc import Iterator

from dream.canvas import Canvas
from dream.engine.slots import SlotPool

__all__ = ["Scheduler"]


class Scheduler:
    """Holds every unfinished canvas, in the order in which they run.

    Canvases of any length, step and algorithm share a step. A time slice lasts `quantum`
    token-forwards. Most requests finish within one slice, so they run first come, first served. A
    canvas that needs more goes on behind those that wait by then, so nobody waits for more than
    one slice of each canvas before it. Slots for what is kept between steps are held to the end.
    """

    def __init__(self, *, max_rows: int, quantum: int, slots: SlotPool) -> None:
        self._max_rows = max_rows
        self._quantum = quantum
        self._slots = slots
        self._served: dict[Canvas, int] = {}

    def __len__(self) -> int:
        return len(self._served)

    def __iter__(self) -> Iterator[Canvas]:
        return iter(self._served)

    def add(self, canvas: Canvas) -> None:
        """Queue a canvas behind those already here."""
        self._served[canvas] = 0

    def remove(self, canvas: Canvas) -> None:
        """Forget a canvas, finished or not."""
        del self._served[canvas]
        if canvas.slots is not None:
            self._slots.release(canvas.slots)
            canvas.slots = None

    def schedule(self) -> list[Canvas]:
        """The canvases of the next step: the first in line that fit, which is one at least."""
        chosen: list[Canvas] = []
        rows = 0
        has_slots = True
        for canvas in self._served:
            if canvas.request.params.keeps_state and canvas.slots is None:
                canvas.slots = self._slots.acquire(len(canvas)) if has_slots else None
                has_slots = canvas.slots is not None
                if not has_slots:
                    continue
            if chosen and rows + canvas.num_rows > self._max_rows:
                break
            chosen.append(canvas)
            rows += canvas.num_rows
        for canvas in chosen:
            self._serve(canvas)
        return chosen

    def _serve(self, canvas: Canvas) -> None:
        self._served[canvas] += canvas.num_rows
        if self._served[canvas] >= self._quantum:
            del self._served[canvas]
            self._served[canvas] = 0
