"""What each route does: read the request, have a replica fill its canvases, write the response."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from uuid import uuid4

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from deployments.access_log import RequestRecord, record_of
from deployments.body import read_body
from deployments.chunk_stream import ChunkStream
from deployments.conversion import Head, usage_of
from deployments.errors import ApiError
from deployments.framework import unexpected
from deployments.messages import CanvasRequest, CanvasUpdate, ModelCard, Refusal
from deployments.model_card import IngressConfig, model_response, presets_for
from deployments.refusals import check_cost, check_special, from_refusal, refusing
from deployments.replica_client import Replicas
from deployments.requests import GenerationRequest
from deployments.responses import (
    ModelListResponse,
    ModelResponse,
)
from deployments.shapes import CHAT, COMPLETION, FIM, INFILL, Shape
from deployments.sse import event_stream
from deployments.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from dream.request import Priority

__all__ = ["Endpoints"]

LOG = logging.getLogger("dream.http")

Wanted = TypeVar("Wanted", bound=GenerationRequest)
Given = TypeVar("Given", bound=BaseModel)
Body = TypeVar("Body", bound=GenerationRequest | TokenizeRequest | DetokenizeRequest)
T = TypeVar("T")


class Endpoints:
    """One method for each route; clock and seeds come from outside."""

    def __init__(
        self,
        replicas: Replicas,
        config: IngressConfig,
        *,
        clock: Callable[[], float] = time.time,
        draw_seed: Callable[[], int] = lambda: secrets.randbits(63),
    ) -> None:
        self._replicas = replicas
        self._config = config
        self._clock = clock
        self._draw_seed = draw_seed
        self._started_at = int(clock())

    def reconfigure(self, config: IngressConfig) -> None:
        """Other limits and presets, for requests from now on."""
        self._config = config

    async def health(self) -> Response:
        """This process answers."""
        return JSONResponse({})

    async def ready(self) -> Response:
        """At least one warmed replica runs."""
        if not await self._replicas.is_ready():
            raise ApiError("model_loading", "No replica is ready.", retry_after_s=5)
        return JSONResponse({})

    async def models(self) -> Response:
        """The one model, as a list."""
        return _json(ModelListResponse(data=[await self._model_card()]))

    async def model(self, model_id: str) -> Response:
        """The one model by its id."""
        self._check_model(model_id)
        return _json(await self._model_card())

    async def completions(self, request: Request) -> Response:
        """Prompt, hole, and a suffix if there is one."""
        return await self._generate(request, COMPLETION)

    async def chat(self, request: Request) -> Response:
        """The answer to a chat."""
        return await self._generate(request, CHAT)

    async def fim(self, request: Request) -> Response:
        """A completion under the names that editors' plug-ins use."""
        return await self._generate(request, FIM)

    async def infill(self, request: Request) -> Response:
        """Fixed text and holes."""
        return await self._generate(request, INFILL)

    async def tokenize(self, request: Request) -> Response:
        """Token ids of a text or a chat."""
        wanted = await self._read(request, TokenizeRequest)
        ids = await self._in_time(self._replicas.tokenize(wanted.template))
        if isinstance(ids, Refusal):
            raise from_refusal(ids, wanted.param)
        card = await self._card()
        return _json(TokenizeResponse(tokens=ids, count=len(ids), max_model_len=card.max_model_len))

    async def detokenize(self, request: Request) -> Response:
        """Text of token ids."""
        wanted = await self._read(request, DetokenizeRequest)
        text = await self._in_time(self._replicas.detokenize(wanted.tokens))
        if isinstance(text, Refusal):
            raise from_refusal(text, "tokens")
        return _json(DetokenizeResponse(prompt=text))

    async def _generate(self, request: Request, shape: Shape[Wanted, Given]) -> Response:
        """Every canvas filled, as one response or as a stream."""
        arrived_at = asyncio.get_running_loop().time()
        wanted = await self._read(request, shape.request)
        deadline = asyncio.get_running_loop().time() + self._config.timeout_s
        card = await self._card()
        created = int(self._clock())
        head = Head(f"{shape.prefix}-{uuid4().hex}", created, wanted.model, card.fingerprint)
        presets = presets_for(card, self._config)
        with refusing(shape.param):
            plain = shape.messages(wanted, head.id, self._seed(wanted), presets)
        record = record_of(request)
        messages = _for_caller(plain, wanted, record, arrived_at)
        check_special(messages, card, shape.param)
        check_cost(messages, card, self._config.max_token_forwards)
        if wanted.stream:
            updates = self._replicas.stream(messages, wanted.diffusion.view)
            first = await self._first(updates, shape.param)
            stream = ChunkStream(shape, wanted, messages, head, record)
            chunks = stream.chunks(first, updates, deadline)
            return event_stream(chunks, self._on_failure(request))
        done = await self._in_time(self._replicas.generate(messages))
        if isinstance(done, Refusal):
            raise from_refusal(done, shape.param)
        record.count(usage_of(done, shape.num_templates(wanted)))
        record.time(messages, done)
        return _json(shape.answer(wanted, messages, done, head))

    async def _first(
        self, updates: AsyncGenerator[Refusal | list[CanvasUpdate]], param: str
    ) -> list[CanvasUpdate]:
        """What a stream begins with; what is refused has a status of its own."""
        first: Refusal | list[CanvasUpdate] | None = None
        try:
            first = await self._in_time(anext(updates))
        finally:
            if not isinstance(first, list):
                await updates.aclose()
        if isinstance(first, Refusal):
            raise from_refusal(first, param)
        return first

    def _on_failure(self, request: Request) -> Callable[[Exception], ApiError]:
        """From what ended a stream to what its caller is told."""

        def told(error: Exception) -> ApiError:
            if isinstance(error, TimeoutError):
                error = self._too_late()
            if isinstance(error, ApiError):
                record_of(request).error = error.code
                return error
            LOG.error("a stream failed", exc_info=error)
            return unexpected(request)

        return told

    async def _read(self, request: Request, model: type[Body]) -> Body:
        _refuse_proxy_headers(request)
        config = self._config
        wanted = await read_body(
            request, model, max_bytes=config.max_body_bytes, timeout_s=config.body_timeout_s
        )
        self._check_model(wanted.model)
        return wanted

    def _check_model(self, model_id: str) -> None:
        if model_id != self._config.model_id:
            raise ApiError(
                "model_not_found", "this model is not served: see /v1/models", param="model"
            )

    def _seed(self, wanted: GenerationRequest) -> int:
        return self._draw_seed() if wanted.seed is None else wanted.seed

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await work
        except TimeoutError:
            raise self._too_late() from None

    def _too_late(self) -> ApiError:
        return ApiError("timeout", f"There was no answer within {self._config.timeout_s:g} s.")

    async def _card(self) -> ModelCard:
        return await self._in_time(self._replicas.card())

    async def _model_card(self) -> ModelResponse:
        return model_response(await self._card(), self._config, self._started_at)


def _for_caller(
    plain: Sequence[CanvasRequest],
    wanted: GenerationRequest,
    record: RequestRecord,
    arrived_at: float,
) -> list[CanvasRequest]:
    """The canvases with whose they are, how urgent they are, and by when they are to be done."""
    deadline_ms = wanted.diffusion.deadline_ms
    due_at = None if deadline_ms is None else arrived_at + deadline_ms / 1000
    urgency = wanted.diffusion.priority or record.priority
    priority: Priority = "batch" if record.priority == "batch" else urgency
    key = record.key or ""
    return [replace(one, key=key, due_at=due_at, priority=priority) for one in plain]


_PROXY_HEADERS = ("x-request-disconnect-disabled", "x-request-timeout-seconds")
"""Serve's proxy obeys these; with the first, a caller that is gone would keep its canvases."""


def _refuse_proxy_headers(request: Request) -> None:
    for name in _PROXY_HEADERS:
        if name in request.headers:
            raise ApiError("invalid_value", f"The header {name} is not taken here.")


def _json(response: BaseModel) -> Response:
    return Response(response.model_dump_json(), media_type="application/json")
