"""Approximate modes: which rows of a canvas one forward computes, and which they attend to.

A row is a canvas position. Position i is predicted by row i - 1, so whatever is to be filled
needs that row too (the published cached port starts a window one row too late: NVlabs/Fast-dLLM
issue 61). A token that was filled since all rows were computed is computed again, as its kept keys
and values are those of a mask.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dream.params import SamplingParams

__all__ = ["View", "WindowState"]


class View(NamedTuple):
    """Rows that are computed, and rows whose keys and values they see; both ascending."""

    rows: NDArray[np.int64]
    keys: NDArray[np.int64]


class WindowState:
    """The state of one request's approximate mode; `view` before each forward, `apply` after."""

    def __init__(self, length: int, params: SamplingParams) -> None:
        self._params = params
        self._is_kept = np.zeros(length, np.bool_)
        self._is_stale = np.zeros(length, np.bool_)
        self._reach = 0
        self._passes = 0
        self._block: int | None = None

    def view(self, is_masked: NDArray[np.bool_], candidates: NDArray[np.int64], block: int) -> View:
        """The rows of the next forward, which may fill these candidates; `block` is the first's."""
        keeps = self._params.window is not None
        if keeps and block == self._block and self._passes != self._params.refresh_every:
            is_near = self._near(candidates)
            if self._params.window == "prefix":
                first = int(is_near.argmax())
                is_near[first:] |= (self._is_kept | ~is_masked)[first:]
            return View(is_near.nonzero()[0], (self._is_kept | is_near).nonzero()[0])
        rows = self._seen(is_masked, candidates).nonzero()[0]
        return View(rows, rows)

    def apply(self, view: View, block: int, filled: NDArray[np.int64]) -> None:
        """Remember what a forward kept, and what it filled."""
        is_whole = len(view.rows) == len(view.keys)
        self._passes = 1 if is_whole else self._passes + 1
        self._block = block
        if is_whole:
            self._is_kept[:] = False
            self._is_stale[:] = False
        self._is_kept[view.rows] = True
        self._is_stale[filled] = True

    def _near(self, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The candidates, the rows that predict them, stale rows, and what is in their vicinity."""
        centres = np.concatenate([candidates, candidates - 1, self._is_stale.nonzero()[0]])
        ends = np.zeros(len(self._is_kept) + 1, np.int64)
        np.add.at(ends, np.maximum(centres - self._params.vicinity, 0), 1)
        np.add.at(ends, np.minimum(centres + self._params.vicinity + 1, len(self._is_kept)), -1)
        is_near: NDArray[np.bool_] = ends.cumsum()[:-1] > 0
        return is_near

    def _seen(
        self, is_masked: NDArray[np.bool_], candidates: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """All rows but the masks that are too far beyond the candidates."""
        if self._params.suffix_window is None:
            return np.ones_like(is_masked)
        self._reach = max(self._reach, int(candidates[-1]) + self._params.suffix_window)
        positions = np.arange(len(is_masked))
        every = self._params.block_length or self._params.frontier
        assert every is not None, "SamplingParams asks for one of the two"
        is_anchor = (len(is_masked) - 1 - positions) % every == 0
        is_seen: NDArray[np.bool_] = ~is_masked | (positions <= self._reach) | is_anchor
        return is_seen
