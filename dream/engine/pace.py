"""How fast an engine works while it is busy, measured as it goes."""

from __future__ import annotations

import math

__all__ = ["MEMORY_S", "Pace"]

MEMORY_S = 30.0
"""A second of work counts half as much after about two thirds of so many busy seconds."""


class Pace:
    """Exponentially weighted moments of the steps so far; idle time does not count.

    Tokens and seconds fade alike, so that large steps weigh as much as they take.
    """

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._rate: float | None = None
        self._steps = 0.0
        self._tokens = 0.0
        self._seconds = 0.0
        self._tokens_squared = 0.0
        self._tokens_x_seconds = 0.0

    @property
    def token_forwards_per_s(self) -> float | None:
        """The rate; None before anything was measured."""
        return self._rate

    def step_seconds(self, tokens: int) -> float:
        """How long a step of so many tokens takes; 0 before anything was measured.

        The line of least squares, with neither its slope nor its value at 0 below 0.
        """
        if not self._steps:
            return 0.0
        mean_tokens, mean_seconds = self._tokens / self._steps, self._seconds / self._steps
        variance = self._tokens_squared / self._steps - mean_tokens**2
        if variance <= 1e-6 * mean_tokens**2:
            return mean_seconds * max(1.0, tokens / mean_tokens)
        covariance = self._tokens_x_seconds / self._steps - mean_tokens * mean_seconds
        slope = min(max(covariance / variance, 0.0), mean_seconds / mean_tokens)
        return mean_seconds + slope * (tokens - mean_tokens)

    def observe(self, tokens: int, seconds: float) -> None:
        """A step computed so many tokens in so many seconds; one of neither is not counted."""
        if tokens <= 0 or seconds <= 0:
            return
        kept = math.exp(-seconds / self._memory_s)
        self._steps = kept * self._steps + 1
        self._tokens = kept * self._tokens + tokens
        self._seconds = kept * self._seconds + seconds
        self._tokens_squared = kept * self._tokens_squared + tokens**2
        self._tokens_x_seconds = kept * self._tokens_x_seconds + tokens * seconds
        self._rate = self._tokens / self._seconds
