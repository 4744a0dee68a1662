"""What happened on a canvas, as JSON: the `diffusion` key of a stream's chunks, and a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deployments.messages import CanvasMap, CanvasUpdate, SetToken, StepMap, Trace

__all__ = ["CanvasEvent", "DoneEvent", "Event", "SnapshotEvent", "StepEvent", "events_of", "told"]

Committed = tuple[int, int, str, float | None] | tuple[int, int, str, float | None, list[int]]
"""Position, token id, text, confidence; and the bytes where they are no whole characters."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CanvasEvent(_Event):
    """Before the first step: the given tokens; with `grow_to` again before each attempt."""

    event: Literal["canvas"] = "canvas"
    length: int
    fixed: list[Committed]
    steps: int
    attempt: int


class StepEvent(_Event):
    """What one step committed; `step` counts the timetable from 0, and idle steps with it."""

    event: Literal["step"] = "step"
    step: int
    set: list[Committed]


class SnapshotEvent(_Event):
    """The text as it is, with a mark for each mask."""

    event: Literal["snapshot"] = "snapshot"
    step: int
    text: str


class DoneEvent(_Event):
    """The end: `tail` is what an early exit filled without a step, behind an end of text."""

    event: Literal["done"] = "done"
    steps: int
    tail: list[Committed]


Event = CanvasEvent | StepEvent | SnapshotEvent | DoneEvent


def events_of(update: CanvasUpdate, *, has_end: bool) -> Iterator[Event]:
    """What an update of a stream tells; has_end: whether its end is an event too."""
    if update.canvas is not None:
        yield _canvas(update.canvas)
    if update.set is not None:
        yield _step(update.set)
    if update.snapshot is not None:
        yield SnapshotEvent(step=update.step, text=update.snapshot)
    if update.result is not None and has_end:
        yield DoneEvent(steps=update.steps, tail=_set(update.tail))


def told(trace: Trace) -> list[Event]:
    """A whole trace in order."""
    events: list[Event] = []
    for canvas in trace.canvases:
        events.append(_canvas(canvas))
        events += [_step(step) for attempt, step in trace.steps if attempt == canvas.attempt]
    return [*events, DoneEvent(steps=trace.canvases[-1].steps, tail=_set(trace.tail))]


def _canvas(canvas: CanvasMap) -> CanvasEvent:
    return CanvasEvent(
        length=canvas.length,
        fixed=_set(canvas.fixed),
        steps=canvas.steps,
        attempt=canvas.attempt,
    )


def _step(step: StepMap) -> StepEvent:
    return StepEvent(step=step.step, set=_set(step.set))


def _set(tokens: tuple[SetToken, ...]) -> list[Committed]:
    return [
        (*token[:4], list(token.data)) if token.data is not None else token[:4] for token in tokens
    ]
