"""Noise keyed by (seed, purpose, step, position): the same on every device and in any batch."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Purpose", "uniforms"]


class Purpose(IntEnum):
    """What a draw is for, so that no two uses share noise."""

    TOKEN = 1
    ORDER = 2
    COMMIT_TIME = 3


def uniforms(
    seed: int, purpose: Purpose, step: int, positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """One uniform in (0, 1) of 53 bits for each position."""
    with np.errstate(over="ignore"):
        key = _mix(np.full(1, seed, np.uint64))
        for part in (int(purpose), step):
            key = _mix(key ^ np.uint64(part))
        bits = _mix(key ^ positions.astype(np.uint64))
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64 (Steele, Lea and Flood, 2014): a bijection whose output bits all mix."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
