"""In front of every route: who calls, whether they may, how much, and the line in the log.

Deny by default: only `OPEN_PATHS` need no key. Pure ASGI, so that streams pass as they come.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.access_log import RequestRecord, log_request
from deployments.errors import ApiError, error_response
from deployments.key_file import Key, KeyStore
from deployments.key_file import Scope as KeyScope
from deployments.metric_sinks import MetricSink, sink_here
from deployments.rate_limits import RateLimiter
from deployments.request_ids import request_id_of
from deployments.request_metrics import count_request
from deployments.routes import ROUTES

__all__ = ["LOOPBACK_ONLY", "OPEN_PATHS", "Gate", "GateConfig", "with_cors"]

OPEN_PATHS = frozenset(
    path for route in ROUTES if route.is_open for path in (route.path, *route.also)
)
"""What probes ask. Everything else needs a key where there are keys, also what is not there."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_SCOPES: dict[str, KeyScope] = {"/metrics": "metrics"}
"""Paths that need another scope than infer."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a caller that hung up before there was another; only logs show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Who may call; arguments of the app have the same names.

    keys: path of the key file. allowed_hosts: names in `Host` beside those of the loopback.
    cors_origins: web pages that may call. insecure_no_auth: everybody may call.
    """

    keys: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    insecure_no_auth: bool = False

    @property
    def checks_host(self) -> bool:
        """Without keys a web page could reach the loopback by a name of its own (DNS rebinding)."""
        return bool(self.allowed_hosts) or (self.keys is None and not self.insecure_no_auth)


LOOPBACK_ONLY = GateConfig()
"""Without keys: callers that name the loopback in `Host`."""


class Gate:
    """ASGI middleware around the whole app. KeyFileError if the key file cannot be read.

    sends_request_id: whether the response gets its `x-request-id` here; behind Serve its proxy
    sends the same one. metrics: what counts the requests.
    """

    def __init__(
        self,
        config: GateConfig,
        *,
        sends_request_id: bool = True,
        metrics: MetricSink | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = _LOOPBACK | set(config.allowed_hosts) if config.checks_host else None
        self._keys = None if config.keys is None else KeyStore(Path(config.keys), clock)
        self._limiter = RateLimiter(clock)
        self._sends_request_id = sends_request_id
        self._metrics = sink_here() if metrics is None else metrics
        self._clock = clock

    def around(self, app: ASGIApp) -> ASGIApp:
        """The app, reached through the gate alone."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            elif scope["type"] == "http":
                await self._handle(app, scope, receive, send)
            else:  # no route speaks WebSocket
                await send({"type": "websocket.close", "code": 1008, "reason": ""})

        return guarded

    async def _handle(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        record = RequestRecord(id=request_id_of(scope["headers"]), method=scope["method"])
        scope = {**scope, "state": {**scope.get("state", {}), "record": record}}
        exchange = _Exchange(record, receive, send, self._limiter, self._clock)
        if self._sends_request_id:
            exchange.headers["x-request-id"] = record.id
        try:
            try:
                self._let_in(scope, exchange)
            except ApiError as refused:
                record.error = refused.code
                await error_response(refused)(scope, exchange.receive, exchange.send)
            else:
                await app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            record.has_disconnected |= not exchange.is_complete
            raise
        finally:
            exchange.end()
            record.route = getattr(scope.get("route"), "path", None)
            record.total_ms = exchange.elapsed_ms
            log_request(record)
            count_request(self._metrics, record)

    def _let_in(self, scope: Scope, exchange: _Exchange) -> None:
        """ApiError for a caller that may not have what it asks for, or not now."""
        path = _route_path(scope)
        if path in OPEN_PATHS:
            return
        if self._hosts is not None and _host_name(_values(scope, b"host")) not in self._hosts:
            raise ApiError("permission_denied", "This server is not called by the name in Host.")
        if self._keys is None:
            return
        key = self._keys.find(_credential(_values(scope, b"authorization")))
        if key is None:
            message = "Send the header authorization: Bearer KEY, with a key of this server."
            raise ApiError("invalid_api_key", message)
        exchange.record.key, exchange.record.priority = key.name, key.priority
        scope_needed = _SCOPES.get(path, "infer")
        if scope_needed not in key.scopes:
            raise ApiError("permission_denied", f"This key lacks the scope {scope_needed}.")
        exchange.admit(key)


class _Exchange:
    """One request on its way: completes the head of its response, and sees how it ends."""

    def __init__(
        self,
        record: RequestRecord,
        receive: Receive,
        send: Send,
        limiter: RateLimiter,
        clock: Callable[[], float],
    ) -> None:
        self.record = record
        self.headers: dict[str, str] = {}
        self.is_complete = False
        self._receive = receive
        self._send = send
        self._limiter = limiter
        self._clock = clock
        self._started_at = clock()
        self._key: Key | None = None
        self._is_admitted = False
        self._charged = 0

    @property
    def elapsed_ms(self) -> float:
        """How long the request has been here."""
        return _ms(self._clock() - self._started_at)

    def admit(self, key: Key) -> None:
        """ApiError where the key has reached a limit; its headers are sent all the same."""
        self._key = key
        self._limiter.admit(key)
        self._is_admitted = True

    async def receive(self) -> Message:
        """The next message of the caller."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.is_complete:
            self.record.has_disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """A message to the caller; the head with the headers that every response has."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *self._head(message)]}
        await self._send(message)
        if self.record.has_text and self.record.first_text_ms is None:
            self.record.first_text_ms = self.elapsed_ms
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_complete = True

    def end(self) -> None:
        """What the request used is charged, and another one may run."""
        if self.record.status is None:
            self.record.status = CLIENT_CLOSED_REQUEST if self.record.has_disconnected else 500
        self._charge()
        if self._key is not None and self._is_admitted:
            self._limiter.release(self._key)

    def _head(self, message: Message) -> list[tuple[bytes, bytes]]:
        record = self.record
        record.status = message["status"]
        kinds = [value for name, value in message.get("headers", ()) if name == b"content-type"]
        record.is_stream = any(kind.startswith(b"text/event-stream") for kind in kinds)
        self._charge()
        headers = self.headers | _timing(record)
        if self._key is not None:
            headers |= self._limiter.headers(self._key)
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]

    def _charge(self) -> None:
        used = self.record.token_forwards or 0
        if self._key is not None:
            self._limiter.charge(self._key, used - self._charged)
        self._charged = used


def with_cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """The app for web pages of these origins too; preflights are answered before the gate."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # OpenAI's client sends headers of its own
        expose_headers=("x-request-id", "retry-after", "retry-after-ms", "x-should-retry"),
    )


def _timing(record: RequestRecord) -> dict[str, str]:
    if record.queue_ms is None or record.denoise_ms is None:
        return {}
    queue, denoise = record.queue_ms, record.denoise_ms
    return {
        "server-timing": f"queue;dur={queue:.1f}, denoise;dur={denoise:.1f}",
        "openai-processing-ms": str(math.ceil(queue + denoise)),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for header, value in scope["headers"] if header == name]


def _route_path(scope: Scope) -> str:
    """The path as the routes see it, without the prefix that the app is served under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def _host_name(values: list[bytes]) -> str | None:
    """The name in the one `Host` there is, in lower case and without its port."""
    if len(values) != 1:
        return None
    host = values[0].decode("latin-1").lower()
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and port.isascii() else host


def _credential(values: list[bytes]) -> bytes:
    """The bytes after Bearer in the one `Authorization` there is, else nothing."""
    if len(values) != 1:
        return b""
    scheme, _, credential = values[0].partition(b" ")
    return credential.strip() if scheme.lower() == b"bearer" else b""
