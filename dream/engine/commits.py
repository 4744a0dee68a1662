"""What a step commits, canvas by canvas.

Letters: C committed rows of all canvases.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dream.canvas import Canvas
from dream.engine.batch import Batch
from dream.engine.readback import HostCommit
from dream.request import TokenLogprobs

__all__ = ["CanvasCommit", "commits_of"]


class CanvasCommit(NamedTuple):
    """The arguments of `Canvas.commit` for one canvas."""

    canvas: Canvas
    positions: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    probs: NDArray[np.float32]
    num_forced: int
    logprobs: Sequence[TokenLogprobs] | None


def commits_of(batch: Batch, commit: HostCommit) -> list[CanvasCommit]:
    """What each canvas of a batch commits, positions ascending."""
    counts = batch.picked if commit.counts_R is None else commit.counts_R.tolist()
    forced = [0] * len(counts) if commit.forced_R is None else commit.forced_R.tolist()
    starts = accumulate(batch.picked, initial=0)
    return [
        _of_canvas(batch, commit, canvas, np.arange(start, start + count), num_forced)
        for canvas, start, count, num_forced in zip(
            batch.canvases, starts, counts, forced, strict=False
        )
    ]


def _of_canvas(
    batch: Batch, commit: HostCommit, canvas: Canvas, rows_C: NDArray[np.int64], num_forced: int
) -> CanvasCommit:
    positions = batch.positions_N[commit.rows_C[rows_C]]
    order = positions.argsort()
    rows_C, num_top = rows_C[order], canvas.request.logprobs
    return CanvasCommit(
        canvas,
        positions[order],
        commit.token_ids_C[rows_C],
        commit.probs_C[rows_C],
        num_forced,
        None if commit.logprobs is None or num_top is None else commit.logprobs.of(rows_C, num_top),
    )
