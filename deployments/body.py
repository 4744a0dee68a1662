"""Reading a request body: bounded while it arrives, then parsed by its wire model."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from deployments.errors import ApiError, from_validation

__all__ = ["read_body"]

Body = TypeVar("Body", bound=BaseModel)


async def read_body(
    request: Request, model: type[Body], *, max_bytes: int, timeout_s: float
) -> Body:
    """The body as `model`; whatever is wrong with it is an `ApiError`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError("unsupported_media_type", "Send content-type: application/json.")
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _read(request, max_bytes)
    except (TimeoutError, ClientDisconnect):
        raise ApiError("request_timeout", "The body did not arrive in time.") from None
    try:
        return model.model_validate_json(raw)
    except ValidationError as invalid:
        raise from_validation(invalid) from None


async def _read(request: Request, max_bytes: int) -> bytes:
    """Counted as it comes in, because a chunked body does not say its length."""
    too_large = ApiError("request_too_large", f"A body has at most {max_bytes} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_large
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > max_bytes:
            raise too_large
    return bytes(raw)
