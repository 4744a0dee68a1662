"""maskgit_plus, maskgit_tpp, topk_margin, entropy: one timetable, four scores.

Three are those of the published `sample_tokens`. maskgit_tpp ranks by the distribution and not by
the token that happened to be drawn, so that unlikely draws survive (top-probability-position).

A greedy row without filters is scored by its statistics where a device has them (`OF_STATS`).
Letters: N rows, K candidates of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dream.kernels.row_stats import RowStats
from dream.params import SamplingParams
from dream.sampling import Score, row_sum
from dream.timetable import ScheduledStep, commit_counts

__all__ = ["OF_STATS", "SCORES", "Confidence", "probability"]


def probability(probs_NK: Tensor, index_N: Tensor) -> Tensor:
    """p(token)."""
    return probs_NK.gather(1, index_N[:, None])[:, 0]


def top_probability(probs_NK: Tensor, index_N: Tensor) -> Tensor:
    """Largest p."""
    return probs_NK.amax(-1)


def margin(probs_NK: Tensor, index_N: Tensor) -> Tensor:
    """p1 - p2, the two largest probabilities."""
    top_N2 = probs_NK.topk(2, -1).values
    return top_N2[:, 0] - top_N2[:, 1]


def negative_entropy(probs_NK: Tensor, index_N: Tensor) -> Tensor:
    """sum p log(p + 1e-10)."""
    return row_sum((probs_NK + 1e-10).log_().mul_(probs_NK))


def entropy(probs_NK: Tensor, index_N: Tensor) -> Tensor:
    """Minus `negative_entropy`: the least sure goes first."""
    return -negative_entropy(probs_NK, index_N)


SCORES: dict[str, Score] = {
    "maskgit_plus": probability,
    "maskgit_tpp": top_probability,
    "topk_margin": margin,
    "entropy": negative_entropy,
    "egi": entropy,
}
"""By `alg`; `egi` ranks the first commit of a request with `egi_temperature`."""


OF_STATS: dict[str, Callable[[RowStats], Tensor]] = {
    "origin": lambda stats: stats.top_probs_N,
    "maskgit_plus": lambda stats: stats.top_probs_N,
    "maskgit_tpp": lambda stats: stats.top_probs_N,
    "topk_margin": lambda stats: stats.top_probs_N - stats.second_probs_N,
    "entropy": lambda stats: -stats.entropy_N,
    "egi": lambda stats: stats.entropy_N,
}
"""The same of a greedy row, up to rounding; without the 1e-10, which adds at most V * 1e-10 nats.

A score that is not here is computed from the probabilities everywhere.
"""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Each step commits the timetable's count of the surest positions."""

    score: Score

    def plan(
        self, masked: NDArray[np.int64], params: SamplingParams, steps: int, first: int
    ) -> list[ScheduledStep]:
        """The counts do not depend on the model, so all of them are known beforehand.

        A commit rule may fill masks at any step, so none is skipped.
        """
        counts = commit_counts(len(masked), steps, params.eps, first)
        if params.rule is None:
            return [ScheduledStep(step, count) for step, count in counts]
        return [ScheduledStep(step, dict(counts).get(step, 0)) for step in range(first, steps)]
