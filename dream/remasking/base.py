"""The seam of a remasking strategy, and the one rule that picks the positions to commit.

Letters: N candidate rows of all requests, R requests, C committed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.params import SamplingParams
from dream.timetable import Visit

__all__ = ["Commit", "Strategy", "choose", "places"]


class Strategy(Protocol):
    """What an `alg` decides: when positions are committed, and how sure a token is."""

    def plan(
        self, masked: NDArray[np.int64], params: SamplingParams, steps: int, first: int
    ) -> list[Visit]:
        """The committing steps from `first` on of `steps`, for these masked positions."""

    def score(self, probs_NK: Tensor, index_N: Tensor) -> Tensor:
        """How sure each row is of its drawn candidate; higher goes first."""


class Commit(NamedTuple):
    """The rows that commit, requests in order: candidate row, token id and probability [C]."""

    rows_C: Tensor
    token_ids_C: Tensor
    probs_C: Tensor


def choose(ranks_N: Tensor, owners_N: Tensor, picks_C: Tensor) -> Tensor:
    """Candidate rows to commit: of each request its highest ranks, ties to the lowest position.

    owners_N: the request of each row; a request's rows are neighbours in position order.
    picks_C: for each commit its place in the rows sorted by (request, rank), as `places` gives.
    """
    by_rank = ranks_N.argsort(descending=True, stable=True)
    by_owner = owners_N[by_rank].argsort(stable=True)
    return by_rank[by_owner][picks_C]


def places(num_candidates: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Places of the first `counts[r]` of each request among all sorted rows."""
    sizes = torch.tensor(num_candidates)
    taken = torch.tensor(counts)
    starts = sizes.cumsum(0) - sizes
    within = torch.arange(int(taken.sum())) - (taken.cumsum(0) - taken).repeat_interleave(taken)
    return starts.repeat_interleave(taken) + within
