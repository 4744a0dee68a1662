"""Averaged history: ranks and tokens from the mean of a position's last distributions.

Contextual decoding of arXiv 2512.02044 (CCD): p(v) = mean over the last d + 1 steps of p_t(v), each
p_t kept as its V largest probabilities; what it leaves out counts as 0.
Letters: N rows, P slots, D steps kept, V probabilities kept of each, K = (D + 1) V candidates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dream.params import MAX_HISTORY, MAX_HISTORY_TOP
from dream.sampling import Drawn, Score, largest, log_mass

__all__ = ["HistoryPool"]


class HistoryPool:
    """The last distributions of each slot: ids and probabilities; probability 0 is no entry."""

    def __init__(self, num_slots: int, device: torch.device) -> None:
        shape = (num_slots, MAX_HISTORY, MAX_HISTORY_TOP)
        self._ids_PDV = torch.zeros(shape, dtype=torch.int64, device=device)
        self._probs_PDV = torch.zeros(shape, device=device)

    def forget(self, slots_N: Tensor) -> None:
        """Empty these slots; ids left behind would change the order in which means are summed."""
        self._ids_PDV.index_fill_(0, slots_N, 0)
        self._probs_PDV.index_fill_(0, slots_N, 0)

    def draw(self, logits_NV: Tensor, slots_N: Tensor, depth: int, top: int, score: Score) -> Drawn:
        """The best token of each row's mean distribution; the row's own joins its history."""
        values_NV, ids_NV = largest(logits_NV, min(top, logits_NV.shape[1]))
        missing = top - values_NV.shape[1]
        probs_NV = F.pad((values_NV - log_mass(logits_NV)[:, None]).exp(), (0, missing))
        ids_N1V, probs_N1V = F.pad(ids_NV, (0, missing))[:, None], probs_NV[:, None]
        old_ids, old_probs = (
            kept[slots_N][:, :depth, :top] for kept in (self._ids_PDV, self._probs_PDV)
        )
        ids, probs = torch.cat([ids_N1V, old_ids], 1), torch.cat([probs_N1V, old_probs], 1)
        self._keep(slots_N, ids[:, :depth], probs[:, :depth])
        return _best_of_mean(ids, probs, score)

    def _keep(self, slots_N: Tensor, ids_NDV: Tensor, probs_NDV: Tensor) -> None:
        room = (0, MAX_HISTORY_TOP - ids_NDV.shape[2], 0, MAX_HISTORY - ids_NDV.shape[1])
        self._ids_PDV.index_copy_(0, slots_N, F.pad(ids_NDV, room))
        self._probs_PDV.index_copy_(0, slots_N, F.pad(probs_NDV, room))


def _best_of_mean(ids_NDV: Tensor, probs_NDV: Tensor, score: Score) -> Drawn:
    num_steps_N = (probs_NDV.amax(-1) > 0).sum(-1)
    ids_NK, order_NK = ids_NDV.flatten(1).sort(stable=True, dim=-1)
    probs_NK = probs_NDV.flatten(1).gather(1, order_NK)
    is_same_NKK = ids_NK[:, :, None] == ids_NK[:, None, :]
    sums_NK = (probs_NK[:, None, :] * is_same_NKK).sum(-1) / num_steps_N[:, None]
    is_first_NK = F.pad(ids_NK[:, 1:] != ids_NK[:, :-1], (1, 0), value=True)
    mean_NK = sums_NK * is_first_NK
    index_N = mean_NK.max(-1).indices
    token_ids_N = ids_NK.gather(1, index_N[:, None])[:, 0]
    probs_N = mean_NK.gather(1, index_N[:, None])[:, 0]
    is_open_N = torch.zeros_like(token_ids_N, dtype=torch.bool)
    return Drawn(token_ids_N, probs_N, score(mean_NK, index_N), is_open_N)
