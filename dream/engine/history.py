"""The last distributions of each position, kept on the device for `history` (CCD).

Letters: N rows, P slots, D steps kept, V probabilities kept of each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dream.params import MAX_HISTORY, MAX_HISTORY_TOP
from dream.sampling import Drawn, Score, largest, log_mass, sample_mean

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
        mass_N = log_mass(logits_NV, values_NV[:, 0])
        probs_NV = F.pad((values_NV - mass_N[:, None]).exp(), (0, missing))
        ids_N1V, probs_N1V = F.pad(ids_NV, (0, missing))[:, None], probs_NV[:, None]
        old_ids, old_probs = (
            kept[slots_N][:, :depth, :top] for kept in (self._ids_PDV, self._probs_PDV)
        )
        ids, probs = torch.cat([ids_N1V, old_ids], 1), torch.cat([probs_N1V, old_probs], 1)
        self._keep(slots_N, ids[:, :depth], probs[:, :depth])
        return sample_mean(ids, probs, score)

    def _keep(self, slots_N: Tensor, ids_NDV: Tensor, probs_NDV: Tensor) -> None:
        room = (0, MAX_HISTORY_TOP - ids_NDV.shape[2], 0, MAX_HISTORY - ids_NDV.shape[1])
        self._ids_PDV.index_copy_(0, slots_N, F.pad(ids_NDV, room))
        self._probs_PDV.index_copy_(0, slots_N, F.pad(probs_NDV, room))
