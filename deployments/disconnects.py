"""A caller that is gone, as Serve and as ASGI say it."""

from __future__ import annotations

from ray.exceptions import RayError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["with_disconnects"]


def with_disconnects(app: ASGIApp) -> ASGIApp:
    """The app, told `http.disconnect` where Serve fails to fetch the next message of a caller.

    Serve cancels that fetch when the caller hangs up; its error would end the app as a bug does.
    """

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            try:
                return await receive()
            except RayError:
                return {"type": "http.disconnect"}

        await app(scope, received, send)

    return asgi
