"""The packed rows of a step: which canvas rows are computed, and which are wanted.

Canvases of equal content share their rows, as n samples of one prompt do at their first step.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dream.canvas import Canvas
from dream.engine.staging import Upload
from dream.model.attention import PackedLayout, Segments, Wanted
from dream.model.cache import CachedRows, KeyValueCache

__all__ = ["content_of", "pack"]


class _Sequence(NamedTuple):
    """Canvases that share rows: which rows, what is in them, and the rows that are wanted."""

    canvas: Canvas
    rows: NDArray[np.int64]
    num_keys: int
    wanted: NDArray[np.int64]


def content_of(canvas: Canvas) -> Hashable:
    """What the rows of a canvas are computed from; kept keys and values are like no others."""
    return id(canvas) if canvas.step_plan.view is not None else canvas.token_ids.tobytes()


def pack(
    canvases: Sequence[Canvas],
    contents: Sequence[int],
    upload: Upload,
    cache: KeyValueCache | None,
) -> tuple[Tensor, PackedLayout]:
    """Token ids [T] and layout; neighbours with the same number in `contents` share rows.

    Canvases with kept keys and values come after all others.
    """
    sequences = [
        _sequence([canvas for _, canvas in members])
        for _, members in groupby(zip(contents, canvases, strict=True), key=lambda pair: pair[0])
    ]
    lengths = [len(sequence.rows) for sequence in sequences]
    keys = [sequence.num_keys for sequence in sequences]
    starts = np.cumsum([0, *lengths[:-1]])
    wanted = [start + one.wanted for start, one in zip(starts, sequences, strict=True)]
    layout = PackedLayout(
        positions_T=upload(np.concatenate([one.rows for one in sequences])),
        segments=Segments.of(lengths, keys, upload),
        wanted=Wanted(
            upload(np.concatenate(wanted)),
            Segments.of([len(rows) for rows in wanted], keys, upload),
        ),
        cached=_cached(sequences, upload, cache),
    )
    ids = np.concatenate([one.canvas.token_ids[one.rows] for one in sequences])
    return upload(ids), layout


def _sequence(members: Sequence[Canvas]) -> _Sequence:
    first, view = members[0], members[0].step_plan.view
    predicting = [np.maximum(canvas.step_plan.candidates - 1, 0) for canvas in members]
    if view is None:
        return _Sequence(first, np.arange(len(first)), len(first), np.concatenate(predicting))
    wanted = np.searchsorted(view.rows, np.concatenate(predicting))
    return _Sequence(first, view.rows, len(view.keys), wanted)


def _cached(
    sequences: Sequence[_Sequence], upload: Upload, cache: KeyValueCache | None
) -> CachedRows | None:
    kept = [one for one in sequences if one.canvas.request.params.window is not None]
    if cache is None or not kept:
        return None
    num_exact = sum(len(one.rows) for one in sequences[: len(sequences) - len(kept)])
    written, read = [], []
    for one in kept:
        slots, view = one.canvas.slots, one.canvas.step_plan.view
        assert slots is not None
        assert view is not None
        written.append(slots[view.rows])
        read.append(slots[view.keys])
    return CachedRows(
        cache, num_exact, upload(np.concatenate(written)), upload(np.concatenate(read))
    )
