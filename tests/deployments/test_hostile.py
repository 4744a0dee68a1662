"""The corpus of hostile inputs against the app: refused in OpenAI's shape, and never repeated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from deployments.endpoints import Endpoints
from deployments.ingress import build_api
from deployments.model_card import IngressConfig
from tests.deployments import hostile
from tests.deployments.fakes import URL, FakeReplicas

CONFIG = IngressConfig(
    model_id="org/dream",
    max_body_bytes=2**20,
    body_timeout_s=10,
    timeout_s=10,
    max_token_forwards=1000,
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(build_api(Endpoints(FakeReplicas(), CONFIG)), URL) as client:
        yield client


def check(response, status: int, *codes: str) -> None:
    """The error has the one shape, and repeats nothing that was sent."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.status_code == status
    assert not codes or error["code"] in codes
    assert hostile.SECRET not in response.text
    assert len(response.content) < 1000
    assert error["message"].startswith(error["param"] or "")


def path_of(raw: bytes) -> str:
    return "/v1/infill" if b'"segments"' in raw else "/v1/completions"


@pytest.mark.parametrize("name", hostile.NOT_JSON)
def test_what_is_not_one_clear_json_object_is_invalid_json(client, name):
    raw = hostile.NOT_JSON[name]

    check(client.post(path_of(raw), content=raw, headers=hostile.JSON), 400, "invalid_json")


@pytest.mark.parametrize("name", hostile.NOT_VALID)
def test_what_is_no_request_is_refused_by_its_field(client, name):
    raw = hostile.NOT_VALID[name]
    codes = ("invalid_value", "unknown_parameter", "unsupported_parameter")

    check(client.post(path_of(raw), content=raw, headers=hostile.JSON), 400, *codes)


@pytest.mark.parametrize("text", hostile.SPECIAL_TEXTS)
def test_text_is_text_whatever_it_looks_like(client, text):
    for raw in (
        hostile.completion(prompt=text, suffix=text, user=text),
        hostile.infill({"text": text}, {"hole": 1}),
    ):
        answer = client.post(path_of(raw), content=raw, headers=hostile.JSON)
        assert answer.status_code == 200

    assert answer.json()["choices"][0]["text"] == text + "A"


@pytest.mark.parametrize("path", hostile.PATHS)
def test_a_path_that_is_none_is_not_found(client, path):
    status = hostile.PATHS[path]

    check(client.get(path), status)
    assert client.head(path).status_code == status


@pytest.mark.parametrize("name", hostile.HEADERS)
def test_a_header_that_is_not_taken_is_refused(client, name):
    headers, status = hostile.HEADERS[name]

    check(client.post("/v1/completions", content=hostile.completion(), headers=headers), status)


@pytest.mark.parametrize("name", hostile.HARMLESS_HEADERS)
def test_a_header_that_is_not_read_does_no_harm(client, name):
    headers = hostile.HARMLESS_HEADERS[name]

    answer = client.post("/v1/completions", content=hostile.completion(), headers=headers)

    assert answer.status_code == 200
    assert hostile.SECRET not in answer.text
