"""What the framework answers by itself, in OpenAI's shape: unknown paths, wrong methods."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from deployments.access_log import record_of
from deployments.errors import ApiError, Code, error_response

__all__ = ["on_http_exception", "unexpected"]

_INSTEAD: tuple[tuple[str, str], ...] = (
    ("/v1/responses", "Responses are not served: use /v1/completions."),
    ("/v1/embeddings", "This model makes no embeddings: it generates text, at /v1/completions."),
    ("/v1/audio", "This model neither hears nor speaks: it generates text, at /v1/completions."),
    ("/v1/images", "This model makes no images: it generates text, at /v1/completions."),
    ("/v1/videos", "This model makes no videos: it generates text, at /v1/completions."),
    ("/v1/moderations", "This model rates no text: it generates text, at /v1/completions."),
    ("/v1/engines", "Engines are gone from OpenAI's API: use /v1/models and /v1/completions."),
    ("/v1/edits", "Edits are gone from OpenAI's API: use /v1/infill."),
    ("/v1/batches", "Batches run without this server: python -m jobs run."),
    ("/v1/fine_tuning", "Training runs without this server: python -m jobs train."),
    ("/v1/v1", "The path has /v1 twice: the base_url of a client ends in one /v1."),
    ("/completions", "Paths begin with /v1: the base_url of a client ends in /v1."),
    ("/chat/completions", "Paths begin with /v1: the base_url of a client ends in /v1."),
    ("/models", "Paths begin with /v1: the base_url of a client ends in /v1."),
    ("/infill", "Paths begin with /v1: the base_url of a client ends in /v1."),
)
"""Paths that callers of other servers try, and below them, with what to use instead."""

_ERRORS: Mapping[int, tuple[Code, str]] = {
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not take this method: see the header allow."),
}


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Errors of the framework itself: no route, wrong method."""
    assert isinstance(error, HTTPException)
    code, message = _ERRORS.get(
        error.status_code, ("invalid_value", "The request is not valid HTTP for this server.")
    )
    if code == "not_found":
        message = f"{message} {_instead(request)}".rstrip()
    record_of(request).error = code
    response = error_response(ApiError(code, message))
    response.headers.update(error.headers or {})
    return response


def _instead(request: Request) -> str:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    found = (text for known, text in _INSTEAD if path == known or path.startswith(f"{known}/"))
    return next(found, "Write it without the slash at its end." if path[1:].endswith("/") else "")


def unexpected(request: Request) -> ApiError:
    """What a caller is told of a bug or a dead replica: an id to look for in the log."""
    record_of(request).error = "internal_error"
    message = f"The server failed; its log has the request id {record_of(request).id}."
    return ApiError("internal_error", message)
