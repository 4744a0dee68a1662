"""origin: every masked position is committed at a random step of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dream.noise import Purpose, uniforms
from dream.params import SamplingParams
from dream.remasking.confidence import probability
from dream.timetable import ScheduledStep, hit_steps

__all__ = ["Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The step of a position is drawn up front, so only the rows that commit need logits."""

    def plan(
        self, masked: NDArray[np.int64], params: SamplingParams, steps: int, first: int
    ) -> list[ScheduledStep]:
        """One keyed uniform for each position; steps that no position draws are left out."""
        noise = uniforms(params.seed or 0, Purpose.COMMIT_TIME, first, masked)
        hits = hit_steps(noise, steps, params.eps, first)
        return [
            ScheduledStep(int(s), int((hits == s).sum()), masked[hits == s])
            for s in np.unique(hits)
        ]

    def score(self, probs_NK: Tensor, index_N: Tensor) -> Tensor:
        """Not used to choose: all candidates of a step commit."""
        return probability(probs_NK, index_N)
