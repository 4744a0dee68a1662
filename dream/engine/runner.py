"""From a batch to what it commits: one packed forward, the head where it is needed, the rule.

Letters: T packed rows, E hidden width, N candidate rows, V vocabulary, C committed rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.engine.batch import Batch, Group, RuleBatch
from dream.model.modeling import DreamModel
from dream.remasking import Commit, Ranked, apply_rules, stable_order
from dream.sampling import Certainty, Drawn, certainty, sample

__all__ = ["HostCommit", "ModelRunner"]


class HostCommit(NamedTuple):
    """A `remasking.Commit` on the host."""

    rows_C: NDArray[np.int64]
    token_ids_C: NDArray[np.int64]
    probs_C: NDArray[np.float32]
    counts_R: NDArray[np.int64] | None
    forced_R: NDArray[np.int64] | None


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
        sampled = [
            self._sample(hidden_NE[rows], group, rows)
            for group in batch.groups
            for rows in _chunks(group.rows, self._max_logit_rows)
        ]
        drawn = Drawn(*_joined(part for part, _ in sampled))
        sure = Certainty(*_joined(part for _, part in sampled))
        ranks_N = drawn.scores_N.double() * batch.rank_scale_N + batch.rank_shift_N
        order_N = stable_order(ranks_N, batch.keys_N)
        counts_R = forced_R = None
        if batch.rules is not None:
            order_N, counts_R, forced_R = _by_rules(order_N, sure, batch.rules)
        rows_C = order_N[batch.picks_C]
        tokens_C, probs_C = drawn.token_ids_N[rows_C], drawn.probs_N[rows_C]
        return Commit(rows_C, tokens_C, probs_C, counts_R, forced_R)

    def to_host(self, commit: Commit) -> HostCommit:
        """Copy a commit to the host: the one place of a step that waits for the device."""
        told = (None if part is None else part.cpu().numpy() for part in commit[3:])
        return HostCommit(*(part.cpu().numpy() for part in commit[:3]), *told)

    def _sample(self, hidden_NE: Tensor, group: Group, rows: slice) -> tuple[Drawn, Certainty]:
        logits_NV = self._model.logits(hidden_NE).float()
        logits_NV.index_fill_(1, self._suppressed, -torch.inf)
        sure = certainty(logits_NV) if group.is_ruled else _unknown(logits_NV)
        start = group.rows.start
        params = group.params.take(slice(rows.start - start, rows.stop - start))
        return sample(logits_NV, params, group.score), sure


def _by_rules(order_N: Tensor, sure: Certainty, rules: RuleBatch) -> tuple[Tensor, Tensor, Tensor]:
    """The order in which rows commit under the rules, and counts and forced commits [R]."""
    rows = (*sure, rules.owners_N, rules.starts_N, rules.runs_N)
    ranked = Ranked(*(values_N[order_N] for values_N in rows))
    again_N, counts_R, forced_R = apply_rules(ranked, rules.is_eligible_N[order_N], rules.limits)
    return order_N[again_N], counts_R, forced_R


def _joined(chunks: Iterable[tuple[Tensor, ...]]) -> Iterator[Tensor]:
    return (torch.cat(parts) for parts in zip(*chunks, strict=True))


def _unknown(logits_NV: Tensor) -> Certainty:
    """For rows whose requests have no commit rule."""
    zeros_N = logits_NV.new_zeros(len(logits_NV))
    return Certainty(zeros_N, zeros_N)


def _chunks(rows: slice, size: int) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))
