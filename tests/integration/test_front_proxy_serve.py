"""The front proxy before a running Serve, by the real openai client over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import openai
import pytest

from tests.integration.front_proxy import Proxy, needs_nginx, started
from tests.integration.test_http import until

pytestmark = [pytest.mark.ray, needs_nginx]

ASKED = {"model": "embedded", "prompt": "S:1034/0402/2100/4021=", "max_tokens": 24}
SOLVED = "1234/3412/2143/4321"


@pytest.fixture(scope="module")
def front(server, tmp_path_factory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    # Without keys Serve's app answers to the loopback's names alone, also behind nginx.
    with started(folder, urlsplit(server.url).port) as proxy:
        yield proxy


@pytest.fixture
def client(front) -> Iterator[openai.OpenAI]:
    with (
        front.client() as http,
        openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", http_client=http) as client,
    ):
        yield client


def test_the_openai_client_gets_answers_and_streams(client):
    answer = client.completions.create(**ASKED)
    stream = client.completions.create(**ASKED, stream=True)

    assert answer.choices[0].text == SOLVED
    assert "".join(chunk.choices[0].text for chunk in stream) == SOLVED


def test_a_stream_passes_as_it_comes_and_ends_with_its_caller(server, client):
    """The first chunk is here while the work goes on; who leaves ends the work."""
    stream = client.completions.create(
        model="embedded",
        prompt="Once",
        max_tokens=450,
        temperature=1.0,
        n=4,
        stream=True,
        extra_body={"diffusion": {"early_exit": False, "stream": "steps"}},
    )

    steps = [next(stream).diffusion for _ in range(12)]
    assert server.stats()["requests"] == 4
    assert any(told["event"] == "step" for told in steps if told)
    stream.close()

    until(lambda: server.stats()["requests"] == 0)


def test_an_error_of_the_server_passes_as_it_is(server, front, client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**ASKED | {"max_tokens": 2000})
    assert caught.value.code == "context_length_exceeded"

    with front.client() as http:
        other_name = http.get("/v1/models", headers={"host": "evil.example"})
    assert other_name.status_code == 403


@pytest.mark.parametrize(("given", "is_kept"), [("my-id.1", True), ("a b?<>", False)])
def test_the_id_of_a_request_is_kept_or_made(front, given, is_kept):
    with front.client() as http:
        response = http.get("/v1/models", headers={"x-request-id": given})

    (one,) = response.headers.get_list("x-request-id")
    assert (one == given) is is_kept


def test_the_headers_that_serves_proxy_obeys_do_not_pass(server, front):
    ours = {"x-request-disconnect-disabled": "?1", "x-request-timeout-seconds": "0.001"}

    direct = server.http.post("/v1/completions", json=ASKED, headers=ours)
    with front.client() as http:
        behind = http.post("/v1/completions", json=ASKED, headers=ours)

    assert direct.status_code in (400, 408)
    assert behind.json()["choices"][0]["text"] == SOLVED
