"""Every route, declared once: the app registers it and the specification describes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import Response
from pydantic import BaseModel

from deployments.chat import ChatRequest, ChatResponse
from deployments.chunks import ChatChunk, CompletionChunk, InfillChunk
from deployments.endpoints import Endpoints
from deployments.errors import Code
from deployments.requests import CompletionRequest, FimRequest, InfillRequest
from deployments.responses import (
    CompletionResponse,
    EmptyResponse,
    InfillResponse,
    ModelListResponse,
    ModelResponse,
)
from deployments.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)

__all__ = ["ROUTES", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path and what it takes and gives; a GET takes HEAD too.

    handler: a method of Endpoints, or a function of one. request: the model of its body.
    media_type: of its response, with `response` as the model of a JSON one. chunk: the model of a
    server-sent event, where it may answer with these too. errors: what can go wrong besides
    `internal_error`.
    is_open: whether it is answered without a key. also: other spellings of the path.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Callable[..., Awaitable[Response]]
    summary: str
    response: type[BaseModel] | None = None
    request: type[BaseModel] | None = None
    media_type: str = "application/json"
    chunk: type[BaseModel] | None = None
    errors: tuple[Code, ...] = ()
    is_open: bool = False
    also: tuple[str, ...] = ()


CARD: tuple[Code, ...] = ("model_loading", "overloaded", "timeout")
BODY: tuple[Code, ...] = (
    "invalid_json",
    "invalid_value",
    "missing_required_parameter",
    "model_not_found",
    "request_timeout",
    "request_too_large",
    "unknown_parameter",
    "unsupported_media_type",
    "unsupported_parameter",
)
CANVASES: tuple[Code, ...] = (
    "compute_budget_exceeded",
    "context_length_exceeded",
    "deadline_infeasible",
)
GENERATION: tuple[Code, ...] = (*BODY, *CANVASES, *CARD, "replica_lost")

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/health",
        handler=Endpoints.health,
        summary="Answers while the ingress process does",
        response=EmptyResponse,
        is_open=True,
    ),
    Route(
        method="GET",
        path="/ready",
        handler=Endpoints.ready,
        summary="Answers while at least one replica runs",
        response=EmptyResponse,
        errors=("model_loading",),
        is_open=True,
    ),
    Route(
        method="GET",
        path="/v1/models",
        handler=Endpoints.models,
        summary="The one model, as a list",
        response=ModelListResponse,
        errors=CARD,
        also=("/v1/models/",),
    ),
    Route(
        method="GET",
        path="/v1/models/{model_id}",
        handler=Endpoints.model,
        summary="The one model by its id",
        response=ModelResponse,
        errors=("model_not_found", "not_found", *CARD),
    ),
    Route(
        method="POST",
        path="/v1/completions",
        handler=Endpoints.completions,
        summary="A prompt and one hole after it, or between it and a suffix",
        request=CompletionRequest,
        response=CompletionResponse,
        chunk=CompletionChunk,
        errors=GENERATION,
    ),
    Route(
        method="POST",
        path="/v1/fim/completions",
        handler=Endpoints.fim,
        summary="A completion under the names that editors' plug-ins use",
        request=FimRequest,
        response=CompletionResponse,
        chunk=CompletionChunk,
        errors=GENERATION,
    ),
    Route(
        method="POST",
        path="/v1/chat/completions",
        handler=Endpoints.chat,
        summary="The next answer of a chat",
        request=ChatRequest,
        response=ChatResponse,
        chunk=ChatChunk,
        errors=GENERATION,
    ),
    Route(
        method="POST",
        path="/v1/tokenize",
        handler=Endpoints.tokenize,
        summary="Token ids of a text or a chat",
        request=TokenizeRequest,
        response=TokenizeResponse,
        errors=(*BODY, "context_length_exceeded", *CARD),
    ),
    Route(
        method="POST",
        path="/v1/detokenize",
        handler=Endpoints.detokenize,
        summary="Text of token ids",
        request=DetokenizeRequest,
        response=DetokenizeResponse,
        errors=(*BODY, *CARD),
    ),
    Route(
        method="POST",
        path="/v1/infill",
        handler=Endpoints.infill,
        summary="Fixed text and holes in any number and order",
        request=InfillRequest,
        response=InfillResponse,
        chunk=InfillChunk,
        errors=GENERATION,
    ),
)
