"""The middleware in Serve's proxy, over apps that end as the proxy does when an ingress dies."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from ray.exceptions import TaskCancelledError

from deployments.disconnects import with_disconnects
from deployments.proxy_retry import MAX_BODY_BYTES, RetriesOtherIngress

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
PLAIN = [(b"content-type", b"text/plain")]


def start(headers, status=200):
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content: bytes, *, more: bool = False):
    return {"type": "http.response.body", "body": content, "more_body": more}


class Proxy:
    """Answers attempt n with the n-th messages; keeps the bodies that it was sent."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.bodies: list[bytes] = []

    async def __call__(self, scope, receive, send):
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(content)
        for message in self.attempts.pop(0):
            await send(message)


async def no_sleep(seconds: float) -> None:
    assert seconds > 0


def post(proxy, content=b'{"prompt": "p"}', path="/v1/completions") -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(RetriesOtherIngress(proxy, sleep=no_sleep))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(path, content=content, headers={"x-request-id": "my-id"})

    return asyncio.run(run())


ANSWER = [start(JSON), body(b'{"a"', more=True), body(b": 1}")]
UNAVAILABLE = [start(PLAIN, 503), body(b"Deployment is unavailable")]


@pytest.mark.parametrize("failed", [[], [start(JSON)], UNAVAILABLE], ids=["none", "head", "503"])
def test_a_request_without_an_answer_is_tried_again_with_its_whole_body(failed):
    proxy = Proxy(failed, failed, ANSWER)

    response = post(proxy)

    assert (response.status_code, response.json()) == (200, {"a": 1})
    assert proxy.bodies == [b'{"prompt": "p"}'] * 3


def test_an_error_of_an_ingress_is_passed_on_as_it_is():
    proxy = Proxy([start(JSON, 503), body(b'{"error": {}}')])

    assert (post(proxy).status_code, len(proxy.bodies)) == (503, 1)


@pytest.mark.parametrize(
    ("failed", "code"), [([], "replica_lost"), (UNAVAILABLE, "model_loading")], ids=["none", "503"]
)
def test_after_some_tries_the_caller_gets_an_error_of_our_shape(failed, code):
    proxy = Proxy(*[failed] * 4)

    response = post(proxy)

    assert (response.status_code, response.json()["error"]["code"]) == (503, code)
    assert response.headers["x-request-id"] == "my-id"
    assert response.headers["x-should-retry"] == "true"


def test_a_stream_that_breaks_off_ends_with_an_error_event():
    proxy = Proxy([start(EVENTS), body(b"data: {}\n\n", more=True)])

    response = post(proxy)

    first, last = response.text.removesuffix("\n\n").split("\n\n")
    assert first == "data: {}"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "replica_lost"
    assert len(proxy.bodies) == 1


def test_a_body_that_is_too_long_to_keep_is_sent_once():
    proxy = Proxy([])

    response = post(proxy, b"x" * (MAX_BODY_BYTES + 1))

    assert response.status_code == 503
    assert [len(content) for content in proxy.bodies] == [MAX_BODY_BYTES + 1]


def test_the_health_of_serve_itself_is_told_as_it_is():
    proxy = Proxy([start(PLAIN, 503), body(b"draining")])

    assert post(proxy, path="/-/healthz").text == "draining"


def test_a_caller_that_is_gone_is_not_served_again():
    calls: list[int] = []

    async def proxy(scope, receive, send):
        calls.append(1)
        assert (await receive())["type"] == "http.disconnect"

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("nobody is there")

    scope = {"type": "http", "path": "/v1/completions", "headers": []}
    asyncio.run(RetriesOtherIngress(proxy, sleep=no_sleep)(scope, gone, send))

    assert calls == [1]


def test_a_cancelled_fetch_of_messages_is_a_disconnect():
    seen: list[str] = []

    async def app(scope, receive, send):
        seen.append((await receive())["type"])

    async def cancelled():
        raise TaskCancelledError

    asyncio.run(with_disconnects(app)({"type": "http"}, cancelled, None))

    assert seen == ["http.disconnect"]
