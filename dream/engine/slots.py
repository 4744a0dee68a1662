"""Rows of device memory lent to canvases that keep something for each position between steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SlotPool"]


class SlotPool:
    """Hands out slot numbers below `num_slots`; those of a canvas need not be neighbours."""

    def __init__(self, num_slots: int) -> None:
        self._free = np.arange(num_slots)

    def acquire(self, count: int) -> NDArray[np.int64] | None:
        """So many slots, or None where fewer are free."""
        if count > len(self._free):
            return None
        slots, self._free = self._free[:count], self._free[count:]
        return slots

    def release(self, slots: NDArray[np.int64]) -> None:
        """Take slots back."""
        self._free = np.concatenate([slots, self._free])
