"""What a score is worth: intervals of proportions, paired differences, and time at work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

__all__ = ["Difference", "Interval", "busy_seconds", "paired_difference", "stderr", "wilson"]

CONFIDENCE = 0.95
RESAMPLES = 10_000


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A mean difference, and its interval."""

    mean: float
    low: float
    high: float


def wilson(successes: int, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a proportion (Wilson, 1927)."""
    found = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def stderr(successes: int, n: int) -> float | None:
    """Standard error of a mean of n zeros and ones; None for a single one."""
    share = successes / n
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else None


def paired_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, seed: int
) -> Difference:
    """Mean of second - first over the same questions, with a 95 % percentile bootstrap interval.

    A difference is -1, 0 or 1, so drawing questions with replacement is one multinomial draw.
    """
    differences = second.astype(np.int64) - first.astype(np.int64)
    n = len(differences)
    shares = np.array([(differences == value).mean() for value in (-1, 0, 1)])
    draws = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    means = (draws[:, 2] - draws[:, 0]) / n
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(differences.mean()), float(low), float(high))


def busy_seconds(starts: Sequence[float], ends: Sequence[float]) -> float:
    """Length of the union of the intervals: time in which at least one of them lasted."""
    if not len(starts):
        return 0.0
    order = np.argsort(starts)
    begin = np.asarray(starts, np.float64)[order]
    end = np.maximum.accumulate(np.asarray(ends, np.float64)[order])
    gaps = np.maximum(0.0, begin[1:] - end[:-1])
    return float(end[-1] - begin[0] - gaps.sum())
