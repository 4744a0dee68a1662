"""How a command can end badly, each with its exit code."""

from __future__ import annotations

from typing import ClassVar

from dream.errors import DreamError

__all__ = ["JobError", "LockLost", "Refused", "RowsFailed", "Stopped"]


class JobError(DreamError):
    """A job that could not be done."""

    exit_code: ClassVar[int] = 1


class Refused(JobError):
    """The job is not started; nothing was computed and nothing was changed."""

    exit_code = 2


class Stopped(JobError):
    """The job was stopped before its end; what is committed stays, and resume goes on."""

    exit_code = 4


class LockLost(Stopped):
    """Another driver has taken the output over."""


class RowsFailed(JobError):
    """Rows have failed, and the job was to fail with them."""

    exit_code = 6
