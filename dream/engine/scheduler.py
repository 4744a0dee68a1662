"""Who runs next: fair turns of keys and requests, up to a number of tokens a step."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from dream.canvas import Canvas
from dream.engine.fair_queue import FairQueue
from dream.engine.shares import MinimumShare
from dream.engine.slots import SlotPool
from dream.engine.step_room import StepRoom
from dream.request import Priority

__all__ = ["Scheduler"]


LEAST_HALF = 1536
"""Tokens of a step from which on it keeps a GPU nearly as busy as a larger one."""

SHARE_OF_BATCH = 16
"""One part in sixteen is kept for batch work."""


class Scheduler:
    """Holds every unfinished canvas, and chooses those of each step by counts of tokens alone.

    Canvases of any length, step and algorithm share a step. One key leads it and may fill it;
    others join up to `max_shared_tokens` tokens in all, so that little work is not slowed by much.
    `FairQueue` says which key leads, `KeyQueue` which of its canvases go first. Batch work joins or
    leads like another key, after interactive work, but keeps one part in sixteen. No clock is read:
    schedulers that are told the same choose the same.

    A canvas that keeps something between steps waits for its slots, first come, first served, and
    holds them to the end.

    With `halves`, what would be one step becomes two of at least `least_half` tokens each, so that
    the host works on one of them while the device runs the other.
    """

    def __init__(
        self,
        *,
        max_num_batched_tokens: int,
        quantum: int,
        slots: SlotPool,
        max_shared_tokens: int = 0,
        halves: bool = False,
        least_half: int = LEAST_HALF,
    ) -> None:
        self._halves = halves
        self._least_half = least_half
        self._max_num_batched_tokens = max_num_batched_tokens
        self._max_shared_tokens = max_shared_tokens
        self._slots = slots
        self._queues: dict[Priority, FairQueue] = {
            "interactive": FairQueue(max_num_batched_tokens, quantum),
            "batch": FairQueue(max_num_batched_tokens, quantum),
        }
        self._share_of_batch = MinimumShare(SHARE_OF_BATCH, max_num_batched_tokens)
        self._without_slots: dict[Canvas, None] = {}
        self._entries: dict[Canvas, int] = {}
        self._running: set[Canvas] = set()
        self._pending = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def pending_token_forwards(self) -> int:
        """Tokens x forward passes still to run for every canvas, at most."""
        return self._pending

    def add(self, canvas: Canvas) -> None:
        """Queue a canvas."""
        pending = canvas.pending_token_forwards
        self._entries[canvas] = pending
        self._pending += pending
        if canvas.request.params.keeps_state:
            self._without_slots[canvas] = None
            self._lend_slots()
        else:
            self._queue_of(canvas).add(canvas, pending)

    def update(self, canvas: Canvas) -> None:
        """Count anew what a canvas still has to run."""
        more = canvas.pending_token_forwards - self._entries[canvas]
        self._entries[canvas] += more
        self._pending += more

    def remove(self, canvas: Canvas) -> None:
        """Forget a canvas, finished or not."""
        self._pending -= self._entries.pop(canvas)
        self._running.discard(canvas)
        if canvas in self._without_slots:
            del self._without_slots[canvas]
        else:
            self._queue_of(canvas).remove(canvas)
        if canvas.slots is not None:
            self._slots.release(canvas.slots)
            canvas.slots = None
        self._lend_slots()

    def mark(self, canvases: Iterable[Canvas], *, is_running: bool) -> None:
        """Say whether these, as far as they are still here, are in a step that is not read yet."""
        here = {canvas for canvas in canvases if canvas in self._entries}
        self._running = self._running | here if is_running else self._running - here

    def schedule(self) -> list[Canvas]:
        """The canvases of the next step, one at least.

        Beside a step that has not been read: those that fit beside it, or none if they are few.
        """
        room = StepRoom(self._running, self._max_num_batched_tokens)
        self._fill(room)
        chosen = list(room.chosen)
        if self._halves:
            chosen = self._half(chosen)
        self._charge(chosen)
        return chosen

    def _fill(self, room: StepRoom) -> None:
        first, second = self._queues["interactive"], self._queues["batch"]
        if second and (not first or self._share_of_batch.due_tokens):
            first, second = second, first
        if first:
            first.lead(room, self._max_shared_tokens)
            second.join(room)

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

    def _charge(self, chosen: Iterable[Canvas]) -> None:
        used = {
            priority: queue.charge(one for one in chosen if one.request.priority == priority)
            for priority, queue in self._queues.items()
        }
        self._share_of_batch.pass_over(used["interactive"])
        self._share_of_batch.serve(used["batch"])
        if not self._queues["batch"]:
            self._share_of_batch.reset()

    def _lend_slots(self) -> None:
        for canvas in list(self._without_slots):
            canvas.slots = self._slots.acquire(len(canvas))
            if canvas.slots is None:
                return
            del self._without_slots[canvas]
            self._queue_of(canvas).add(canvas, self._entries[canvas])

    def _queue_of(self, canvas: Canvas) -> FairQueue:
        return self._queues[canvas.request.priority]
