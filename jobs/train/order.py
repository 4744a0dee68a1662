"""Which rows make the batch of an update: a pure function of the seed and the update.

The rows of all epochs, each in its own shuffled order, form one endless stream. The stream is
cut into windows of some batches; inside a window rows are sorted by length and dealt to the
batches in that order, so that a batch is a few blocks of equal length. So every row comes once
an epoch, none is left out, and a run may begin again at any update.

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
    window, slot = divmod(update, group_batches)
    size = batch_size * group_batches
    rows_W = _stream(window * size, size, len(lengths_N), seed)
    by_length_W = rows_W[np.argsort(lengths_N[rows_W], kind="stable")]
    dealt = _draw(seed, window, DEAL).permutation(group_batches)
    start = int(dealt[slot]) * batch_size
    return by_length_W[start : start + batch_size]


def _stream(start: int, size: int, num_rows: int, seed: int) -> Ints:
    """Rows `start` to `start + size` of the endless stream."""
    first, last = start // num_rows, (start + size - 1) // num_rows
    epochs = [_shuffled(num_rows, epoch, seed) for epoch in range(first, last + 1)]
    offset = start - first * num_rows
    return np.concatenate(epochs)[offset : offset + size]


@lru_cache(maxsize=4)
def _shuffled(num_rows: int, epoch: int, seed: int) -> Ints:
    return _draw(seed, epoch, SHUFFLE).permutation(num_rows)


def _draw(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, index], spawn_key=(purpose,)))
