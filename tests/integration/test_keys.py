"""Keys over a running Serve, with the real openai client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest
from ray import serve

from deployments.app import AppArgs, build_app
from deployments.exposure import serve_host
from tests.deployments.test_key_file import created, keys
from tests.integration.test_http import until

pytestmark = pytest.mark.ray

Clients = Callable[[bytes], openai.OpenAI]
ASKED = {"model": "embedded", "prompt": "S:", "max_tokens": 4}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def url(server, file) -> Iterator[str]:
    """A second app, with keys."""
    created(file, "first")
    serve.run(build_app(AppArgs(model="embedded", keys=str(file))), name="k", route_prefix="/k")
    yield f"{server.url}/k"
    serve.delete("k")


@pytest.fixture
def client(url) -> Iterator[Clients]:
    with ExitStack() as open_clients:

        def make(key: bytes) -> openai.OpenAI:
            made = openai.OpenAI(base_url=f"{url}/v1", api_key=key.decode(), timeout=60)
            return open_clients.enter_context(made)

        yield make


def until_known(made: openai.OpenAI) -> openai.OpenAI:
    """The client, once the server has looked at its file: at most a second later."""
    until(lambda: status(made) != 401)
    return made


def status(caller: openai.OpenAI) -> int:
    return httpx.get(f"{caller.base_url}models", headers=caller.auth_headers).status_code


def test_a_new_key_is_taken_up_and_a_wrong_or_revoked_one_is_not(client, file):
    secret = created(file, "guest")
    guest = until_known(client(secret))

    assert guest.completions.create(**ASKED).usage.completion_tokens <= 4
    keys("revoke", "guest", "--file", str(file))

    with pytest.raises(openai.AuthenticationError) as caught:
        client(b"dk_wrong").completions.create(**ASKED)
    assert (caught.value.code, caught.value.request_id is None) == ("invalid_api_key", False)
    until(lambda: status(guest) == 401)


def test_a_key_of_another_scope_is_denied(client, file):
    probe = until_known(client(created(file, "probe", "--scope", "metrics")))

    with pytest.raises(openai.PermissionDeniedError) as caught:
        probe.completions.create(**ASKED)

    assert caught.value.code == "permission_denied"


def test_the_client_waits_as_long_as_it_is_told_when_a_key_has_used_its_minute(client, file):
    """What it waits for is recorded: a test does not wait for a minute."""
    waits: list[float] = []
    # One request finds out that the key is known.
    limited = until_known(client(created(file, "few", "--requests-per-minute", "2")))
    limited._sleep_for_retry = lambda *, response, **_: waits.append(
        limited._parse_retry_after_header(response.headers)
    )
    limited.completions.create(**ASKED)

    with pytest.raises(openai.RateLimitError) as caught:
        limited.completions.create(**ASKED)

    assert caught.value.code == "rate_limit_exceeded"
    headers = caught.value.response.headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert len(waits) == 2
    assert all(0 < wait <= 60 for wait in waits)


@pytest.mark.parametrize(("given", "is_kept"), [("my-id.1", True), ("a b?<>", False)])
def test_there_is_one_request_id_and_it_is_a_plain_one(url, server, given, is_kept):
    for app in (url, server.url):
        response = httpx.get(f"{app}/v1/models", headers={"x-request-id": given})

        (one,) = response.headers.get_list("x-request-id")
        assert (one == given) is is_kept
        assert re.fullmatch("[A-Za-z0-9._-]{1,128}", one)


def test_an_app_without_keys_answers_to_the_names_of_the_loopback(server):
    answers = [
        httpx.get(f"{server.url}/v1/models", headers={"host": host}).status_code
        for host in ("localhost:1", "evil.example")
    ]

    assert answers == [200, 403]


def test_an_app_can_tell_where_serve_listens(server):
    assert serve_host() == "127.0.0.1"
