"""Reading a request body: bounded while it arrives, then parsed by its wire model."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from deployments.errors import ApiError
from deployments.validation import from_validation, path_of

__all__ = ["read_body"]

Body = TypeVar("Body", bound=BaseModel)


async def read_body(
    request: Request, model: type[Body], *, max_bytes: int, timeout_s: float
) -> Body:
    """The body as `model`; whatever is wrong with it is an `ApiError`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError("unsupported_media_type", "Send content-type: application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "A body is taken as it is: send it without compression and content-encoding."
        raise ApiError("unsupported_media_type", message)
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _read(request, max_bytes)
    except (TimeoutError, ClientDisconnect):
        raise ApiError("request_timeout", "The body did not arrive in time.") from None
    try:
        body = model.model_validate_json(raw)
    except ValidationError as invalid:
        raise from_validation(invalid, model) from None
    for place in _repeated(json.loads(raw, object_pairs_hook=_Object)):
        raise ApiError("invalid_json", REPEATED, param=path_of(model, place))
    return body


REPEATED = "A name stands twice in one JSON object."


class _Object(dict[str, object]):
    """A JSON object, and a name in it that stands there twice."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        names = Counter(name for name, _ in pairs)
        self.repeated = next((name for name in self if names[name] > 1), None)


def _repeated(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where names stand twice, outermost first; `value` is no deeper than its model."""
    if isinstance(value, _Object) and value.repeated is not None:
        yield (*place, value.repeated)
    if isinstance(value, _Object):
        for name, child in value.items():
            yield from _repeated(child, (*place, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _repeated(child, (*place, index))


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
