"""How soon an answer is wanted, and how many steps may be given up for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.fields import refused
from dream.params import MAX_STEPS

__all__ = ["MOST_CHANGES", "QUALITY_FLOORS", "Quality", "TimeOptions"]

Quality = Literal["fast", "balanced", "best"]

QUALITY_FLOORS: Mapping[Quality, float] = {"fast": 0.125, "balanced": 0.25, "best": 0.5}
"""Fewest steps that an elastic request of a quality gets, as a share of its masks."""

MOST_CHANGES = 64
"""Entries of a `timetable`."""

Step = Annotated[int, Field(ge=0, le=MAX_STEPS)]
Change = Annotated[list[Step], Field(min_length=2, max_length=2)]


class TimeOptions(BaseModel):
    """Fields of `diffusion` that say when, and with how many steps, beside `steps` itself."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] | None = Field(
        None,
        description="Milliseconds from the arrival of the request; steps are chosen so that the "
        "answer comes in time, and the request is refused if that cannot be",
    )
    min_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(
        None, description="Fewest steps that a deadline or much load may leave"
    )
    elastic: bool = Field(
        False, description="Whether it may run with fewer steps while much work waits"
    )
    timetable: Annotated[list[Change], Field(min_length=1, max_length=MOST_CHANGES)] | None = Field(
        None,
        description="[at_step, steps] pairs, as an answer with a deadline reports them; repeats it",
    )
    priority: Literal["interactive", "batch"] | None = Field(
        None, description="batch runs behind interactive requests"
    )

    @model_validator(mode="after")
    def _time_options_agree(self) -> TimeOptions:
        is_planned = self.deadline_ms is not None or self.elastic
        if self.min_steps is not None and not is_planned:
            raise refused("null without deadline_ms or elastic", param="min_steps")
        if self.timetable is not None:
            self._check_timetable(self.timetable, is_planned=is_planned)
        if self.deadline_ms is not None and self.priority == "batch":
            raise refused("interactive, or left out, beside deadline_ms", param="priority")
        if is_planned and getattr(self, "grow_to", None) is not None:
            name = "elastic" if self.deadline_ms is None else "deadline_ms"
            raise refused("left out beside grow_to", param=name)
        return self

    def _check_timetable(self, timetable: list[list[int]], *, is_planned: bool) -> None:
        if is_planned:
            raise refused("null beside deadline_ms and elastic", param="timetable")
        if getattr(self, "grow_to", None) is not None:
            raise refused("null beside grow_to", param="timetable")
        starts = [at for at, _ in timetable]
        is_ascending = starts[0] == 0 and all(a < b for a, b in pairwise(starts))
        is_falling = all(a >= b for (_, a), (_, b) in pairwise(timetable))
        if not (is_ascending and is_falling and all(at < steps for at, steps in timetable)):
            allowed = "pairs [at_step, steps], at_step from 0 on, ascending and below falling steps"
            raise refused(allowed, param="timetable")
        if getattr(self, "steps", None) not in (None, timetable[0][1]):
            raise refused("left out, or the first steps of timetable", param="steps")

    def fewest_steps(self, quality: Quality | None, wanted: int, num_masked: int) -> int:
        """Steps below which no deadline and no load may take a request of so many masks.

        wanted: steps that it asks for. A quality is kept whole, unless the request is elastic.
        """
        if self.min_steps is not None:
            return min(self.min_steps, wanted)
        if quality is None:
            return 1
        floor = math.ceil(QUALITY_FLOORS[quality] * num_masked) if self.elastic else wanted
        return min(max(1, floor), wanted)
