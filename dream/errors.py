"""The tree of errors users see: every one says what was wrong and what is allowed."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ContextLengthExceeded",
    "DreamError",
    "EngineError",
    "InvalidRequest",
    "LengthTokenRefused",
    "MemoryExceeded",
    "MissingExtra",
    "NotBitExact",
]


class DreamError(Exception):
    """Root of every error this project raises on purpose."""


class InvalidRequest(DreamError, ValueError):
    """A request that cannot be run; names the `field`, its `value` and what is `allowed`."""

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(field, value, allowed)
        self.field = field
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.field}={self.value!r} is not valid: {self.allowed}"


class ContextLengthExceeded(InvalidRequest):
    """The template, or what it may grow to, is longer than the model's context."""


class LengthTokenRefused(InvalidRequest):
    """A token that changes the length of a hole: holes of unknown length are not served yet."""


class DeadlineInfeasible(InvalidRequest):
    """Even the fewest steps that a request takes would end after its deadline."""


class MemoryExceeded(InvalidRequest):
    """The device has too little memory; `fits` are the options that would do, with their values."""

    def __init__(self, field: str, value: object, allowed: str, fits: dict[str, int]) -> None:
        super().__init__(field, value, allowed)
        self.fits = fits
        self.args = (field, value, allowed, fits)


class CheckpointError(DreamError):
    """A checkpoint that cannot be loaded; names the file or tensor that is wrong."""


class MissingExtra(DreamError):
    """A setting needs a package that is not installed; names the extra that brings it."""


class EngineError(DreamError):
    """The engine cannot go on: its loop died or its numbers are not finite."""


class NotBitExact(UserWarning):
    """Float32 results on this CPU may depend on the batch, against what is promised."""
