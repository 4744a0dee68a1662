"""In Serve's proxy: a request whose ingress died goes to another one, while nothing is answered.

When an ingress dies Serve's proxy ends without an answer, or in the middle of one. Generating again
is safe as long as nothing was sent; the canvases of a dead ingress are aborted by their replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import ApiError, Code, error_body, error_response

__all__ = ["MAX_BODY_BYTES", "RetriesOtherIngress"]

MAX_TRIES = 4
MAX_BODY_BYTES = 2**20
"""A longer body is not kept, and its request not tried again; ingresses take less by default."""

OF_SERVE = "/-/"
"""Where Serve answers by itself: its own health and routes."""

_ID = b"x-request-id"


class RetriesOtherIngress:
    """ASGI middleware: nobody is answered by silence, half an answer, or Serve's plain text."""

    def __init__(
        self, app: ASGIApp, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._app = app
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request, as often as needed; what is for Serve itself once."""
        if scope["type"] != "http" or scope["path"].startswith(OF_SERVE):
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        answer = _Answer(send)
        for number in range(MAX_TRIES):
            if number:
                await self._sleep(0.1 * 2**number)
            await self._app({**scope}, body.replay(), answer.send)
            if answer.is_complete or answer.has_begun or body.is_gone or not body.is_kept:
                break
        if not (answer.is_complete or body.is_gone):
            await _end(answer, scope, receive)


async def _end(answer: _Answer, scope: Scope, receive: Receive) -> None:
    """An error of our shape where an answer, or the rest of one, is missing."""
    ids = [pair for pair in scope["headers"] if pair[0] == _ID]
    if not answer.has_begun:
        code: Code = "model_loading" if answer.is_unavailable else "replica_lost"
        message = "The server's front has failed, and another try may not."
        response = error_response(ApiError(code, message, retry_after_s=1))
        response.raw_headers += ids
        await response({**scope}, receive, answer.raw_send)
    elif answer.is_stream:
        error = ApiError("replica_lost", "The server's front has failed before the end.")
        told = b"data: " + error_body(error) + b"\n\n"
        await answer.raw_send({"type": "http.response.body", "body": told, "more_body": False})


class _Body:
    """The messages of a caller, kept so that they can be read again."""

    def __init__(self, receive: Receive) -> None:
        self.is_gone = False
        self.is_kept = True
        self._receive = receive
        self._messages: list[Message] = []
        self._num_bytes = 0

    def replay(self) -> Receive:
        """All messages from the first one, then new ones."""
        place = 0

        async def receive() -> Message:
            nonlocal place
            if place == len(self._messages):
                message = await self._receive()
                self._keep(message)
                if not self.is_kept:
                    return message
            place += 1
            return self._messages[place - 1]

        return receive

    def _keep(self, message: Message) -> None:
        self.is_gone |= message["type"] == "http.disconnect"
        self._num_bytes += len(message.get("body", b""))
        self.is_kept &= self._num_bytes <= MAX_BODY_BYTES
        if self.is_kept:
            self._messages.append(message)


class _Answer:
    """What has been sent; Serve's own answer that there is no ingress is held back.

    Serve says so in plain text with status 503; an ingress answers 503 in JSON alone.
    """

    def __init__(self, send: Send) -> None:
        self.raw_send = send
        self.has_begun = False
        self.is_complete = False
        self.is_stream = False
        self.is_unavailable = False
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        """On to the caller; the head not before its first body."""
        if message["type"] == "http.response.start":
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            self.is_unavailable = message["status"] == 503 and kind.startswith(b"text/plain")
            self.is_stream = kind.startswith(b"text/event-stream")
            self._head = message
            return
        if self.is_unavailable:
            return
        if self._head is not None:
            self.has_begun = True
            head, self._head = self._head, None
            await self.raw_send(head)
        await self.raw_send(message)
        self.is_complete = not message.get("more_body", False)
