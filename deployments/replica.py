"""DreamReplica: one engine in one Serve actor. Canvases with holes in, filled ones out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass

from ray.actor import ActorHandle

from cluster.shards import start_engine
from deployments.admission import Admission
from deployments.autoscaling import METRIC, PACE
from deployments.callers import Callers
from deployments.canvas_stream import EVENTS_S, CanvasStream
from deployments.coalescing import coalesced
from deployments.engine_metrics import CanvasTally, EngineMetrics
from deployments.facts import card_of
from deployments.failover import Item, ReplicaLost, results_of
from deployments.letters import Letters
from deployments.live import applied
from deployments.messages import (
    CanvasRequest,
    CanvasResult,
    CanvasUpdate,
    ModelCard,
    Refusal,
    View,
)
from deployments.metric_sinks import sink_here
from dream import AsyncEngine, Completion, EngineConfig, Request
from dream.engine.facts import read_facts
from dream.engine.step_engine import StepEngine
from dream.errors import CheckpointError, EngineError
from dream.text import TextTemplate

__all__ = ["DreamReplica", "ReplicaConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """Which model runs how; `max_token_forwards` bounds one call.

    timeout_s: how long callers wait, so that no more seconds of work are queued. max_step_s: age of
    a running step at which the replica counts as stalled.
    """

    model: str
    engine: EngineConfig
    max_token_forwards: int
    timeout_s: float = 600.0
    max_step_s: float = 120.0


COALESCE_S = 0.02
"""A stream sends what happens within so much time together, except what comes first and last."""

HEARTBEAT_S = 1.0
"""After so long without news an empty item says that the replica lives."""


class DreamReplica:
    """Fills canvases; calls that run at the same time share the engine's batches.

    The constructor runs one request, so a running replica is a warmed one.
    """

    def __init__(self, config: ReplicaConfig) -> None:
        facts = read_facts(config.model, config.engine)
        if facts.tokenizer is None:
            raise CheckpointError(f"{config.model}: serving text needs the tokenizer files")
        began_at = time.monotonic()
        engine = self.load(config)
        load_s = time.monotonic() - began_at
        self._tokenizer = facts.tokenizer
        self._end_ids = facts.eos_token_ids
        self._card = card_of(facts, config.engine, config.model)
        self._start = self._config = config
        self._engine = AsyncEngine(engine)
        self._admission = Admission(facts, self._engine)
        self._tally = CanvasTally()
        self._metrics = EngineMetrics(
            self._engine,
            self._tally,
            sink_here(),
            device=config.engine.device,
            max_num_batched_tokens=config.engine.max_num_batched_tokens,
            load_s=load_s,
        )
        self._metrics.start()
        self._callers = Callers()

    def load(self, config: ReplicaConfig) -> StepEngine:
        """The engine, warmed: in this process, or in one for each part of the weights."""
        return start_engine(config.model, config.engine, config.max_step_s)

    async def stream(
        self,
        messages: Sequence[CanvasRequest],
        view: View | None,
        caller: ActorHandle[object] | None = None,
    ) -> AsyncGenerator[Item]:
        """A refusal, or updates until all canvases are filled; closing it aborts all of them.

        Where there is a view, a first item comes at once. An empty item comes while nothing else
        does, and None before the call is taken, so that silence says that this replica is lost.
        caller: the actor that calls; its canvases end with it.
        """
        admission = asyncio.create_task(self._admit(messages, view))
        try:
            while not (await asyncio.wait({admission}, timeout=HEARTBEAT_S))[0]:
                yield None
        finally:
            admission.cancel()
        streams = admission.result()
        if isinstance(streams, Refusal):
            yield streams
            return
        first = [update for stream in streams if (update := stream.start()) is not None]
        if view is not None:
            yield first
        interval_s = EVENTS_S if view is None else COALESCE_S
        updates = self._updates(streams, messages, caller)
        batches = coalesced(updates, interval_s, heartbeat_s=HEARTBEAT_S)
        async with aclosing(updates), aclosing(batches):
            async for batch in batches:
                yield batch

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        """The results of a stream alone, in order; cancelling the call aborts all canvases."""
        return await results_of(self.stream(messages, None))

    async def tokenize(self, template: TextTemplate) -> list[int] | Refusal:
        """Token ids of a template without holes."""
        return await self._admission.tokenize(template)

    def detokenize(self, token_ids: Sequence[int]) -> str | Refusal:
        """Text of token ids, special tokens by their names."""
        return self._admission.detokenize(token_ids)

    async def card(self) -> ModelCard:
        """What the model card shows; the digest of large weights takes a while, once."""
        return await asyncio.to_thread(self._card)

    def stats(self) -> dict[str, float]:
        """The engine's counters, and how much work is queued."""
        return {
            **{name: float(value) for name, value in asdict(self._engine.stats).items()},
            "requests": float(self._engine.num_requests),
            **self.record_autoscaling_stats(),
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve hands to `BacklogPolicy`: the work, and the pace once there is one."""
        pace = self._engine.pace.token_forwards_per_s
        return {**self.record_routing_stats(), **({} if pace is None else {PACE: pace})}

    def record_routing_stats(self) -> dict[str, float]:
        """What Serve hands to the `LeastWorkRouter` of every caller."""
        return {METRIC: float(self._engine.queued_token_forwards)}

    def reconfigure(self, user_config: object) -> None:
        """Changed limits, from now on; what is not valid is logged and changes nothing."""
        self._config = applied(self._start, self._config, user_config)

    def check_health(self) -> None:
        """Raises when the engine is dead, stalled or has a silent rank: Serve replaces this actor.

        Every call in flight then fails at once, since Serve waits for their end.
        """
        age_s = self._engine.step_age_s
        if age_s > self._config.max_step_s:
            self._engine.abandon(f"its step takes {age_s:.0f} s already")
        try:
            self._engine.check_health()
        except EngineError as error:
            self._engine.abandon(str(error))
            raise

    def close(self) -> None:
        """Ends the engine's thread; whoever still waits gets an EngineError."""
        self._metrics.close()
        self._admission.close()
        self._engine.shutdown()

    async def _admit(
        self, messages: Sequence[CanvasRequest], view: View | None
    ) -> list[CanvasStream] | Refusal:
        """The canvases, checked and in tokens; nothing runs yet. ReplicaLost: the engine is dead.

        Serve takes a while to see that; the call is not what has killed it.
        """
        try:
            self._engine.check_health()
        except EngineError as error:
            raise ReplicaLost(str(error)) from error
        config = self._config
        requests = await self._admission.admit(
            messages, max_token_forwards=config.max_token_forwards, max_queue_s=config.timeout_s
        )
        if isinstance(requests, Refusal):
            return requests
        return [
            CanvasStream(index, message, request, self._letters(request), view)
            for index, (message, request) in enumerate(zip(messages, requests, strict=True))
        ]

    def _letters(self, request: Request) -> Letters:
        return Letters(
            decode=self._tokenizer.decode,
            token_bytes=self._tokenizer.token_bytes,
            end_ids=self._end_ids | frozenset(request.stop_ids),
        )

    async def _updates(
        self,
        streams: Sequence[CanvasStream],
        messages: Sequence[CanvasRequest],
        caller: ActorHandle[object] | None,
    ) -> AsyncGenerator[CanvasUpdate]:
        """News of all canvases as they come; the first failure aborts the rest and is raised."""
        news: asyncio.Queue[CanvasUpdate | asyncio.Task[None]] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._run(stream, message, news))
            for stream, message in zip(streams, messages, strict=True)
        ]
        for task in tasks:
            task.add_done_callback(news.put_nowait)
        num_open = len(tasks)

        def end() -> None:
            for task in tasks:
                task.cancel()

        try:
            requests = [stream.request for stream in streams]
            with self._callers.watching(caller, end), self._admission.loads.counting(requests):
                while num_open:
                    update = await news.get()
                    if isinstance(update, CanvasUpdate):
                        yield update
                    else:
                        update.result()
                        num_open -= 1
        finally:
            end()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self,
        stream: CanvasStream,
        message: CanvasRequest,
        news: asyncio.Queue[CanvasUpdate | asyncio.Task[None]],
    ) -> None:
        """One canvas from its first step to its result; a cancellation aborts it."""
        closes = None
        if message.stop and message.params.grow_to is None:
            closes = stream.watch().is_stopped_by
        so_far = message.so_far or ()
        items = self._engine.generate(stream.request, closes, so_far)
        with self._tally.canvas() as canvas:
            async with aclosing(items):
                async for item in items:
                    canvas.step()
                    if isinstance(item, Completion):
                        news.put_nowait(stream.finish(item))
                    elif (update := stream.update(item)) is not None:
                        news.put_nowait(update)
