"""From a batch to what it commits: one packed forward, the head where it is needed, the rule.

Nothing here waits for the device but `ModelRunner.read`.
Letters: T packed rows, E hidden width, N candidate rows, V vocabulary, C committed rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dream.engine.batch import Batch
from dream.engine.graphs import StepGraphs, Tail
from dream.engine.groups import Group
from dream.engine.history import HistoryPool
from dream.engine.logprobs import RowLogprobs, row_logprobs
from dream.engine.readback import HostCommit, Readback
from dream.engine.sampled import Sampled, joined, unknown
from dream.engine.select import select
from dream.kernels.row_stats import row_stats
from dream.memory import WHOLE_ROWS
from dream.model.modeling import DreamModel
from dream.remasking import OF_STATS
from dream.sampling import Certainty, Drawn, RowParams, certainty, certainty_of, drawn_of, sample

__all__ = ["Launched", "ModelRunner", "Stage"]

Stage = Literal["collate", "forward", "sample", "head", "draw", "read", "done"]
"""What begins in a step: packing; the body; sampling, which for each chunk of rows is `head` and
`draw`; the copy to the host. At `done` it has arrived; `sample` follows if filters need more."""

SLICE_BYTES = 5 * 2**18
"""Logits a CPU samples at a time: what stays in its cache from one pass to the next."""

SAMPLED_ROWS = 128
"""Rows that `batch_invariant` samples at a time on a GPU, whatever the number of rows there are."""


class Launched(NamedTuple):
    """A step that the device works on, and what reading it may need once more."""

    batch: Batch
    hidden_NE: Tensor
    sampled: Sampled
    readback: Readback


class ModelRunner:
    """Runs batches through a model; ids from `suppressed` are never drawn.

    trace: called where a stage begins, on the host; what measures a step sets it. reads_stats:
    whether greedy rows and rules take one pass over the logits, in the dtype of the model.
    """

    def __init__(
        self,
        model: DreamModel,
        *,
        suppressed: Sequence[int],
        eos_ids: Iterable[int],
        max_logit_rows: int,
        histories: HistoryPool,
        graphs: StepGraphs | None = None,
        is_batch_invariant: bool = False,
    ) -> None:
        self._model = model
        self._suppressed = torch.tensor(suppressed, dtype=torch.int64, device=model.device)
        self._eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.int64, device=model.device)
        self._max_logit_rows = max_logit_rows
        self._histories = histories
        self._graphs = graphs
        self._logits_MV = self._buffer()
        # A CPU keeps the arithmetic whose bits are promised.
        self.reads_stats = model.device.type == "cuda"
        self._is_padded = is_batch_invariant and model.device.type != "cpu"
        self.trace: Callable[[Stage], None] = _ignore

    @torch.inference_mode()
    def launch(self, batch: Batch) -> Launched:
        """Put a step on the device: forward, sampling, and the copy of what it commits."""
        self.trace("forward")
        hidden_NE, sampled = self._forward(batch)
        if sampled is None:
            self.trace("sample")
            sampled = self._sample(hidden_NE, batch)
        return Launched(batch, hidden_NE, sampled, self._readback(sampled, batch))

    @torch.inference_mode()
    def read(self, launched: Launched) -> HostCommit:
        """What a step commits; rows that filters left open are drawn again from all logits."""
        batch, hidden_NE, sampled, readback = launched
        commit = self._wait(readback)
        if not len(commit.open_N):
            return commit
        self.trace("sample")
        whole = self._sample_whole(sampled, commit.open_N, hidden_NE, batch)
        return self._wait(self._readback(whole, batch))

    def forget(self, slots: NDArray[np.int64]) -> None:
        """Empty the histories of these slots."""
        self._histories.forget(torch.from_numpy(slots).to(self._model.device, non_blocking=True))

    def _forward(self, batch: Batch) -> tuple[Tensor, Sampled | None]:
        """Hidden states of the candidates, and their tokens where a graph draws them."""
        if self._graphs is None:
            return self._model(batch.token_ids_T, batch.layout), None
        tail = self._tail(batch.groups)
        hidden_NE, values = self._graphs.run(batch.token_ids_T, batch.layout, tail)
        if any(group.key.width for group in batch.groups):  # the next step may run before a redraw
            hidden_NE = hidden_NE.clone()
            values = None if values is None else tuple(value.clone() for value in values)
        if values is None:
            return hidden_NE, None
        return hidden_NE, Sampled(Drawn(*values[:4]), Certainty(*values[4:]))

    def _tail(self, groups: Sequence[Group]) -> Tail | None:
        """The sampling of a step whose rows all have one key; None for what needs more."""
        group, *others = groups
        key = group.key
        if others or key.history or key.is_annealed or key.has_logprobs:
            return None
        is_given = [value is not None for value in group.params]

        def call(hidden_NE: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            values = iter(given)
            params = RowParams(*(next(values) if one else None for one in is_given))
            rows = slice(0, len(hidden_NE))
            same = replace(group, rows=rows, params=params)
            sampled = joined(list(self._sample_chunk(hidden_NE, same, rows)))
            return (*sampled.drawn, *sampled.sure)

        return Tail(key, tuple(value for value in group.params if value is not None), call)

    def _sample(self, hidden_NE: Tensor, batch: Batch) -> Sampled:
        """Draw and score every candidate, chunk by chunk."""
        parts = [
            part
            for group in batch.groups
            for rows in _chunks(group.rows, self._max_logit_rows)
            for part in self._sample_chunk(hidden_NE[rows], group, rows)
        ]
        return joined(parts)

    def _sample_whole(
        self, sampled: Sampled, open_N: NDArray[np.int64], hidden_NE: Tensor, batch: Batch
    ) -> Sampled:
        """The same, where these rows have been drawn from the whole vocabulary."""
        whole = sampled.copy()
        for group in batch.groups:
            size = _most(group, min(WHOLE_ROWS, self._max_logit_rows))
            open_here = open_N[(open_N >= group.rows.start) & (open_N < group.rows.stop)]
            for chunk in _chunks(slice(0, len(open_here)), size):
                room = size - (chunk.stop - chunk.start) if self._is_padded else 0
                wanted = np.pad(open_here[chunk], (0, room), mode="edge")
                rows = torch.from_numpy(wanted).to(hidden_NE.device, non_blocking=True)
                logits_NV = self._logits(hidden_NE[rows]).float()
                raw_NV = logits_NV.clone() if group.key.has_logprobs else None
                of_group = rows - group.rows.start
                again = self._drawn(logits_NV, group, of_group, logits_NV.shape[1])
                whole.put(rows, again, self._logprobs(raw_NV, again))
        return whole

    def _wait(self, readback: Readback) -> HostCommit:
        self.trace("read")
        commit = readback.wait()
        self.trace("done")
        return commit

    def _readback(self, sampled: Sampled, batch: Batch) -> Readback:
        """What is committed, on its way to the host."""
        commit = select(sampled, batch, self._eos_ids)
        logprobs = sampled.logprobs
        logprobs_C = None if logprobs is None else logprobs.take(commit.rows_C)
        return Readback(commit, sampled.drawn.is_open_N, logprobs_C)

    def _buffer(self) -> Tensor | None:
        """Where the logits of every chunk go, on one CPU; CUDA's allocator keeps its own."""
        head = self._model.lm_head.weight
        is_whole = len(head) == self._model.config.vocab_size
        if head.device.type != "cpu" or not is_whole or self._model.makes_logits:
            return None
        return torch.empty(self._max_logit_rows, len(head), dtype=head.dtype)

    def _logits(self, hidden_NE: Tensor) -> Tensor:
        """Logits of at most max_logit_rows rows; they last until the next call."""
        out_NV = None if self._logits_MV is None else self._logits_MV[: len(hidden_NE)]
        self.trace("head")
        logits_NV = self._model.logits(hidden_NE, out_NV)
        self.trace("draw")
        return logits_NV.index_fill_(1, self._suppressed, -torch.inf)

    def _sample_chunk(self, hidden_NE: Tensor, group: Group, rows: slice) -> Iterator[Sampled]:
        """Logits of a chunk at once; their rows in slices that a CPU's cache holds."""
        logits_NV = self._logits(hidden_NE)
        is_cpu = logits_NV.device.type == "cpu"
        whole = SAMPLED_ROWS if self._is_padded else _most(group, len(logits_NV))
        size = max(1, SLICE_BYTES // (4 * logits_NV.shape[1])) if is_cpu else whole
        for part in _chunks(rows, size):
            here = slice(part.start - rows.start, part.stop - rows.start)
            of_group = slice(part.start - group.rows.start, part.stop - group.rows.start)
            yield self._sample_rows(logits_NV[here], group, of_group)

    def _sample_rows(self, logits_NV: Tensor, group: Group, rows: slice) -> Sampled:
        """Tokens of these rows of a group, with their log-probabilities where they are wanted."""
        raw_NV = logits_NV.clone() if group.key.has_logprobs else None
        drawn, sure = self._draw_rows(logits_NV, group, rows)
        return Sampled(drawn, sure, self._logprobs(raw_NV, drawn))

    def _logprobs(self, raw_NV: Tensor | None, drawn: Drawn) -> RowLogprobs | None:
        if raw_NV is None:
            return None
        return row_logprobs(raw_NV, drawn.token_ids_N, reads_stats=self.reads_stats)

    def _draw_rows(self, logits_NV: Tensor, group: Group, rows: slice) -> tuple[Drawn, Certainty]:
        key = group.key
        score = OF_STATS.get(key.alg) if key.is_greedy else None
        is_read = self.reads_stats and (score is not None or key.is_ruled)
        stats = row_stats(logits_NV) if is_read else None
        if stats is not None and score is not None:
            return drawn_of(stats, score(stats)), certainty_of(stats)
        logits_NV = logits_NV.float()
        if stats is not None:
            sure = certainty_of(stats)
        else:
            sure = certainty(logits_NV) if key.is_ruled else unknown(logits_NV)
        if not self._is_padded:
            return self._drawn_by(logits_NV, group, rows), sure
        # Always equally many rows, the last of them again and again: sums have one order.
        places_M = torch.arange(SAMPLED_ROWS, device=logits_NV.device)
        places_M.clamp_(max=len(logits_NV) - 1)
        drawn = self._drawn_by(logits_NV[places_M], group, rows.start + places_M)
        return Drawn(*(values_M[: len(logits_NV)] for values_M in drawn)), sure

    def _drawn_by(self, logits_NV: Tensor, group: Group, rows: Tensor | slice) -> Drawn:
        """Tokens of these rows of a group, by their histories where they keep one."""
        key = group.key
        if group.slots_N is None:
            return self._drawn(logits_NV, group, rows, key.width)
        slots_N = group.slots_N[rows]
        return self._histories.draw(logits_NV, slots_N, key.history, key.history_top, group.score)

    def _drawn(self, logits_NV: Tensor, group: Group, rows: Tensor | slice, width: int) -> Drawn:
        """Tokens of these rows of a group, and their scores, which annealing changes."""
        params = group.params.take(rows)
        if group.eos_divisors_N is None:
            return sample(logits_NV, params, group.score, width)
        annealed_NV = self._annealed(logits_NV, group.eos_divisors_N[rows])
        ranked = sample(annealed_NV, params, group.score, width)
        drawn = sample(logits_NV, params, group.score, width)
        is_open_N = drawn.is_open_N | ranked.is_open_N
        return drawn._replace(scores_N=ranked.scores_N, is_open_N=is_open_N)

    def _annealed(self, logits_NV: Tensor, divisors_N: Tensor) -> Tensor:
        """Logits for the score alone: those of EOS divided."""
        eos_NI = logits_NV[:, self._eos_ids] / divisors_N[:, None]
        return logits_NV.index_copy(1, self._eos_ids, eos_NI)


def _most(group: Group, size: int) -> int:
    """So many rows at a time; half as many where a copy of their raw logits is kept beside."""
    return max(1, size // 2) if group.key.has_logprobs else size


def _chunks(rows: slice, size: int) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def _ignore(stage: Stage) -> None:
    """The default trace does nothing."""
