"""Everything a greedy step needs of each row of logits, in one pass over them.

On CUDA a Triton kernel reads 16-bit logits as they are; plain torch is its oracle, and runs where
the kernel does not. Of suppressed ids the caller has set the logits to -inf.
Letters: N rows, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dream.kernels.fallback import FirstTry

__all__ = ["RowStats", "plain_row_stats", "row_stats"]


class RowStats(NamedTuple):
    """Of each row: its two largest logits, the lowest id of the largest, mass and entropy.

    mass_N: sum of exp(logit - highest). entropy_N: in nats, of softmax(logits). chosen_N: the
    logit of a given id. All float32; NaN anywhere in a row makes its mass NaN.
    """

    highest_N: Tensor
    second_N: Tensor
    index_N: Tensor
    mass_N: Tensor
    entropy_N: Tensor
    chosen_N: Tensor

    @property
    def top_probs_N(self) -> Tensor:
        """The largest probability."""
        return 1 / self.mass_N

    @property
    def second_probs_N(self) -> Tensor:
        """The second largest probability."""
        return (self.second_N - self.highest_N).exp() / self.mass_N

    @property
    def chosen_log_probs_N(self) -> Tensor:
        """The logarithm of the probability of the given id."""
        return self.chosen_N - self.highest_N - self.mass_N.log()


def row_stats(logits_NV: Tensor, ids_N: Tensor | None = None) -> RowStats:
    """Statistics of each row; `ids_N` says whose logit is `chosen_N`, none: the largest's."""
    if logits_NV.device.type == "cuda":
        return _on_cuda(logits_NV, ids_N)
    return plain_row_stats(logits_NV, ids_N)


def plain_row_stats(logits_NV: Tensor, ids_N: Tensor | None = None) -> RowStats:
    """The same by torch, in float32."""
    logits_NV = logits_NV.float()
    highest_N, index_N = logits_NV.max(-1)
    rest_NV = logits_NV.scatter(1, index_N[:, None], -torch.inf)
    shifted_NV = logits_NV - highest_N[:, None]
    weights_NV = shifted_NV.exp()
    mass_N = weights_NV.sum(-1)
    mean_N = (shifted_NV.clamp(min=-1e4) * weights_NV).sum(-1) / mass_N
    entropy_N = (mass_N.log() - mean_N).clamp(min=0)
    chosen_N = highest_N if ids_N is None else logits_NV.gather(1, ids_N[:, None])[:, 0]
    return RowStats(highest_N, rest_NV.amax(-1), index_N, mass_N, entropy_N, chosen_N)


def _by_triton(logits_NV: Tensor, ids_N: Tensor | None = None) -> RowStats:
    # Imported where it is needed: a CPU's torch comes without Triton.
    from dream.kernels.triton_rows import triton_row_stats

    return RowStats(*triton_row_stats(logits_NV, ids_N))


_on_cuda = FirstTry("the sampler's Triton kernel", _by_triton, plain_row_stats)
