"""The seam of a remasking strategy, and the one ranking from which positions are committed.

Letters: N candidate rows of all requests, R requests, C rows that may commit.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.params import SamplingParams
from dream.timetable import ScheduledStep

__all__ = ["Commit", "Ranked", "Strategy", "stable_order"]

FIXED_POINT = 2.0**32
"""Nats as integers, so that a request's sums have the same bits whatever rows lie before them."""

SEGMENT = 2**40
"""More than any entropy in fixed point (2**8 nats), and so little that a million requests fit."""


class Strategy(Protocol):
    """What an `alg` decides: when positions are committed, and how sure a token is."""

    def plan(
        self, masked: NDArray[np.int64], params: SamplingParams, steps: int, first: int
    ) -> list[ScheduledStep]:
        """The committing steps from `first` on of `steps`, for these masked positions."""

    def score(self, probs_NK: Tensor, index_N: Tensor) -> Tensor:
        """How sure each row is of its drawn candidate; higher goes first."""


class Commit(NamedTuple):
    """Rows that may commit, requests in order and the best first: row, token id, probability [C].

    counts_R: how many of each request's rows do, and forced_R how many of those the timetable
    demanded beyond its commit rule; both None where every row commits.
    """

    rows_C: Tensor
    token_ids_C: Tensor
    probs_C: Tensor
    counts_R: Tensor | None = None
    forced_R: Tensor | None = None


class Ranked(NamedTuple):
    """What a commit rule sees: rows with the requests in order, and in each the best first.

    top_probs_N: largest raw probability. entropies_N: raw entropy in nats, float32.
    owners_N: the request of each row. starts_N: the first row of that request.
    mask_segments_N: the segment of neighbouring masks of each row; no number is used twice.
    """

    top_probs_N: Tensor
    entropies_N: Tensor
    owners_N: Tensor
    starts_N: Tensor
    mask_segments_N: Tensor

    def places_by(self, values_N: Tensor) -> Tensor:
        """Place of each row in its request by value, the highest 0; ties as ranked."""
        order_N = stable_order(values_N, self.owners_N)
        places_N = torch.empty_like(order_N)
        places_N[order_N] = torch.arange(len(order_N), device=order_N.device)
        return places_N - self.starts_N

    def running_sum_and_max(self, values_N: Tensor) -> tuple[Tensor, Tensor]:
        """Sum and maximum of each request's rows up to and with each row; values >= 0, float64."""
        fixed_N = (values_N.double() * FIXED_POINT).round().long()
        sums_N = fixed_N.cumsum(0)
        before_N = (sums_N - fixed_N)[self.starts_N]
        offset_N = self.owners_N * SEGMENT
        largest_N = (fixed_N + offset_N).cummax(0).values - offset_N
        return (sums_N - before_N).double() / FIXED_POINT, largest_N.double() / FIXED_POINT

    def is_best_of_segment(self, values_N: Tensor) -> Tensor:
        """Whether a row has the highest value of its mask segment; ties as ranked."""
        order_N = stable_order(values_N, self.mask_segments_N)
        mask_segments_N = self.mask_segments_N[order_N]
        is_first_N = torch.ones_like(mask_segments_N, dtype=torch.bool)
        is_first_N[1:] = mask_segments_N[1:] != mask_segments_N[:-1]
        return torch.empty_like(is_first_N).index_copy_(0, order_N, is_first_N)


def stable_order(values_N: Tensor, keys_N: Tensor) -> Tensor:
    """Indices that sort by key ascending, then by value descending, then as they were.

    Candidate rows lie in position order, so ties go to the lowest position.
    """
    by_value = values_N.argsort(descending=True, stable=True)
    return by_value[keys_N[by_value].argsort(stable=True)]
