"""How long the steps of an engine take, in plain numbers."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["SECONDS", "TOKENS", "StepTimes"]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds, inclusive, of the buckets of a step's seconds; one more has the rest."""

TOKENS = (64, 256, 1024, 4096, 16384)
"""Upper bounds, inclusive, of the buckets of a step's packed tokens; one more has the rest."""


class StepTimes:
    """Counts steps by their tokens and seconds; only grows, and one thread writes it.

    counts: steps of each bucket of tokens, and in it of each bucket of seconds. busy_s: seconds
    inside steps.
    """

    def __init__(self) -> None:
        self.counts = [[0] * (len(SECONDS) + 1) for _ in range(len(TOKENS) + 1)]
        self.busy_s = 0.0

    def record(self, tokens: int, seconds: float) -> None:
        """Count a step of so many tokens; one without any has computed nothing."""
        if tokens:
            self.busy_s += seconds
            self.counts[bisect_left(TOKENS, tokens)][bisect_left(SECONDS, seconds)] += 1
