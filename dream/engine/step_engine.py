"""What `AsyncEngine` drives: one `Engine`, or several processes that run one together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dream.engine.limits import Limits
from dream.engine.stats import EngineStats
from dream.request import Completion, Request, StepEvent

__all__ = ["StepEngine"]


class StepEngine(Protocol):
    """Fills many requests step by step; one thread calls it."""

    @property
    def limits(self) -> Limits:
        """What it can take."""

    @property
    def stats(self) -> EngineStats:
        """What it has done so far."""

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished, or an answer not yet collected."""

    @property
    def pending_token_forwards(self) -> int:
        """Tokens x forward passes still to run, at most."""

    def add(self, request: Request, so_far: Sequence[StepEvent] = ()) -> None:
        """Queue a request, or go on with one from its events; InvalidRequest if it cannot run."""

    def replan(self, request_id: str, steps: int) -> None:
        """Have the timetable of a request end after `steps` steps; no effect once it is over."""

    def abort(self, request_id: str) -> None:
        """Drop a request."""

    def close(self, request_id: str) -> Completion | None:
        """End a request with what it has; None if `collect` will have the completion later."""

    def step(self) -> list[StepEvent]:
        """Run one step; EngineError if the engine cannot go on."""

    def collect(self) -> list[Completion]:
        """Completions since the last call."""

    def check_health(self) -> None:
        """EngineError where it cannot go on; never waits, and may be asked beside a step."""

    def shutdown(self) -> None:
        """Give back what it holds; nothing else is called afterwards."""
