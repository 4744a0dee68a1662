"""The replicas as an ingress sees them: fill canvases, ask for the card, ask whether any is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from ray import serve
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from deployments.errors import ApiError
from deployments.messages import (
    CanvasRequest,
    CanvasResult,
    CanvasUpdate,
    ModelCard,
    Refusal,
    View,
)
from dream.text import TextTemplate

if TYPE_CHECKING:
    from deployments.replica import DreamReplica

__all__ = ["Replicas", "ServeReplicas"]

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
        self._app_name = app_name
        self._clock = clock
        self._is_ready = False
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._card: ModelCard | None = None

    async def generate(self, messages: Sequence[CanvasRequest]) -> list[CanvasResult] | Refusal:
        """One call for all canvases, so that it is admitted, refused or cancelled as a whole."""
        await self._require_ready()
        response = self._handle.generate.remote(messages)
        done: list[CanvasResult] | Refusal = await _result(response)
        return done

    async def stream(
        self, messages: Sequence[CanvasRequest], view: View
    ) -> AsyncGenerator[Refusal | list[CanvasUpdate]]:
        """The same as it comes; closing the iterator cancels it on the replica."""
        await self._require_ready()
        response = self._handle.options(stream=True).stream.remote(messages, view)
        assert isinstance(response, DeploymentResponseGenerator)
        is_over = False
        try:
            with _as_api_errors():
                async for item in response:
                    yield item
            is_over = True
        finally:
            if not is_over:
                response.cancel()  # type: ignore[no-untyped-call]  # Serve leaves it without types

    async def tokenize(self, template: TextTemplate) -> list[int] | Refusal:
        """By any replica."""
        await self._require_ready()
        ids: list[int] | Refusal = await _result(self._handle.tokenize.remote(template))
        return ids

    async def detokenize(self, token_ids: Sequence[int]) -> str | Refusal:
        """By any replica."""
        await self._require_ready()
        text: str | Refusal = await _result(self._handle.detokenize.remote(token_ids))
        return text

    async def card(self) -> ModelCard:
        """The card of any replica, asked for once."""
        if self._card is None:
            await self._require_ready()
            card: ModelCard = await _result(self._handle.card.remote())
            self._card = card
        return self._card

    async def is_ready(self) -> bool:
        """Whether Serve counts a replica as running, or none as enough while nobody asks.

        It is not asked more than once a second.
        Serve and not a replica answers, because a call would wait behind the work of a full one.
        """
        async with self._asking:
            now = self._clock()
            if self._asked_at is None or now - self._asked_at >= READY_FOR_S:
                self._is_ready = await asyncio.to_thread(self._can_serve)
                self._asked_at = now
            return self._is_ready

    async def _require_ready(self) -> None:
        """Refuses while, as far as is known, no replica is up: a retry finds the next one."""
        if not self._is_ready and not await self.is_ready():
            raise ApiError("model_loading", "The model is still loading.", retry_after_s=5)

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


async def _result(response: DeploymentResponse[T] | DeploymentResponseGenerator[T]) -> T:
    """The response, cancelled on the replica too when its caller is cancelled here."""
    assert isinstance(response, DeploymentResponse)
    try:
        with _as_api_errors():
            return await response
    except asyncio.CancelledError:
        response.cancel()  # type: ignore[no-untyped-call]  # Serve leaves it without types
        raise


@contextmanager
def _as_api_errors() -> Iterator[None]:
    try:
        yield
    except BackPressureError:
        raise ApiError("overloaded", "Too many requests are waiting.", retry_after_s=1) from None
    except DeploymentUnavailableError:
        raise ApiError("model_loading", "The model cannot be reached.", retry_after_s=5) from None
