"""From the updates of canvases to the chunks of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel

from deployments.access_log import RequestRecord
from deployments.chunks import Chunk
from deployments.conversion import Head, diffusion_of, usage_of
from deployments.events import events_of
from deployments.messages import CanvasRequest, CanvasResult, CanvasUpdate, Refusal
from deployments.requests import GenerationRequest
from deployments.shapes import End, Shape
from deployments.sse import DONE, comment, event, with_pauses

__all__ = ["ChunkStream"]

PAUSE_S = 10.0
"""After so long without data a comment keeps proxies from closing the connection."""

Wanted = TypeVar("Wanted", bound=GenerationRequest)
Given = TypeVar("Given", bound=BaseModel)


class ChunkStream(Generic[Wanted, Given]):
    """One stream: what its choices are, and what their canvases have done so far.

    record: is told what that has cost, so that who hangs up pays for it.
    """

    def __init__(
        self,
        shape: Shape[Wanted, Given],
        wanted: Wanted,
        messages: Sequence[CanvasRequest],
        head: Head,
        record: RequestRecord,
    ) -> None:
        self._shape = shape
        self._wanted = wanted
        self._messages = messages
        self._head = head
        self._record = record
        self._costs = [0] * len(messages)
        self._has_events = wanted.diffusion.stream != "text"
        self._choices: list[list[tuple[int, int]]] = []
        number = 0
        for message in messages:
            seeds = enumerate(message.seeds, start=number)
            self._choices.append(list(seeds))
            number += len(message.seeds)
        self._results: dict[int, CanvasResult] = {}
        self._latest = (0, 0)

    async def chunks(
        self,
        first: list[CanvasUpdate],
        updates: AsyncGenerator[Refusal | list[CanvasUpdate]],
        deadline: float,
    ) -> AsyncGenerator[bytes]:
        """Every event of the response; TimeoutError at `deadline`, by the event loop's clock."""
        yield comment("queued")
        for chunk in self._opening():
            yield event(chunk)
        for update in first:
            for chunk in self._of(update):
                yield event(chunk)
        clock = asyncio.get_running_loop().time
        sent_at = clock()
        async for batch in with_pauses(updates, PAUSE_S, deadline):
            assert not isinstance(batch, Refusal), "a refusal is the first item"
            for update in batch or ():
                for chunk in self._of(update):
                    sent_at = clock()
                    yield event(chunk)
            if clock() - sent_at >= PAUSE_S:
                step, steps = self._latest
                sent_at = clock()
                yield comment(f"step {step}/{steps}")
        results = [self._results[index] for index in range(len(self._messages))]
        usage = usage_of(results, self._shape.num_templates(self._wanted))
        self._record.count(usage)
        self._record.time(self._messages, results)
        options = self._wanted.stream_options
        if options is not None and options.include_usage:
            yield event(self._chunk([], usage=usage))
        yield DONE

    def _opening(self) -> Iterator[BaseModel]:
        if self._shape.has_opening:
            for choices in self._choices:
                for index, _ in choices:
                    yield self._chunk([self._shape.piece(index, "", None, True)])

    def _of(self, update: CanvasUpdate) -> Iterator[BaseModel]:
        """What is new, for every choice that the canvas answers."""
        self._latest = (update.step, update.steps)
        self._costs[update.index] = update.token_forwards
        self._record.token_forwards = sum(self._costs)
        self._record.has_text |= bool(update.text)
        message = self._messages[update.index]
        for index, seed in self._choices[update.index]:
            for told in events_of(update, has_end=self._has_events):
                yield self._chunk([self._shape.piece(index, "", None, False)], diffusion=told)
            if update.result is not None:
                self._results[update.index] = update.result
                if update.text:
                    yield self._chunk([self._shape.piece(index, update.text, None, False)])
                end = End(
                    result=update.result, diffusion=diffusion_of(message, update.result, seed)
                )
                yield self._chunk([self._shape.piece(index, "", end, False)])
            elif update.text:
                yield self._chunk([self._shape.piece(index, update.text, None, False)])

    def _chunk(self, choices: list[BaseModel], **more: object) -> Chunk:
        return self._shape.chunk(**self._head._asdict(), choices=choices, **more)  # type: ignore[call-arg]
