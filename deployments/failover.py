"""What goes on when a replica is lost: another one takes over from the steps that were told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from deployments.errors import ApiError
from deployments.messages import CanvasRequest, CanvasResult, CanvasUpdate, Refusal, View
from dream import StepEvent
from dream.errors import EngineError

__all__ = ["Attempt", "Item", "ReplicaLost", "results_of", "unbroken", "wait_s"]

Item = Refusal | list[CanvasUpdate] | None
"""What a replica sends; None says that it lives, before it has taken or refused a call."""

Attempt = Callable[[Sequence[CanvasRequest], View | None], AsyncGenerator[Item]]
"""One call of `DreamReplica.stream` on any replica; ReplicaLost where that one is gone."""

MAX_FAILURES = 3
"""Engines that may die under one request: it may be the request that kills them."""


class ReplicaLost(Exception):
    """The replica of a call is dead, cannot be reached, says nothing, or has no engine any more."""


def wait_s(number: int) -> float:
    """Seconds to wait before attempt `number`, counted from 0."""
    return 0.0 if number == 0 else min(2.0, 0.05 * 2.0 ** min(number, 10))


async def results_of(items: AsyncIterator[Item]) -> list[CanvasResult] | Refusal:
    """The results of a stream in the order of its canvases, or its refusal."""
    results: dict[int, CanvasResult] = {}
    async for item in items:
        if isinstance(item, Refusal):
            return item
        for update in item or ():
            if update.result is not None:
                results[update.index] = update.result
    return [results[index] for index in sorted(results)]


async def unbroken(
    attempt: Attempt,
    messages: Sequence[CanvasRequest],
    view: View | None,
    *,
    wait_s: Callable[[int], float] = wait_s,
) -> AsyncGenerator[Refusal | list[CanvasUpdate]]:
    """What one replica would have sent, however many were lost on the way.

    It goes on until its caller closes it. Nothing that was sent is sent again or changed: ApiError
    `replica_lost` where a canvas had to begin again and took another course. EngineError once
    several engines have died under it.
    """
    canvases = [_Canvas(index, message) for index, message in enumerate(messages)]
    num_failures = 0
    for number in itertools.count():
        await asyncio.sleep(wait_s(number))
        unfinished = [canvas for canvas in canvases if not canvas.is_over]
        items = attempt([canvas.message_of(number) for canvas in unfinished], view)
        try:
            async with aclosing(items):
                async for item in items:
                    if item is None:
                        continue
                    if not isinstance(item, Refusal):
                        yield [unfinished[update.index].take(update, view) for update in item]
                    elif number == 0:
                        yield item
                        return
                    else:
                        raise _refused(item)
        except (ReplicaLost, EngineError, ApiError) as error:
            num_failures += isinstance(error, EngineError)
            if num_failures == MAX_FAILURES or not _may_go_on(error, number):
                raise
        if all(canvas.is_over for canvas in canvases):
            return


def _may_go_on(error: ReplicaLost | EngineError | ApiError, number: int) -> bool:
    """Whether another attempt follows: what was accepted once is not refused for lack of room."""
    if isinstance(error, ApiError):
        return number > 0 and error.code in ("overloaded", "model_loading")
    return True


def _refused(refusal: Refusal) -> ApiError:
    if refusal.code == "overloaded":
        return ApiError("overloaded", refusal.message, retry_after_s=refusal.retry_after_s)
    return ApiError("replica_lost", "No other replica takes what is left of it.", retry_after_s=1)


class _Canvas:
    """What is known of one canvas of a call, and what its caller has been sent."""

    def __init__(self, index: int, message: CanvasRequest) -> None:
        self.is_over = False
        self._index = index
        self._message = message
        self._events: list[StepEvent] = []
        self._num_taken = 0
        self._has_begun = False
        self._text = ""
        self._text_of_attempt = ""

    def message_of(self, number: int) -> CanvasRequest:
        """The canvas as attempt `number` is to run it, under an id that no other attempt has."""
        can_go_on = self._has_begun and not self._message.params.keeps_state
        self._num_taken = len(self._events) if can_go_on else 0
        self._text_of_attempt = self._text if can_go_on else ""
        return replace(
            self._message,
            id=f"{self._message.id}.{number}" if number else self._message.id,
            is_accepted=number > 0,
            so_far=tuple(self._events) if can_go_on else None,
        )

    def take(self, update: CanvasUpdate, view: View | None) -> CanvasUpdate:
        """The update without what the caller has been sent before."""
        begin, self._num_taken = self._num_taken, self._num_taken + len(update.events)
        is_repeated = self._has_begun and self._num_taken <= len(self._events)
        known = self._events[begin : self._num_taken]
        if view is not None and view.mode == "steps" and not all(map(_same, known, update.events)):
            raise _changed()
        self._events += update.events[len(known) :]
        self._has_begun = True
        self.is_over = update.result is not None
        if self.is_over:
            self._events.clear()
        told = replace(update, index=self._index, text=self._new_text(update.text), events=())
        if told.result is not None and self._message.due_at is not None:
            is_in_time = asyncio.get_running_loop().time() <= self._message.due_at
            told = replace(told, result=replace(told.result, is_in_time=is_in_time))
        return replace(told, canvas=None, set=None, snapshot=None) if is_repeated else told

    def _new_text(self, text: str) -> str:
        self._text_of_attempt += text
        if self._text.startswith(self._text_of_attempt):
            return ""
        if not self._text_of_attempt.startswith(self._text):
            raise _changed()
        new = self._text_of_attempt[len(self._text) :]
        self._text = self._text_of_attempt
        return new


def _same(one: StepEvent, other: StepEvent) -> bool:
    return (one.positions, one.token_ids) == (other.positions, other.token_ids)


def _changed() -> ApiError:
    message = "The replica was lost, and another one does not repeat what was sent."
    return ApiError("replica_lost", message, retry_after_s=1)
