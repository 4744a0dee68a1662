"""Log-probabilities of the tokens that a step draws, for requests that ask for them.

They are those of the raw distribution of a row: softmax of the float32 logits, before temperature,
filters, histories and annealing; of suppressed ids the caller has set the logits to -inf.
Letters: N candidate rows, V vocabulary, K = MAX_LOGPROBS, C committed rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.kernels.row_stats import row_stats
from dream.request import MAX_LOGPROBS, TokenLogprobs
from dream.sampling import highest_few, row_sum

__all__ = ["HostLogprobs", "RowLogprobs", "row_logprobs"]


class RowLogprobs(NamedTuple):
    """Of each row: the log-probability of its token, and the most probable ids with theirs."""

    chosen_N: Tensor
    top_ids_NK: Tensor
    top_NK: Tensor

    @classmethod
    def blank(cls, like_N: Tensor) -> RowLogprobs:
        """For rows whose requests do not ask; nobody reads it."""
        num_rows = len(like_N)
        return cls(
            like_N.new_zeros(num_rows, dtype=torch.float32),
            like_N.new_zeros(num_rows, MAX_LOGPROBS, dtype=torch.int64),
            like_N.new_zeros(num_rows, MAX_LOGPROBS, dtype=torch.float32),
        )

    def take(self, rows_C: Tensor) -> RowLogprobs:
        """Those of some rows."""
        return RowLogprobs(*(values[rows_C] for values in self))


class HostLogprobs(NamedTuple):
    """The same of what is committed, on the host."""

    chosen_C: NDArray[np.float32]
    top_ids_CK: NDArray[np.int64]
    top_CK: NDArray[np.float32]

    def of(self, rows: NDArray[np.int64], num_top: int) -> list[TokenLogprobs]:
        """Those of some rows, with so many alternatives; what is never drawn is left out."""
        chosen = self.chosen_C[rows].tolist()
        ids = self.top_ids_CK[rows, :num_top].tolist()
        values = self.top_CK[rows, :num_top].tolist()
        return [
            TokenLogprobs(
                logprob=logprob,
                top=[pair for pair in zip(*tops, strict=True) if pair[1] > -np.inf],
            )
            for logprob, *tops in zip(chosen, ids, values, strict=True)
        ]


def row_logprobs(
    logits_NV: Tensor, token_ids_N: Tensor, *, reads_stats: bool = False
) -> RowLogprobs:
    """Log-probabilities of a token of each row, and the largest of the row; overwrites the logits.

    reads_stats: one pass over them in their dtype, where a kernel keeps each row's sum its own.
    """
    if reads_stats:
        highest_N, _, _, mass_N, *_ = row_stats(logits_NV)
    else:
        logits_NV = logits_NV.float()
        highest_N = logits_NV.amax(-1)
        mass_N = row_sum((logits_NV - highest_N[:, None]).exp_())
    chosen_N1 = logits_NV.gather(1, token_ids_N[:, None])
    top_NK, ids_NK = highest_few(logits_NV, MAX_LOGPROBS)
    log_mass_N1 = mass_N.log()[:, None]
    chosen_N1, top_NK = (
        values.float() - highest_N[:, None] - log_mass_N1 for values in (chosen_N1, top_NK)
    )
    return RowLogprobs(chosen_N1[:, 0], ids_NK, top_NK)
