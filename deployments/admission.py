"""Before anything runs: text in tokens, requests checked, within budgets, and with time enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deployments.conversion import to_request
from deployments.encoding import Encoder, EncoderBusy
from deployments.messages import CanvasRequest, Refusal, RefusalCode
from dream import AsyncEngine, Fixed, Request, Template
from dream.engine.facts import ModelFacts
from dream.errors import ContextLengthExceeded, DeadlineInfeasible, InvalidRequest
from dream.growth import most_token_forwards
from dream.text import TextTemplate

__all__ = ["Admission", "KeyLoads"]


class KeyLoads:
    """Token-forwards of the calls under way, by key."""

    def __init__(self) -> None:
        self._loads: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def counting(self, requests: Sequence[Request]) -> Iterator[None]:
        """These are under way meanwhile."""
        costs = [(request.key, most_token_forwards(request)) for request in requests]
        for key, cost in costs:
            self._loads[key] += cost
        try:
            yield
        finally:
            for key, cost in costs:
                self._loads[key] -= cost
                if not self._loads[key]:
                    del self._loads[key]

    def excess(self, key: str, cost: int, most: float) -> float:
        """How much too much `cost` more of a key would be; 0 while all, or its own part, has room.

        Keys have equal parts of `most`, so that one that queues much keeps no other out.
        """
        total = sum(self._loads.values()) + cost - most
        own = self._loads.get(key, 0) + cost - most / len({*self._loads, key})
        return max(0.0, min(total, own))


class Admission:
    """Takes calls of one replica, or says in a Refusal why not.

    loads: of the calls that were taken and run.
    """

    def __init__(self, facts: ModelFacts, engine: AsyncEngine) -> None:
        assert facts.tokenizer is not None
        self.loads = KeyLoads()
        self._tokenizer = facts.tokenizer
        self._vocab_size = facts.vocab_size
        self._encoder = Encoder(facts.tokenizer, facts.max_model_len)
        self._engine = engine

    async def admit(
        self, messages: Sequence[CanvasRequest], *, max_token_forwards: int, max_queue_s: float
    ) -> list[Request] | Refusal:
        """The canvases as requests; nothing runs yet.

        max_token_forwards: of one call. max_queue_s: of work that may wait.
        """
        now = self._engine.clock()
        try:
            templates = await self._encoder.encode([message.canvas for message in messages])
            requests = [
                self._request(message, template, now)
                for message, template in zip(messages, templates, strict=True)
            ]
            cost = sum(most_token_forwards(request) for request in requests)
            if cost > max_token_forwards:
                return _too_dear(cost, max_token_forwards)
            is_accepted = any(message.is_accepted for message in messages)
            refusal = None if is_accepted else self._queue_full(requests, cost, max_queue_s)
            return refusal or self._in_time(messages, requests)
        except (InvalidRequest, EncoderBusy) as error:
            return _refusal(error)

    async def tokenize(self, template: TextTemplate) -> list[int] | Refusal:
        """Token ids of a template without holes."""
        if not template.pieces:
            return []
        try:
            (encoded,) = await self._encoder.encode([template])
        except (InvalidRequest, EncoderBusy) as error:
            return _refusal(error)
        return [t for part in encoded.segments if isinstance(part, Fixed) for t in part.token_ids]

    def detokenize(self, token_ids: Sequence[int]) -> str | Refusal:
        """Text of token ids, special tokens by their names."""
        if token_ids and max(token_ids) >= self._vocab_size:
            allowed = f"ids below {self._vocab_size}"
            return _refusal(InvalidRequest("tokens", max(token_ids), allowed))
        return b"".join(map(self._tokenizer.token_bytes, token_ids)).decode("utf-8", "replace")

    def close(self) -> None:
        """End the tokeniser's thread."""
        self._encoder.close()

    def _request(self, message: CanvasRequest, template: Template, now: float) -> Request:
        stop_ids = [self._tokenizer.token_id(name) for name in message.stop_tokens]
        request = to_request(message, template, stop_ids, now)
        self._engine.check(request)
        return request

    def _queue_full(
        self, requests: Sequence[Request], cost: int, max_queue_s: float
    ) -> Refusal | None:
        """Work that would wait for longer than anybody waits is refused at once."""
        pace = self._engine.pace.token_forwards_per_s
        if pace is None or not self._engine.num_requests:
            return None
        excess = self.loads.excess(requests[0].key, cost, pace * max_queue_s)
        if not excess:
            return None
        return Refusal(
            code="overloaded",
            message="Too much work is waiting.",
            retry_after_s=max(1.0, min(60.0, excess / pace)),
        )

    def _in_time(
        self, messages: Sequence[CanvasRequest], requests: Sequence[Request]
    ) -> list[Request]:
        """The requests with the steps that there is time for; what has begun keeps its own."""
        new = [r for m, r in zip(messages, requests, strict=True) if not m.so_far]
        is_accepted = any(message.is_accepted for message in messages)
        fitted = {r.id: r for r in self._engine.fit(new, may_refuse=not is_accepted)}
        return [fitted.get(request.id, request) for request in requests]


def _too_dear(cost: int, most: int) -> Refusal:
    return Refusal(
        code="compute_budget_exceeded",
        message=f"This asks for {cost} token-forwards (canvas tokens x steps x choices); "
        f"at most {most} are allowed.",
    )


def _refusal(error: InvalidRequest | EncoderBusy) -> Refusal:
    if isinstance(error, EncoderBusy):
        message = "Too much text is waiting to be tokenised."
        return Refusal(code="overloaded", message=message, retry_after_s=1)
    codes: dict[type[InvalidRequest], RefusalCode] = {
        ContextLengthExceeded: "context_length_exceeded",
        DeadlineInfeasible: "deadline_infeasible",
    }
    return Refusal(
        code=codes.get(type(error), "invalid_value"),
        field=error.field,
        message=error.allowed,
    )
