"""A test double for benchmarks alone: an engine without a network, whose every token is the same.

It runs in the real `DreamReplica` and `AsyncEngine`, so that HTTP, Serve and our own handling of
requests are what is measured with it. Its answers mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.replica import DreamReplica, ReplicaConfig
from dream import (
    Completion,
    Engine,
    EngineConfig,
    Fixed,
    Request,
    Span,
    StepEvent,
    Tokenizer,
    Usage,
)
from dream.model.modeling import DreamModel

__all__ = ["NullEngine", "NullReplica"]


@dataclass(slots=True)
class _Open:
    """A request that is under way, and the steps it has had."""

    request: Request
    steps: int
    done: int = 0


class NullEngine(Engine):
    """Commits an even share of the masks of every request at each step, from the left, at once."""

    def __init__(
        self, model: DreamModel, tokenizer: Tokenizer | None, config: EngineConfig
    ) -> None:
        super().__init__(model, tokenizer, config)
        assert tokenizer is not None
        (self._token,) = tokenizer.encode("x")
        self._open: dict[str, _Open] = {}
        self._completions: list[Completion] = []

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished."""
        return len(self._open) > 0

    @property
    def pending_token_forwards(self) -> int:
        """Of every request what its steps that are left would cost."""
        left = ((one.request.template, one.steps - one.done) for one in self._open.values())
        return sum(template.num_tokens * steps for template, steps in left)

    def add(self, request: Request, so_far: Sequence[StepEvent] = ()) -> None:
        """Take a request without any check, from its beginning."""
        masked = request.template.num_masked
        self._open[request.id] = _Open(request, min(request.params.steps or masked, masked))

    def abort(self, request_id: str) -> None:
        """Drop a request."""
        self._open.pop(request_id, None)

    def step(self) -> list[StepEvent]:
        """One step of every request."""
        return [self._step(one) for one in list(self._open.values())]

    def collect(self) -> list[Completion]:
        """Completions since the last call."""
        finished, self._completions = self._completions, []
        return finished

    def _step(self, one: _Open) -> StepEvent:
        masked = [at for hole in one.request.template.holes for at in range(hole.start, hole.end)]
        begin, end = (len(masked) * step // one.steps for step in (one.done, one.done + 1))
        number = end - begin
        event = StepEvent(
            request_id=one.request.id,
            step=one.done,
            positions=masked[begin:end],
            token_ids=[self._token] * number,
            confidences=[1.0] * number,
        )
        one.done += 1
        if one.done == one.steps:
            del self._open[one.request.id]
            self._completions.append(self._completion(one))
        return event

    def _completion(self, one: _Open) -> Completion:
        template = one.request.template
        spans = [
            Span(
                id=hole.id,
                start=hole.start,
                end=hole.end,
                token_ids=[self._token] * (hole.end - hole.start),
            )
            for hole in template.holes
        ]
        filled: list[int] = []
        for part in template.segments:
            masked = [] if isinstance(part, Fixed) else [self._token] * part.num_tokens
            filled += part.token_ids if isinstance(part, Fixed) else masked
        usage = Usage(
            prompt_tokens=template.num_tokens - template.num_masked,
            completion_tokens=template.num_masked,
            steps=one.steps,
            forward_passes=one.steps,
            token_forwards=one.steps * template.num_tokens,
        )
        return Completion(
            id=one.request.id, token_ids=filled, spans=spans, finish_reason="length", usage=usage
        )


class NullReplica(DreamReplica):
    """A replica whose engine is a `NullEngine` with the model's own tokenizer and limits."""

    def load(self, config: ReplicaConfig) -> Engine:
        """The double."""
        return NullEngine.from_pretrained(config.model, config.engine)
