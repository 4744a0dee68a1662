"""The errors of `cluster`: each names the field, its value and what is allowed."""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "DoesNotFit",
    "MissingSetting",
    "NotEnoughGpus",
    "PlanError",
    "SpecError",
]


class ClusterError(Exception):
    """Root of every error this package raises on purpose."""


class _FieldError(ClusterError, ValueError):
    _verdict = "valid"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(field, value, allowed)
        self.field = field
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.field}={_shown(self.value)} is not {self._verdict}: {self.allowed}"


class SpecError(_FieldError):
    """A setting, a file or a config that cannot be used."""


class MissingSetting(SpecError):
    """A setting that must be given and was not."""

    def __str__(self) -> str:
        return f"{self.field} is required: {self.allowed}"


class PlanError(_FieldError):
    """A placement that cannot exist, with the numbers that forbid it."""

    _verdict = "possible"


class DoesNotFit(PlanError):
    """No single node, or no single GPU, can hold what one replica needs."""


class NotEnoughGpus(PlanError):
    """One replica fits; the cluster tops out below the number asked for."""


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer of too many digits
        return f"<{type(value).__name__}>"
