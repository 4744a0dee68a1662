"""DreamReplica: one engine in one Serve actor. Canvases with holes in, filled ones out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deployments.autoscaling import METRIC
from deployments.conversion import to_request, to_result
from deployments.encoding import Encoder, EncoderBusy
from deployments.messages import CanvasRequest, CanvasResult, ModelCard, Refusal
from dream import (
    AsyncEngine,
    Completion,
    EngineConfig,
    Request,
)
from dream.engine.async_engine import warm_engine
from dream.errors import CheckpointError, ContextLengthExceeded, InvalidRequest
from dream.growth import most_token_forwards

__all__ = ["DreamReplica", "ReplicaConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """Which model runs how; `max_token_forwards` bounds one call of `generate`."""

    model: str
    engine: EngineConfig
    max_token_forwards: int


class DreamReplica:
    """Fills canvases; calls that run at the same time share the engine's batches.

    The constructor runs one request, so a running replica is a warmed one.
    """

    def __init__(self, config: ReplicaConfig) -> None:
        engine = warm_engine(config.model, config.engine)
        if engine.tokenizer is None:
            raise CheckpointError(f"{config.model}: serving text needs the tokenizer files")
        self._tokenizer = engine.tokenizer
        preset = None if engine.preset is None else engine.preset.name
        self._card = ModelCard(max_model_len=engine.max_model_len, preset=preset)
        self._max_token_forwards = config.max_token_forwards
        self._encoder = Encoder(engine.tokenizer, engine.max_model_len)
        self._engine = AsyncEngine(engine)

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        """Every canvas filled, in order; cancelling the call aborts all of them."""
        self._engine.check_health()
        try:
            templates = await self._encoder.encode([message.template for message in messages])
            requests = [to_request(*pair) for pair in zip(messages, templates, strict=True)]
            self._check(requests)
            if (refusal := self._over_budget(requests)) is not None:
                return refusal
            completions = await self._run_all(requests)
        except InvalidRequest as invalid:
            return _refusal(invalid)
        except EncoderBusy:
            message = "Too much text is waiting to be tokenised."
            return Refusal(code="overloaded", message=message, retry_after_s=1)
        pairs = zip(messages, completions, strict=True)
        return [to_result(message, done, self._tokenizer.decode) for message, done in pairs]

    def card(self) -> ModelCard:
        """What the model card shows."""
        return self._card

    def stats(self) -> dict[str, float]:
        """The engine's counters, and how much work is queued."""
        return {
            **{name: float(value) for name, value in asdict(self._engine.stats).items()},
            "requests": float(self._engine.num_requests),
            **self.record_autoscaling_stats(),
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve hands to `BacklogPolicy`."""
        return {METRIC: float(self._engine.queued_token_forwards)}

    def check_health(self) -> None:
        """Raises when the engine's thread is dead: Serve then replaces this actor."""
        self._engine.check_health()

    def close(self) -> None:
        """Ends the engine's thread; whoever still waits gets an EngineError."""
        self._encoder.close()
        self._engine.shutdown()

    def _check(self, requests: Sequence[Request]) -> None:
        """InvalidRequest for the first request that could not run to its end."""
        for request in requests:
            self._engine.check(request)

    def _over_budget(self, requests: Sequence[Request]) -> Refusal | None:
        cost = sum(most_token_forwards(request) for request in requests)
        if cost <= self._max_token_forwards:
            return None
        return Refusal(
            code="compute_budget_exceeded",
            message=f"This asks for {cost} token-forwards (canvas tokens x steps x choices); "
            f"at most {self._max_token_forwards} are allowed.",
        )

    async def _run_all(self, requests: Sequence[Request]) -> list[Completion]:
        """All of them or none: the first failure aborts the rest and is the one raised."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._run(request)) for request in requests]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _run(self, request: Request) -> Completion:
        """Nothing is awaited between items, so a cancellation always lands in `generate`."""
        completion: Completion | None = None
        async for item in self._engine.generate(request):
            if isinstance(item, Completion):
                completion = item
        assert completion is not None, "generate ends with a completion"
        return completion


def _refusal(invalid: InvalidRequest) -> Refusal:
    too_long = isinstance(invalid, ContextLengthExceeded)
    return Refusal(
        code="context_length_exceeded" if too_long else "invalid_value",
        field=invalid.field,
        message=invalid.allowed,
    )
