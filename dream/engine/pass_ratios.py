"""How many passes requests with a commit rule run, as a part of the most that they could."""

from __future__ import annotations

import math

from dream.request import Completion, Request

__all__ = ["PassRatios"]

WEIGHT = 0.1
"""Of a request that has ended, against all those before it."""


class PassRatios:
    """Exponentially weighted means between 0 and 1, one for each rule; 1 before anything ended.

    A rule fills one mask at least in a pass, and usually more.
    """

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def observe(self, request: Request, completion: Completion) -> None:
        """A request has ended; one without a rule, or that may grow, says nothing."""
        rule = request.params.rule
        if rule is None or request.params.grow_to is not None:
            return
        most = min(request.template.num_masked, completion.usage.steps)
        if most > 0:
            found = min(1.0, completion.usage.forward_passes / most)
            before = self._ratios.get(rule, 1.0)
            self._ratios[rule] = before + WEIGHT * (found - before)

    def expected(self, request: Request, most: int) -> int:
        """Passes that it is expected to run, of so many at most."""
        rule = request.params.rule
        return most if rule is None else math.ceil(self._ratios.get(rule, 1.0) * most)
