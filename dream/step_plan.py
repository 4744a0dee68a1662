"""What one step of a canvas may fill, and with which parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dream.options import options_of
from dream.params import RULES, SamplingParams
from dream.timetable import ScheduledStep
from dream.window import View

__all__ = ["StepPlan", "first_params"]


class StepPlan(NamedTuple):
    """What the next scheduled step may fill, and what it computes.

    params: of this step, whose scores are those of `alg`. candidates: positions that may be
    committed, ascending; classes: the class of each, None where all are of one. demand: how many
    have to be, for the timetable to be met. view: the rows of an approximate mode; None for all.
    """

    scheduled: ScheduledStep
    params: SamplingParams
    alg: str
    candidates: NDArray[np.int64]
    classes: NDArray[np.int64] | None
    demand: int
    view: View | None


def first_params(params: SamplingParams, temperature: float) -> SamplingParams:
    """Of a first step that draws one token where the entropy is largest (EGI)."""
    options = options_of(SamplingParams).values()
    no_rule = {one.name: one.default for one in options if one.group == RULES}
    return replace(
        params,
        **no_rule,
        temperature=temperature,
        order="confidence",
        alg_temp=None,
        eos_annealing=None,
        history=0,
    )
