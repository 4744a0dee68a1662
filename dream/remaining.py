"""The steps that a canvas has still to run, also when their number changes on the way."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dream.params import SamplingParams
from dream.request import Timetable
from dream.timetable import Plan, ScheduledStep

__all__ = ["RemainingSteps"]


class RemainingSteps:
    """Scheduled steps from the next one on; `advance` after each, `replan` for fewer in all.

    num_steps: length of the timetable. timetable: (at_step, steps) of each change so far.
    """

    def __init__(
        self, plan: Plan, params: SamplingParams, is_masked: NDArray[np.bool_], changes: Timetable
    ) -> None:
        self.num_steps = params.steps or max(1, int(is_masked.sum()))
        self.timetable = [(0, self.num_steps)]
        self._plan = plan
        self._params = params
        self._changes = deque(changes)
        self._first = 0
        self._ahead = 0
        self._scheduled: list[ScheduledStep] = []
        self._plan_from(0, is_masked)
        self._take_changes(is_masked)

    def __len__(self) -> int:
        return len(self._scheduled)

    @property
    def next(self) -> ScheduledStep:
        """The step that runs next."""
        return self._scheduled[0]

    @property
    def demand(self) -> int:
        """How many masks the next step has to fill, so that the timetable is met."""
        return max(0, self.next.count - self._ahead)

    def advance(self, num_committed: int, is_masked: NDArray[np.bool_], *, is_short: bool) -> None:
        """Go on to the next step.

        num_committed: of the step that has run. is_short: whether it drew mask ids (parity), so
        that the masks that are left are planned anew.
        """
        done = self._scheduled.pop(0)
        self._first = done.step + 1
        self._ahead += num_committed - done.count
        if not is_masked.any():
            self.end()
            return
        if is_short:
            self._plan_from(self._first, is_masked)
        self._take_changes(is_masked)

    def replan(self, num_steps: int, is_masked: NDArray[np.bool_], *, is_running: bool) -> None:
        """Have the timetable end after fewer steps, or as soon as it can.

        is_running: whether the next step is under way, so that this holds from the one after it.
        """
        if not self._scheduled or num_steps >= self.num_steps:
            return
        first = self.next.step + 1 if is_running else self._first
        self._changes = deque([(first, max(num_steps, first + 1))])
        if not is_running:
            self._take_changes(is_masked)

    def end(self) -> None:
        """Run no more steps."""
        self._scheduled = []

    def _take_changes(self, is_masked: NDArray[np.bool_]) -> None:
        """A change holds from the first step on that it names, or that comes after it."""
        while self._changes and self._scheduled and self.next.step >= self._changes[0][0]:
            self._change(*self._changes.popleft(), is_masked)

    def _change(self, at_step: int, num_steps: int, is_masked: NDArray[np.bool_]) -> None:
        if self.timetable[-1][0] == at_step:
            self.timetable.pop()
        self.timetable.append((at_step, num_steps))
        self.num_steps = num_steps
        self._plan_from(at_step, is_masked)

    def _plan_from(self, first: int, is_masked: NDArray[np.bool_]) -> None:
        self._ahead = 0
        masked = is_masked.nonzero()[0]
        is_over = not len(masked) or first >= self.num_steps
        self._scheduled = [] if is_over else self._plan(masked, self._params, self.num_steps, first)
