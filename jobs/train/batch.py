"""A batch of packed rows, and its micro-batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "split"]


class Batch(NamedTuple):
    """Rows packed one behind the other: ids, masks and weights [T]; lengths and variants [B]."""

    token_ids: NDArray[np.int64]
    is_masked: NDArray[np.bool_]
    weights: NDArray[np.float32]
    lengths: NDArray[np.int64]
    variants: NDArray[np.int64]


def split(batch: Batch, parts: int) -> list[Batch]:
    """The batch in micro-batches: part p takes rows p, p + parts, ..."""
    if parts == 1:
        return [batch]
    row_T = np.repeat(np.arange(len(batch.lengths)), batch.lengths)
    return [
        Batch(
            token_ids=batch.token_ids[row_T % parts == part],
            is_masked=batch.is_masked[row_T % parts == part],
            weights=batch.weights[row_T % parts == part],
            lengths=batch.lengths[part::parts],
            variants=batch.variants[part::parts],
        )
        for part in range(parts)
    ]
