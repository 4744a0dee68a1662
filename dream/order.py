"""In which order a request's masks may be filled, beside their ranks: a class for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dream.params import MAX_STEPS
from dream.request import Request

__all__ = ["FillOrder"]


class FillOrder:
    """Masks are numbered by (priority, position), and the lowest class is filled first.

    Blocks are consecutive numbers, and a frontier reaches from the lowest number that is still
    masked.
    """

    def __init__(self, request: Request, masked: NDArray[np.int64]) -> None:
        params = request.params
        priorities = np.array(request.template.priorities, np.int64)
        has_limit = params.block_length is not None or params.frontier is not None
        self.is_free = not has_limit and len(np.unique(priorities)) < 2
        self._frontier = params.frontier
        self._numbers = np.zeros(request.template.num_tokens, np.int64)
        self._numbers[masked[priorities.argsort(kind="stable")]] = np.arange(len(masked))
        self._static = np.zeros_like(self._numbers)
        self._static[masked] = np.unique(priorities, return_inverse=True)[1] * MAX_STEPS
        if params.block_length is not None:
            self._static += self._numbers // params.block_length

    def classes(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class of each of these masked positions."""
        classes = self._static[positions]
        if self._frontier is not None:
            numbers = self._numbers[positions]
            classes += np.maximum(numbers - numbers.min() - self._frontier + 1, 0)
        return classes
