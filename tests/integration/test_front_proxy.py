"""What deployments/nginx.conf bounds and passes on, by a real nginx before real servers."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import openai
import pytest

from deployments.endpoints import Endpoints
from deployments.errors import KINDS
from deployments.gate import GateConfig
from deployments.ingress import build_api
from deployments.model_card import IngressConfig
from tests.conftest import free_port
from tests.deployments.fakes import FakeReplicas
from tests.deployments.test_key_file import created
from tests.integration.front_proxy import Endless, Proxy, needs_nginx, serving, started
from tests.integration.test_http import until

pytestmark = needs_nginx

QUICK = {"client_header_timeout 10s": "client_header_timeout 1s"}
CONFIG = IngressConfig(
    model_id="embedded",
    max_body_bytes=2**30,  # so that the refusal is nginx's
    body_timeout_s=1.0,
    timeout_s=60.0,
    max_token_forwards=1000,
)
POST = (
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"authorization: Bearer %s\r\n%s\r\n\r\n"
)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[tuple[Proxy, bytes]]:
    """nginx before an app with keys and without Serve, and a key."""
    folder = tmp_path_factory.mktemp("nginx")
    secret = created(folder / "keys.json", "alice")
    gate = GateConfig(keys=str(folder / "keys.json"))
    api = build_api(Endpoints(FakeReplicas(), CONFIG), gate)
    with serving(api) as port, started(folder / "nginx", port, QUICK) as proxy:
        yield proxy, secret


def refused(status: int, content: bytes) -> str:
    """The code of an error of the one shape."""
    error = json.loads(content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert KINDS[error["code"]].status == status
    return str(error["code"])


def test_keys_pass_and_without_one_nothing_does(proxy):
    front, key = proxy
    with front.client() as http:
        plain = http.get("/v1/models")
        with openai.OpenAI(
            base_url=f"{front.url}/v1", api_key=key.decode(), http_client=http
        ) as client:
            listed = client.models.list().data

    assert (plain.status_code, refused(401, plain.content)) == (401, "invalid_api_key")
    assert [model.id for model in listed] == ["embedded"]


def test_clients_that_can_speak_http2_do(proxy):
    front, _ = proxy
    tls = ssl.create_default_context(cafile=None)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2", "http/1.1"])

    with socket.create_connection(("127.0.0.1", front.port)) as raw, tls.wrap_socket(raw) as made:
        assert made.selected_alpn_protocol() == "h2"
        assert made.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(
    "path",
    ["/-/healthz", "/-/routes", "//-/routes", "/%2d/routes", "/v1/../-/routes", "/./-/routes"],
)
def test_the_routes_of_serve_are_closed(proxy, path):
    front, _ = proxy
    with front.connect() as connection:
        connection.send(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
        status, body = connection.answer()

    assert (status, refused(status, body)) == (404, "not_found")
    assert b"There is no such path" in body  # nginx's own words


def test_a_hundred_megabytes_of_headers_are_refused(proxy):
    front, _ = proxy
    line = b"x-a: " + b"a" * 8000 + b"\r\n"
    with front.connect() as connection:
        connection.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n")
        sent = connection.send_until_answered(line, 12_500)
        status, body = connection.answer()

    assert sent < 12_500
    assert (status, refused(status, body)) == (413, "request_too_large")


def test_one_long_header_is_refused(proxy):
    front, _ = proxy
    with front.client() as http:
        response = http.get("/v1/models", headers={"x-a": "a" * 17_000})

    assert refused(response.status_code, response.content) == "request_too_large"
    assert response.headers["x-should-retry"] == "false"


def test_a_request_line_that_is_too_long_gets_the_page_of_nginx(proxy):
    front, _ = proxy
    with front.client() as http:
        response = http.get("/" + "a" * 17_000)

    assert response.status_code == 414
    assert "text/html" in response.headers["content-type"]


def test_half_sent_headers_are_closed_after_their_time(proxy):
    front, _ = proxy
    opened = [front.connect() for _ in range(300)]
    for connection in opened:
        connection.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-a: ")
    with pytest.raises((AssertionError, ConnectionError)):  # nor by another byte now and then
        opened[0].send_until_answered(b"a", 2**10, pause_s=0.1)

    for connection in opened:
        with connection:
            assert connection.has_ended()
    with front.client() as http:
        assert http.get("/health").status_code == 200


def test_an_endless_chunked_body_is_refused(proxy):
    front, key = proxy
    with front.connect() as connection:
        connection.send(POST % (key, b"transfer-encoding: chunked"))
        piece = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
        sent = connection.send_until_answered(piece, 6_400)
        status, body = connection.answer()

    assert sent < 6_400
    assert (status, refused(status, body)) == (413, "request_too_large")


def test_a_giant_body_is_refused_before_it_is_sent(proxy):
    front, key = proxy
    with front.connect() as connection:
        connection.send(POST % (key, b"content-length: 1000000000000"))
        status, body = connection.answer()

    assert (status, refused(status, body)) == (413, "request_too_large")


@pytest.mark.parametrize("piece", [b" ", b""], ids=["slow", "stalled"])
def test_a_slow_sender_is_told_and_closed_after_the_time_for_bodies(proxy, piece):
    front, key = proxy
    with front.connect() as connection:
        connection.send(POST % (key, b"content-length: 100000"))
        connection.send_until_answered(piece, 200, pause_s=0.1)
        status, body = connection.answer()

        assert (status, refused(status, body)) == (408, "request_timeout")
        assert connection.has_ended()


def test_a_wrong_key_is_refused_before_its_body(proxy):
    front, _ = proxy
    with front.connect() as connection:
        connection.send(POST % (b"dk_wrong", b"content-length: 100000"))
        status, body = connection.answer()

    assert (status, refused(status, body)) == (401, "invalid_api_key")


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def before(endless, tmp_path) -> Iterator[Callable[[str, str], Proxy]]:
    """nginx before the endless app, with one setting changed."""
    with ExitStack() as stack:
        port = stack.enter_context(serving(endless.app))
        yield lambda old, new: stack.enter_context(started(tmp_path / "nginx", port, {old: new}))


def test_a_reader_that_stops_reading_is_closed_and_its_work_ends(before, endless):
    front = before("send_timeout 30s", "send_timeout 1s")
    with front.connect() as connection:
        connection.send(b"GET /full HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: endless.num_sent > 0)
        until(lambda: endless.num_open == 0)

    assert endless.num_sent < 100 * 2**20


def test_an_address_has_a_number_of_requests_at_a_time(before, endless):
    front = before("limit_conn address 64", "limit_conn address 2")
    with front.client() as http:
        with http.stream("GET", "/full"), http.stream("GET", "/full"):
            third = http.get("/silent")
        until(lambda: endless.num_open == 0)

    assert refused(third.status_code, third.content) == "rate_limit_exceeded"
    assert (third.headers["retry-after"], third.headers["x-should-retry"]) == ("1", "true")


def test_a_server_that_does_not_answer_is_a_timeout_and_is_told_to_stop(before, endless):
    front = before("proxy_read_timeout 660s", "proxy_read_timeout 1s")
    with front.client() as http:
        response = http.get("/silent")

    assert refused(response.status_code, response.content) == "timeout"
    until(lambda: endless.num_open == 0)


def test_a_server_that_is_not_there_is_worth_a_retry(tmp_path):
    with started(tmp_path / "nginx", free_port()) as front, front.client() as http:
        client = openai.OpenAI(
            base_url=f"{front.url}/v1", api_key="none", http_client=http, max_retries=0
        )
        with pytest.raises(openai.InternalServerError) as caught:
            client.models.list()

    response = caught.value.response
    assert refused(response.status_code, response.content) == "model_loading"
    assert re.fullmatch("[0-9a-f]{32}", caught.value.request_id)
    assert response.headers["retry-after"] == "5"


def test_plain_http_at_the_port_of_tls_is_refused(proxy):
    front, _ = proxy
    response = httpx.get(f"http://127.0.0.1:{front.port}/v1/models")

    assert refused(response.status_code, response.content) == "invalid_value"
