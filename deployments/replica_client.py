"""The replicas as an ingress sees them: fill canvases, ask for the card, ask whether any is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from deployments import ledger
from deployments.errors import ApiError
from deployments.failover import Item, ReplicaLost, results_of, unbroken, wait_s
from deployments.messages import (
    CanvasRequest,
    CanvasResult,
    CanvasUpdate,
    ModelCard,
    Refusal,
    View,
)
from deployments.probes import any_answers, replica_actors
from deployments.replica_calls import answer_of, items_of
from dream.text import TextTemplate

if TYPE_CHECKING:
    from deployments.replica import DreamReplica

__all__ = ["Replicas", "ServeReplicas"]

AVOID_S = 15.0
"""How long others come before a replica that says nothing."""

PROBE_S = 2.0
"""A replica is not ready where it takes longer to say that it is."""

READY_FOR_S = 1.0
"""How long an answer about readiness is reused: probes are free, the controller is not."""

RUNNING = ("RUNNING", "UPDATING")
"""States of a replica that serves: it goes on while its `user_config` changes."""

SETTLED = ("HEALTHY", "UPSCALING", "DOWNSCALING")
"""States of a deployment that was up: without a replica, none was wanted, or one is being woken."""

T = TypeVar("T")


class Replicas(Protocol):
    """What the HTTP layer needs behind it."""

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        """Every canvas filled, or why not."""

    def stream(
        self, messages: Sequence[CanvasRequest], view: View
    ) -> AsyncGenerator[Refusal | list[CanvasUpdate]]:
        """A refusal, or at once a first item and then all news."""

    async def tokenize(self, template: TextTemplate) -> list[int] | Refusal:
        """Token ids of a template without holes."""

    async def detokenize(self, token_ids: Sequence[int]) -> str | Refusal:
        """Text of token ids."""

    async def card(self) -> ModelCard:
        """What the model card shows."""

    async def is_ready(self) -> bool:
        """Whether a request is served: a warmed replica runs, or starts as soon as one comes."""


class ServeReplicas:
    """A deployment of DreamReplica behind its handle; Serve's failures become `ApiError`s."""

    def __init__(
        self, handle: DeploymentHandle[DreamReplica], *, app_name: str, clock: Callable[[], float]
    ) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)
        self._app_name = app_name
        self._clock = clock
        self._is_ready = False
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._card: ModelCard | None = None

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        """All canvases together, so that they are admitted, refused or cancelled as a whole."""
        async with aclosing(self._unbroken(messages, None)) as items:
            return await results_of(items)

    async def stream(
        self, messages: Sequence[CanvasRequest], view: View
    ) -> AsyncGenerator[Refusal | list[CanvasUpdate]]:
        """The same as it comes; closing the iterator cancels it on the replica."""
        async with aclosing(self._unbroken(messages, view)) as items:
            async for item in items:
                yield item

    async def tokenize(self, template: TextTemplate) -> list[int] | Refusal:
        """By any replica."""
        return await self._answer(lambda: self._handle.tokenize.remote(template))

    async def detokenize(self, token_ids: Sequence[int]) -> str | Refusal:
        """By any replica."""
        return await self._answer(lambda: self._handle.detokenize.remote(token_ids))

    async def card(self) -> ModelCard:
        """The card of any replica, asked for once."""
        if self._card is None:
            card = await self._answer(lambda: self._handle.card.remote(), is_quick=False)
            self._card = card
        return self._card

    async def _unbroken(
        self, messages: Sequence[CanvasRequest], view: View | None
    ) -> AsyncGenerator[Refusal | list[CanvasUpdate]]:
        await self._require_ready()
        async with aclosing(unbroken(self._attempt, messages, view)) as items:
            async for item in items:
                yield item

    async def _attempt(
        self, messages: Sequence[CanvasRequest], view: View | None
    ) -> AsyncGenerator[Item]:
        """One call of one replica; it goes on while a caller of this process waits for it."""
        sent = [message.sent(self._clock()) for message in messages]
        response = self._streaming.stream.remote(sent, view, _own_handle())
        assert isinstance(response, DeploymentResponseGenerator)
        is_silent = partial(_is_silent, messages[0].id)
        async with aclosing(items_of(response, is_silent)) as items:
            async for item in items:
                yield item

    async def _answer(
        self,
        send: Callable[[], DeploymentResponse[T] | DeploymentResponseGenerator[T]],
        *,
        is_quick: bool = True,
    ) -> T:
        """The answer of any replica; of another one where that is lost, or quick and silent."""
        await self._require_ready()
        for number in count():
            await asyncio.sleep(wait_s(number))
            response = send()
            assert isinstance(response, DeploymentResponse)
            try:
                return await answer_of(response, lambda: is_quick)
            except ReplicaLost:
                continue
        raise AssertionError("attempts have no end")

    async def is_ready(self) -> bool:
        """Whether a replica runs and answers, or none is needed while nobody asks.

        Nobody is asked more than once a second, and no replica by a call, which would wait behind
        the work of a full one.
        """
        async with self._asking:
            now = self._clock()
            if self._asked_at is None or now - self._asked_at >= READY_FOR_S:
                try:
                    async with asyncio.timeout(2 * PROBE_S):
                        is_up = await asyncio.to_thread(self._can_serve)
                        self._is_ready = is_up and await self._answers()
                except TimeoutError:
                    self._is_ready = False
                self._asked_at = self._clock()
            return self._is_ready

    async def _require_ready(self) -> None:
        """Refuses while, as far as is known, no replica is up: a retry finds the next one."""
        if not self._is_ready and not await self.is_ready():
            raise ApiError("model_loading", "The model is still loading.", retry_after_s=5)

    async def _answers(self) -> bool:
        names = self._app_name, self._handle.deployment_name
        actors = await asyncio.to_thread(replica_actors, *names)
        return not actors or await any_answers(actors, PROBE_S)

    def _can_serve(self) -> bool:
        application = serve.status().applications.get(self._app_name)
        if application is None:
            return False
        deployment = application.deployments.get(self._handle.deployment_name)
        if deployment is None:
            return False
        if any(n > 0 for state, n in deployment.replica_states.items() if state in RUNNING):
            return True
        return deployment.status in SETTLED


def _is_silent(message_id: str) -> bool:
    """Whether a replica has a call and says nothing; others then come before it for a while."""
    replica_id = ledger.replica_of(message_id)
    if replica_id is None:
        return False
    ledger.avoid(replica_id, AVOID_S)
    return True


def _own_handle() -> ActorHandle[object] | None:
    """The actor that runs this, so that a replica can see whether it lives."""
    context = ray.get_runtime_context()
    return context.current_actor if context.get_actor_id() else None
