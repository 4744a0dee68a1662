"""Who runs next: first come, first served, up to a number of tokens a step, in time slices."""

from __future__ import annotations

from dataclasses import dataclass

from dream.canvas import Canvas
from dream.engine.slots import SlotPool

__all__ = ["Scheduler"]


@dataclass(slots=True)
class _Entry:
    """Token-forwards of a canvas: computed in its present time slice, and still to run."""

    served: int
    pending: int


class Scheduler:
    """Holds every unfinished canvas, in the order in which they run.

    Canvases of any length, step and algorithm share a step. A time slice lasts `quantum`
    token-forwards. Most requests finish within one slice, so they run first come, first served. A
    canvas that needs more goes on behind those that wait by then, so nobody waits for more than
    one slice of each canvas before it. Slots for what is kept between steps are held to the end.
    """

    def __init__(self, *, max_num_batched_tokens: int, quantum: int, slots: SlotPool) -> None:
        self._max_num_batched_tokens = max_num_batched_tokens
        self._quantum = quantum
        self._slots = slots
        self._entries: dict[Canvas, _Entry] = {}
        self._pending = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def pending_token_forwards(self) -> int:
        """Tokens x forward passes still to run for every canvas, at most."""
        return self._pending

    def add(self, canvas: Canvas) -> None:
        """Queue a canvas behind those already here."""
        self._entries[canvas] = _Entry(0, 0)
        self.update(canvas)

    def update(self, canvas: Canvas) -> None:
        """Count anew what a canvas still has to run."""
        entry = self._entries[canvas]
        now = canvas.pending_token_forwards
        self._pending += now - entry.pending
        entry.pending = now

    def remove(self, canvas: Canvas) -> None:
        """Forget a canvas, finished or not."""
        self._pending -= self._entries.pop(canvas).pending
        if canvas.slots is not None:
            self._slots.release(canvas.slots)
            canvas.slots = None

    def schedule(self) -> list[Canvas]:
        """The canvases of the next step: the first in line that fit, which is one at least."""
        chosen: list[Canvas] = []
        num_tokens = 0
        has_slots = True
        for canvas in self._entries:
            if canvas.request.params.keeps_state and canvas.slots is None:
                canvas.slots = self._slots.acquire(len(canvas)) if has_slots else None
                has_slots = canvas.slots is not None
                if not has_slots:
                    continue
            if chosen and num_tokens + canvas.num_step_tokens > self._max_num_batched_tokens:
                break
            chosen.append(canvas)
            num_tokens += canvas.num_step_tokens
        for canvas in chosen:
            self._serve(canvas)
        return chosen

    def _serve(self, canvas: Canvas) -> None:
        entry = self._entries[canvas]
        entry.served += canvas.num_step_tokens
        if entry.served >= self._quantum:
            entry.served = 0
            self._entries[canvas] = self._entries.pop(canvas)
