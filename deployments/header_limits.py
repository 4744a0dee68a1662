"""How much of headers Serve's proxy hands on: what is longer is refused there."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import ApiError, error_response

__all__ = ["MAX_HEADERS", "MAX_HEADER_BYTES", "BoundedHeaders"]

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
"""Names and values of all headers of a request, and its path; nginx.conf has the same bound."""


_ID = b"x-request-id"


class BoundedHeaders:
    """ASGI middleware: a request with more headers is 413 `request_too_large`.

    uvicorn has read and parsed them by then; no replica gets to see them. Behind
    `PlainRequestIds`, so that there is one id, which the refusal has too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request, or the refusal."""
        if scope["type"] == "http" and _is_too_large(scope):
            message = f"At most {MAX_HEADERS} headers, of {MAX_HEADER_BYTES} bytes together."
            response = error_response(ApiError("request_too_large", message))
            response.raw_headers += [pair for pair in scope["headers"] if pair[0] == _ID]
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_too_large(scope: Scope) -> bool:
    headers = scope["headers"]
    num_bytes = sum(len(name) + len(value) for name, value in headers)
    num_bytes += len(scope["raw_path"]) + len(scope["query_string"])
    return len(headers) > MAX_HEADERS or num_bytes > MAX_HEADER_BYTES
