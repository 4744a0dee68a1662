"""The id of a request: the caller's own where it is a plain one, else a new one.

Serve's proxy takes any `x-request-id`, logs it and sends it back. `proxy_middlewares` lets it see
plain ids alone, so that caller, Serve's logs and ours have the same one, and refuses long headers.
It is imported in the processes of the proxies and therefore imports little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import uuid4

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.header_limits import BoundedHeaders
from deployments.proxy_retry import RetriesOtherIngress

__all__ = ["PROXY_CALLBACK", "PlainRequestIds", "proxy_middlewares", "request_id_of"]

PROXY_CALLBACK = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.request_ids:proxy_middlewares"
}
"""What Serve's proxies read from the environment of the machine that they run on."""

_HEADER = b"x-request-id"
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The `x-request-id` if there is one and it is plain, else a new id."""
    given = [value for name, value in headers if name.lower() == _HEADER]
    is_plain = len(given) == 1 and _PLAIN.fullmatch(given[0]) is not None
    return given[0].decode("ascii") if is_plain else uuid4().hex


class PlainRequestIds:
    """ASGI middleware: the app behind it sees one `x-request-id`, a plain one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every request with its id; other scopes as they are."""
        if scope["type"] == "http":
            others = [pair for pair in scope["headers"] if pair[0].lower() != _HEADER]
            own = (_HEADER, request_id_of(scope["headers"]).encode("ascii"))
            scope = {**scope, "headers": [*others, own]}
        await self._app(scope, receive, send)


def proxy_middlewares() -> list[Middleware]:
    """What Serve puts around its proxy, where the environment has `PROXY_CALLBACK`."""
    # the last one comes first
    return [
        Middleware(RetriesOtherIngress),
        Middleware(BoundedHeaders),
        Middleware(PlainRequestIds),
    ]
