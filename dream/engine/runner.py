"""From a batch to what it commits: one packed forward, the head where it is needed, the rule.

Letters: T packed rows, E hidden width, N candidate rows, V vocabulary, C committed rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.engine.batch import Batch, Group
from dream.model.modeling import DreamModel
from dream.remasking import Commit, choose
from dream.sampling import Drawn, sample

__all__ = ["HostCommit", "ModelRunner"]


class HostCommit(NamedTuple):
    """A commit on the host: candidate row, token id and probability of each committed row."""

    rows_C: NDArray[np.int64]
    token_ids_C: NDArray[np.int64]
    probs_C: NDArray[np.float32]


class ModelRunner:
    """Runs batches through a model; ids from `suppressed` are never drawn."""

    def __init__(self, model: DreamModel, suppressed: Tensor, max_logit_rows: int) -> None:
        self._model = model
        self._suppressed = suppressed.to(model.device)
        self._max_logit_rows = max_logit_rows

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Hidden states [N, E] of the rows that predict the candidates."""
        hidden_TE: Tensor = self._model(batch.token_ids_T, batch.layout)
        return hidden_TE[batch.head_rows_N]

    @torch.inference_mode()
    def commit(self, hidden_NE: Tensor, batch: Batch) -> Commit:
        """Draw and score every candidate, chunk by chunk, and choose what is committed."""
        drawn = [
            self._sample(hidden_NE[rows], group, rows)
            for group in batch.groups
            for rows in _chunks(group.rows, self._max_logit_rows)
        ]
        token_ids_N, probs_N, scores_N = (torch.cat(part) for part in zip(*drawn, strict=True))
        ranks_N = scores_N.double() * batch.rank_scale_N + batch.rank_shift_N
        rows_C = choose(ranks_N, batch.owners_N, batch.picks_C)
        return Commit(rows_C, token_ids_N[rows_C], probs_N[rows_C])

    def to_host(self, commit: Commit) -> HostCommit:
        """Copy a commit to the host: the one place of a step that waits for the device."""
        return HostCommit(*(part.cpu().numpy() for part in commit))

    def _sample(self, hidden_NE: Tensor, group: Group, rows: slice) -> Drawn:
        logits_NV = self._model.logits(hidden_NE).float()
        logits_NV.index_fill_(1, self._suppressed, -torch.inf)
        start = group.rows.start
        params = group.params.take(slice(rows.start - start, rows.stop - start))
        return sample(logits_NV, params, group.score)


def _chunks(rows: slice, size: int) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))
