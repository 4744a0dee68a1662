"""How fast an engine works: token-forwards a second while it is busy, measured as it goes."""

from __future__ import annotations

import math

__all__ = ["MEMORY_S", "Pace"]

MEMORY_S = 30.0
"""A second of work counts half as much after about two thirds of so many busy seconds."""


class Pace:
    """An exponentially weighted rate over busy time; idle time does not count.

    Tokens and seconds fade alike, so that large steps weigh as much as they take.
    """

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._rate: float | None = None
        self._tokens = 0.0
        self._seconds = 0.0

    @property
    def token_forwards_per_s(self) -> float | None:
        """The rate; None before anything was measured."""
        return self._rate

    def observe(self, tokens: int, seconds: float) -> None:
        """A step computed so many tokens in so many seconds; one of neither is not counted."""
        if tokens <= 0 or seconds <= 0:
            return
        kept = math.exp(-seconds / self._memory_s)
        self._tokens = kept * self._tokens + tokens
        self._seconds = kept * self._seconds + seconds
        self._rate = self._tokens / self._seconds
