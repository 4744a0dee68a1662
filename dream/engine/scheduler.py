"""Who runs next: first come, first served, up to a number of tokens a step, in time slices."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from dream.canvas import Canvas
from dream.engine.slots import SlotPool

__all__ = ["Scheduler"]


LEAST_HALF = 1536
"""Tokens of a step from which on it keeps a GPU nearly as busy as a larger one."""


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

    With `halves`, what would be one step becomes two of at least `least_half` tokens each, so that
    the host works on one of them while the device runs the other.
    """

    def __init__(
        self,
        *,
        max_num_batched_tokens: int,
        quantum: int,
        slots: SlotPool,
        halves: bool = False,
        least_half: int = LEAST_HALF,
    ) -> None:
        self._halves = halves
        self._least_half = least_half
        self._max_num_batched_tokens = max_num_batched_tokens
        self._quantum = quantum
        self._slots = slots
        self._entries: dict[Canvas, _Entry] = {}
        self._running: set[Canvas] = set()
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
        self._running.discard(canvas)
        if canvas.slots is not None:
            self._slots.release(canvas.slots)
            canvas.slots = None

    def mark(self, canvases: Iterable[Canvas], *, is_running: bool) -> None:
        """Say whether these, as far as they are still here, are in a step that is not read yet."""
        here = {canvas for canvas in canvases if canvas in self._entries}
        self._running = self._running | here if is_running else self._running - here

    def schedule(self) -> list[Canvas]:
        """The canvases of the next step: the first in line that fit, which is one at least.

        Beside a step that has not been read: those that fit beside it, or none if they are few.
        """
        chosen = self._first_in_line()
        if self._halves:
            chosen = self._half(chosen)
        for canvas in chosen:
            self._serve(canvas)
        return chosen

    def _half(self, chosen: list[Canvas]) -> list[Canvas]:
        """The first half, if both are large enough; beside a running step all, or none."""
        sums = list(accumulate(canvas.num_step_tokens for canvas in chosen))
        total = sums[-1] if sums else 0
        if self._running:
            return chosen if total >= self._least_half else []
        if total < 2 * self._least_half:
            return chosen
        cut = bisect_left(sums, total / 2) + 1
        return chosen[:cut] if total - sums[cut - 1] >= self._least_half else chosen

    def _first_in_line(self) -> list[Canvas]:
        chosen: list[Canvas] = []
        num_tokens = sum(canvas.num_step_tokens for canvas in self._running)
        has_slots = True
        for canvas in self._entries:
            if canvas in self._running:
                continue
            if canvas.request.params.keeps_state and canvas.slots is None:
                canvas.slots = self._slots.acquire(len(canvas)) if has_slots else None
                has_slots = canvas.slots is not None
                if not has_slots:
                    continue
            if num_tokens and num_tokens + canvas.num_step_tokens > self._max_num_batched_tokens:
                break
            chosen.append(canvas)
            num_tokens += canvas.num_step_tokens
        return chosen

    def _serve(self, canvas: Canvas) -> None:
        entry = self._entries[canvas]
        entry.served += canvas.num_step_tokens
        if entry.served >= self._quantum:
            entry.served = 0
            self._entries[canvas] = self._entries.pop(canvas)
