"""What each route does: read the request, have a replica fill its canvases, write the response."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args
from uuid import uuid4

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from deployments.access_log import record_of
from deployments.body import read_body
from deployments.conversion import (
    completion_messages,
    completion_response,
    infill_messages,
    infill_response,
)
from deployments.errors import ApiError
from deployments.limits import LIMITS
from deployments.messages import CanvasRequest, CanvasResult
from deployments.refusals import from_refusal, refusing
from deployments.replica_client import Replicas
from deployments.requests import (
    CompletionRequest,
    GenerationRequest,
    InfillRequest,
)
from deployments.responses import (
    Capabilities,
    Defaults,
    ModelListResponse,
    ModelPreset,
    ModelResponse,
)
from dream.params import Order
from dream.presets import find_preset

__all__ = ["Endpoints", "IngressConfig"]

Wanted = TypeVar("Wanted", bound=GenerationRequest)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressConfig:
    """What the HTTP layer is told once; times in seconds.

    preset: whose values requests take for what they leave out. None: only shown, if recognised.
    has_docs: whether the specification and its page are served.
    """

    model_id: str
    max_body_bytes: int
    body_timeout_s: float
    timeout_s: float
    max_token_forwards: int
    preset: str | None = None
    has_docs: bool = False


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
        wanted = await self._read(request, CompletionRequest)
        response_id, created = f"cmpl-{uuid4().hex}", int(self._clock())
        with refusing("prompt"):
            messages = completion_messages(
                wanted, response_id=response_id, seed=self._seed(wanted), preset=self._config.preset
            )
        results = await self._generate(messages, template_param="prompt")
        response = completion_response(
            wanted, messages, results, response_id=response_id, created=created
        )
        record_of(request).count(response.usage)
        return _json(response)

    async def infill(self, request: Request) -> Response:
        """Fixed text and holes."""
        wanted = await self._read(request, InfillRequest)
        response_id, created = f"infill-{uuid4().hex}", int(self._clock())
        with refusing("segments"):
            messages = infill_messages(
                wanted, response_id=response_id, seed=self._seed(wanted), preset=self._config.preset
            )
        results = await self._generate(messages, template_param="segments")
        response = infill_response(
            wanted, messages, results, response_id=response_id, created=created
        )
        record_of(request).count(response.usage)
        return _json(response)

    async def _read(self, request: Request, model: type[Wanted]) -> Wanted:
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

    async def _generate(
        self, messages: Sequence[CanvasRequest], *, template_param: str
    ) -> list[CanvasResult]:
        done = await self._in_time(self._replicas.generate(messages))
        if isinstance(done, list):
            return done
        raise from_refusal(done, template_param)

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await work
        except TimeoutError:
            message = f"There was no answer within {self._config.timeout_s:g} s."
            raise ApiError("timeout", message) from None

    async def _model_card(self) -> ModelResponse:
        config = self._config
        card = await self._in_time(self._replicas.card())
        return ModelResponse(
            id=config.model_id,
            created=self._started_at,
            max_model_len=card.max_model_len,
            preset=_shown_preset(config.preset, card.preset),
            capabilities=Capabilities(orders=list(get_args(Order))),
            defaults=Defaults.of(find_preset(config.preset)),
            limits={
                **LIMITS,
                "hole_tokens": min(LIMITS["hole_tokens"], card.max_model_len),
                "body_bytes": config.max_body_bytes,
                "timeout_s": config.timeout_s,
                "token_forwards": config.max_token_forwards,
            },
        )


def _shown_preset(default: str | None, recognised: str | None) -> ModelPreset | None:
    preset = find_preset(default or recognised)
    if preset is None:
        return None
    values = {name: getattr(preset, name) for name in ("name", "about", "source", "note")}
    return ModelPreset(**values, sampling=dict(preset.sampling), is_default=default is not None)


_PROXY_HEADERS = ("x-request-disconnect-disabled", "x-request-timeout-seconds")
"""Serve's proxy obeys these; with the first, a caller that is gone would keep its canvases."""


def _refuse_proxy_headers(request: Request) -> None:
    for name in _PROXY_HEADERS:
        if name in request.headers:
            raise ApiError("invalid_value", f"The header {name} is not taken here.")


def _json(response: BaseModel) -> Response:
    return Response(response.model_dump_json(), media_type="application/json")
