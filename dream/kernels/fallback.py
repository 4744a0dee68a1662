"""A fast way and a plain one: what happens where the fast one does not run on a machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from subprocess import SubprocessError
from typing import Generic, ParamSpec, TypeVar

import torch

__all__ = ["FirstTry"]

FAILURES = (
    *(RuntimeError, OSError, SubprocessError, ImportError),
    *(AttributeError, TypeError, ValueError, LookupError, AssertionError),
)
"""What compilers and drivers raise, and what comes of another version of theirs."""

P = ParamSpec("P")
R = TypeVar("R")


class FirstTry(Generic[P, R]):
    """Calls `fast` until it fails once, and from then on `plain`; it warns once, with the error.

    A lack of memory is no such failure. Both ways give the same result up to rounding.
    """

    def __init__(self, what: str, fast: Callable[P, R], plain: Callable[P, R]) -> None:
        self._what = what
        self._fast: Callable[P, R] | None = fast
        self._plain = plain

    @property
    def is_fast(self) -> bool:
        """Whether the fast way has never failed."""
        return self._fast is not None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._fast is not None:
            try:
                return self._fast(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except FAILURES as error:
                self._fast = None
                told = f"{self._what}: the plain form runs instead: {type(error).__name__}: {error}"
                warnings.warn(told, RuntimeWarning, stacklevel=2)
        return self._plain(*args, **kwargs)
