"""In front of every route: keys, scopes, limits, request ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from deployments.endpoints import Endpoints
from deployments.gate import OPEN_PATHS, GateConfig
from deployments.ingress import build_api
from deployments.key_file import KeyFileError
from tests.deployments.fakes import URL, FakeReplicas
from tests.deployments.test_api import COMPLETION, CONFIG, error_of
from tests.deployments.test_key_file import created, keys


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "keys.json"


@contextmanager
def calling(
    config: GateConfig, url: str = URL, replicas: FakeReplicas | None = None
) -> Iterator[TestClient]:
    endpoints = Endpoints(replicas or FakeReplicas(), CONFIG)
    with TestClient(build_api(endpoints, config), url, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def alice(file) -> dict[str, str]:
    """The header of a key that may infer."""
    return bearer(created(file, "alice"))


@pytest.fixture
def client(file, alice) -> Iterator[TestClient]:
    with calling(GateConfig(keys=str(file)), "http://server.example") as client:
        yield client


def bearer(secret: bytes | str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret if isinstance(secret, str) else secret.decode()}"}


def every_request() -> list[tuple[str, str]]:
    """Each path of the app by each of its methods and some others, and paths that are not there."""
    app: FastAPI = build_api(Endpoints(FakeReplicas(), CONFIG), has_docs=True)
    assert {"/health", "/ready"} == OPEN_PATHS
    paths = {re.sub(r"\{.*\}", "org/dream", route.path) for route in app.routes}
    assert {"/v1/models/org/dream", "/v1/completions", "/v1/infill"} <= paths
    paths |= {"/", "//health", "/health/", "/ready/x", "/v1", "/nothing", "/metrics", "/docs"}
    paths |= {"/openapi.json", "/-/routes", "/Health", "/%68ealth/x", "/v1/chat"}
    methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW")
    return [(method, path) for path in sorted(paths - OPEN_PATHS) for method in methods]


WRONG = {
    "none": {},
    "empty": {"authorization": ""},
    "no key": {"authorization": "Bearer"},
    "spaces": {"authorization": "Bearer  "},
    "wrong": bearer("dk_" + "A" * 43),
    "another scheme": {"authorization": "Basic YTpi"},
    "non-ASCII": {"authorization": "Bearer \u00e9\u20ac".encode()},
    "bytes": {"authorization": b"Bearer \xff\xfe\x80"},
    "long": {"authorization": "Bearer " + "x" * 50_000},
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_no_route_is_open_without_a_right_key(client, headers):
    for method, path in every_request():
        response = client.request(method, path, headers=headers)

        assert response.status_code == 401, (method, path)
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-request-id"]
        if method != "HEAD":
            assert error_of(response) == (401, "invalid_api_key", None)


def test_two_keys_are_none(client, alice):
    pair = ("authorization", alice["authorization"])

    response = client.get("/v1/models", headers=[pair, pair])

    assert error_of(response) == (401, "invalid_api_key", None)


def test_a_key_in_the_url_is_none(client, alice):
    secret = alice["authorization"].removeprefix("Bearer ")

    response = client.get("/v1/models", params={"api_key": secret, "authorization": secret})

    assert response.status_code == 401


def test_probes_need_no_key(client):
    assert [client.get(path).status_code for path in sorted(OPEN_PATHS)] == [200, 200]


def test_a_key_opens_every_route_and_what_is_not_there_is_not_found(client, alice):
    client.headers.update(alice)

    assert client.post("/v1/completions", json=COMPLETION).status_code == 200
    assert client.get("/v1/models/org/dream").status_code == 200
    assert error_of(client.get("/nothing")) == (404, "not_found", None)
    for method, path in every_request():
        expected = {403} if path == "/metrics" else {200, 404, 405, 415}
        assert client.request(method, path).status_code in expected, (method, path)


def test_the_scheme_is_read_in_any_case(client, alice):
    for scheme in ("bearer", "BEARER"):
        headers = {"authorization": alice["authorization"].replace("Bearer", scheme)}
        assert client.get("/v1/models", headers=headers).status_code == 200


def test_a_key_without_the_scope_is_denied(client, file):
    client.headers.update(bearer(created(file, "probe", "--scope", "metrics")))
    with calling(GateConfig(keys=str(file))) as fresh:
        fresh.headers.update(client.headers)

        answers = {(path, fresh.request(method, path).status_code) for method, path in GETS}

    assert answers == {(path, 404 if path == "/metrics" else 403) for _, path in GETS}


GETS = [each for each in every_request() if each[0] == "GET"]


def test_a_denied_key_is_told_the_scope(file):
    infer = bearer(created(file, "alice"))
    with calling(GateConfig(keys=str(file))) as client:
        response = client.get("/metrics", headers=infer)

    assert error_of(response) == (403, "permission_denied", None)
    assert "metrics" in response.json()["error"]["message"]


def test_a_revoked_key_is_wrong_at_the_next_look(file, monkeypatch):
    secret = bearer(created(file, "alice"))
    monkeypatch.setattr("deployments.key_file.LOOK_EVERY_S", 0)
    with calling(GateConfig(keys=str(file))) as client:
        assert client.get("/v1/models", headers=secret).status_code == 200

        keys("revoke", "alice", "--file", str(file))

        assert client.get("/v1/models", headers=secret).status_code == 401


def test_a_key_file_that_cannot_be_read_is_no_app(tmp_path):
    with pytest.raises(KeyFileError):
        build_api(Endpoints(FakeReplicas(), CONFIG), GateConfig(keys=str(tmp_path / "none.json")))


def test_a_key_over_its_requests_a_minute_is_told_when_to_come_back(file):
    limited = bearer(created(file, "alice", "--requests-per-minute", "2"))
    other = bearer(created(file, "bob"))
    with calling(GateConfig(keys=str(file))) as client:
        answers = [client.get("/v1/models", headers=limited) for _ in range(3)]
        free = client.get("/v1/models", headers=other)

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    rest = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert rest == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
    refused = answers[2]
    assert error_of(refused) == (429, "rate_limit_exceeded", None)
    assert refused.headers["x-should-retry"] == "true"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert free.status_code == 200
    assert not [name for name in free.headers if name.startswith("x-ratelimit")]


def test_token_forwards_are_charged_when_the_answer_is_sent(file):
    limited = bearer(created(file, "alice", "--token-forwards-per-minute", "20"))
    with calling(GateConfig(keys=str(file))) as client:
        client.headers.update(limited)
        answers = [client.post("/v1/completions", json=COMPLETION) for _ in range(3)]

    assert answers[0].json()["usage"]["diffusion"]["token_forwards"] == 13
    rest = [answer.headers["x-ratelimit-remaining-token-forwards"] for answer in answers]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert rest == ["7", "0", "0"]
    assert "20 token-forwards a minute" in answers[2].json()["error"]["message"]


def test_every_answer_of_a_limited_key_has_its_headers_a_failure_too(file):
    limited = bearer(created(file, "alice", "--requests-per-minute", "9"))
    broken = FakeReplicas(trouble=RuntimeError("secret"))
    with calling(GateConfig(keys=str(file)), replicas=broken) as client:
        client.headers.update(limited)
        answers = [
            client.post("/v1/completions", json=COMPLETION),
            client.post("/v1/completions", content=b"{"),
            client.get("/nothing"),
        ]

    assert [answer.status_code for answer in answers] == [500, 415, 404]
    rest = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert rest == ["8", "7", "6"]
    assert answers[0].headers["x-request-id"] in answers[0].json()["error"]["message"]


@pytest.mark.parametrize("has_keys", [True, False])
def test_the_specification_says_who_may_call(file, has_keys):
    secret = bearer(created(file, "alice"))
    gate = GateConfig(keys=str(file) if has_keys else None)
    api = build_api(Endpoints(FakeReplicas(), CONFIG), gate, has_docs=True)
    with TestClient(api, URL) as client:
        shown = client.get("/openapi.json", headers=secret).json()

    assert ("securitySchemes" in shown["components"]) is has_keys
    for path, operations in shown["paths"].items():
        responses = set(operations.get("get", operations.get("post"))["responses"])
        expected = {"401", "403", "429"} if has_keys else {"403"}
        assert responses & {"401", "403", "429"} == (set() if path in OPEN_PATHS else expected)


def test_nothing_is_served_over_websockets():
    with (
        calling(GateConfig()) as client,
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/completions"),
    ):
        pass


@pytest.mark.parametrize("given", ["my-id.1", "A" * 128, "_"])
def test_a_plain_request_id_comes_back(client, alice, given):
    for headers in (alice, {}):
        response = client.get("/v1/models", headers=headers | {"x-request-id": given})

        assert response.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize(
    "given", ["", "A" * 129, "a b", "a\tb", "<script>", "\u00e9", "a/b", "a,b"]
)
def test_another_request_id_is_replaced(client, given):
    response = client.get("/health", headers={"x-request-id": given.encode()})

    (drawn,) = response.headers.get_list("x-request-id")
    assert re.fullmatch("[0-9a-f]{32}", drawn)


def test_behind_serve_its_proxy_sends_the_id():
    api = build_api(Endpoints(FakeReplicas(), CONFIG), sends_request_id=False)
    with TestClient(api, URL) as client:
        assert "x-request-id" not in client.get("/v1/models").headers


def test_times_of_an_answer_stand_in_its_head_where_they_are_known():
    api = build_api(Endpoints(FakeReplicas(), CONFIG))

    async def timed(request):
        request.state.record.queue_ms, request.state.record.denoise_ms = 1.25, 40.0
        return await Endpoints(FakeReplicas(), CONFIG).health()

    api.add_route("/timed", timed)
    with TestClient(api, URL) as client:
        head = client.get("/timed").headers
        untimed = client.get("/v1/models").headers

    assert head["server-timing"] == "queue;dur=1.2, denoise;dur=40.0"
    assert head["openai-processing-ms"] == "42"
    assert not {"server-timing", "openai-processing-ms"} & set(untimed)
