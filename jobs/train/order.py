"""Which rows make the batch of an update: a pure function of the seed and the update.

The rows of all epochs, each in its own shuffled order, form one endless stream, which is cut into
batches. The batches of an epoch form windows of some batches, the last of them shorter; inside a
window rows are sorted by length and dealt to the batches in that order, so that a batch is a few
blocks of equal length. A batch on the border of two epochs has rows of both. So the first N rows
that a run takes are every row once, as are the next N, and a run may begin again at any update.

Letters: N rows of the data, B rows of a batch, W rows of a window.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["rows_of_update"]

Ints = NDArray[np.int64]

SHUFFLE, DEAL = 0, 1
"""Spawn keys of the two draws, so that neither repeats the other or a row's noise."""


def rows_of_update(
    update: int, *, lengths_N: Ints, batch_size: int, group_batches: int, seed: int
) -> Ints:
    """Row numbers [B] of the batch, shorter rows first."""
    num_rows, start = len(lengths_N), update * batch_size
    epochs = range(start // num_rows, (start + batch_size - 1) // num_rows + 1)
    rows_B = np.concatenate(
        [
            _rows_of_epoch(update, epoch, lengths_N, batch_size, group_batches, seed)
            for epoch in epochs
        ]
    )
    return _by_length(rows_B, lengths_N)


def _rows_of_epoch(
    update: int, epoch: int, lengths_N: Ints, batch_size: int, group_batches: int, seed: int
) -> Ints:
    """The rows of the batch that come from this epoch: its share of one window."""
    num_rows = len(lengths_N)
    start, end = epoch * num_rows, (epoch + 1) * num_rows
    first, last = start // batch_size, (end - 1) // batch_size
    window, slot = divmod(update - first, group_batches)
    begin = first + window * group_batches
    stop = min(begin + group_batches, last + 1)
    borders = np.clip(np.arange(begin, stop + 1) * batch_size, start, end) - start
    rows_W = _by_length(_shuffled(num_rows, epoch, seed)[borders[0] : borders[-1]], lengths_N)
    dealt = _draw(seed, epoch, DEAL, window).permutation(stop - begin)
    place = int(np.flatnonzero(dealt == slot)[0])
    sizes = np.diff(borders)[dealt]
    return rows_W[sizes[:place].sum() :][: sizes[place]]


def _by_length(rows: Ints, lengths_N: Ints) -> Ints:
    return rows[np.argsort(lengths_N[rows], kind="stable")]


@lru_cache(maxsize=4)
def _shuffled(num_rows: int, epoch: int, seed: int) -> Ints:
    return _draw(seed, epoch, SHUFFLE).permutation(num_rows)


def _draw(seed: int, epoch: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=purpose))
