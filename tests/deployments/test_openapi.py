"""The specification has every route, field, header and error; and its page loads nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from deployments.app import AppArgs
from deployments.endpoints import Endpoints
from deployments.errors import KINDS, Code
from deployments.ingress import build_api
from deployments.limits import LIMITS
from deployments.model_card import IngressConfig
from deployments.openapi import specification
from deployments.requests import UNSERVED, CompletionRequest, Diffusion, InfillRequest
from deployments.routes import ROUTES
from tests.deployments.fakes import URL, FakeReplicas

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
CONFIG = IngressConfig(
    model_id="m", max_body_bytes=1000, body_timeout_s=1, timeout_s=1, max_token_forwards=1000
)
APP = build_api(Endpoints(FakeReplicas(), CONFIG), has_docs=True)
SPEC = TestClient(APP, URL).get("/openapi.json").json()


def operations(spec) -> list[dict[str, object]]:
    methods = ("get", "head", "post")
    return [each[name] for each in spec["paths"].values() for name in methods if name in each]


def test_every_registered_route_is_described():
    registered = {
        (route.path.replace(":path", ""), method.lower())
        for route in APP.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    described = {(path, name) for path, each in SPEC["paths"].items() for name in each}

    assert registered - {("/v1/models/", "get"), ("/v1/models/", "head")} == {
        pair for pair in described if pair[1] != "parameters"
    }


@pytest.mark.parametrize("model", [CompletionRequest, InfillRequest])
def test_a_body_is_described_with_every_field_it_takes(model):
    schema = SPEC["components"]["schemas"][model.__name__]

    assert set(schema["properties"]) == set(model.model_fields) | set(UNSERVED)
    assert schema["additionalProperties"] is False
    for name in UNSERVED.keys() - model.model_fields.keys():
        assert schema["properties"][name]["enum"] == list(UNSERVED[name])


def test_the_page_of_the_api_names_every_field_that_is_not_served_and_every_limit():
    table = PAGE[PAGE.index("| field | taken | why") :].partition("\n\n")[0]
    limits = PAGE[PAGE.index("is shown by `limits`") :].partition("\n\n")[0]

    first_cells = (line.split("|")[1] for line in table.splitlines()[2:])
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == (
        set(UNSERVED) - {"logprobs", "top_logprobs"}
    )
    assert {f"`{name}`" for name in LIMITS} <= set(re.findall(r"`\w+`", limits))


def test_every_parameter_of_decoding_is_described():
    names = [name for name in SPEC["components"]["schemas"] if name.startswith("Diffusion")]

    for name in names:
        assert set(SPEC["components"]["schemas"][name]["properties"]) == set(Diffusion.model_fields)


def test_every_error_has_its_status_somewhere():
    spec = specification(ROUTES, needs_key=True)
    responses = [each["responses"] for each in operations(spec)]
    responses.append(spec["components"]["responses"])
    described = {
        (int(status), code)
        for each in responses
        for status, response in each.items()
        for code in response["description"].split(", ")
        if status != "200"
    }

    assert described == {(KINDS[code].status, code) for code in get_args(Code)}


def test_every_schema_is_a_schema():
    for schema in SPEC["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_operations_are_named_apart():
    names = [each["operationId"] for each in operations(SPEC)]

    assert len(set(names)) == len(names)


def test_keys_are_asked_for_except_where_a_route_is_open():
    spec = specification(ROUTES, needs_key=True)

    keyed = {
        path
        for path, each in spec["paths"].items()
        for name in ("get", "head", "post")
        if "security" in each.get(name, {})
    }
    assert keyed == {route.path for route in ROUTES} - {"/health", "/ready"}
    assert spec["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


class Page(HTMLParser):
    """The tags of a page and the addresses that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str | None] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links |= {value for name, value in attrs if name in ("src", "href", "action")}


def test_the_page_shows_every_field_and_loads_nothing():
    response = TestClient(APP, URL).get("/docs")
    page = Page(response.text)

    for name in [*CompletionRequest.model_fields, *UNSERVED]:
        assert f"<td>{name}</td>" in response.text
    for name in Diffusion.model_fields:
        assert f"<td>diffusion.{name}</td>" in response.text
    assert "<td>segments[].hole</td>" in response.text
    assert page.links == {"openapi.json"}
    assert not page.tags & {"script", "link", "img", "iframe", "form"}
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_documentation_is_there_if_the_app_is_told_so():
    assert AppArgs(model="embedded").docs is False
    client = TestClient(build_api(Endpoints(FakeReplicas(), CONFIG)), URL)
    for path in ("/openapi.json", "/docs"):
        assert client.get(path).status_code == 404


def test_no_summary_is_missing():
    assert all(re.fullmatch(r"[A-Z].*[^.]", route.summary) for route in ROUTES)
