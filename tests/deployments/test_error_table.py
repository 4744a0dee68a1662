"""The error table of docs/api.md, row by row: every code is provoked and answers as it says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, get_args

import httpx
import pytest
from starlette.testclient import TestClient

from deployments.endpoints import Endpoints
from deployments.errors import ApiError, Code
from deployments.gate import GateConfig
from deployments.ingress import build_api
from deployments.messages import Refusal
from deployments.model_card import IngressConfig
from tests.deployments.fakes import URL, FakeReplicas
from tests.deployments.test_key_file import created

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
CONFIG = IngressConfig(
    model_id="m", max_body_bytes=500, body_timeout_s=0.05, timeout_s=0.05, max_token_forwards=1000
)
BODY = {"model": "m", "prompt": "p"}


class Row(NamedTuple):
    status: int
    code: str
    should_retry: str | None


def rows() -> list[Row]:
    """One for each code, in the order of the page."""
    found: list[Row] = []
    table = PAGE[PAGE.index("| status | `code` |") :].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        status, codes, _, should_retry = (cell.strip() for cell in line.strip("|").split("|"))
        for code in re.findall(r"`(\w+)`", codes):
            found.append(Row(int(status), code, should_retry or None))
    return found


def complete(client: TestClient, **fields: object):
    return client.post("/v1/completions", json=BODY | fields)


def with_trouble(trouble: Exception | Refusal):
    def provoke(client: TestClient, replicas: FakeReplicas):
        replicas.trouble = trouble
        return complete(client)

    return provoke


def refused(code: str, field: str | None):
    return with_trouble(Refusal(code=code, field=field, message="less"))


def when_slow(client: TestClient, replicas: FakeReplicas):
    replicas.delay_s = 5
    return complete(client)


def when_not_ready(client: TestClient, replicas: FakeReplicas):
    replicas.ready = False
    return client.get("/ready")


def when_late(client: TestClient, replicas: FakeReplicas):
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(600)

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(client.app)
        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url=URL) as late:
            return await late.post("/v1/completions", content=endless(), headers=headers)

    return asyncio.run(post())


def raw(content: bytes, content_type: str = "application/json"):
    headers = {"content-type": content_type}
    return lambda client, _: client.post("/v1/completions", content=content, headers=headers)


def with_key(*words: str, path: str = "/v1/models", calls: int = 1, sends: bool = True):
    """The last of some calls at the same time, with a key made by these words."""

    def provoke(client: TestClient, replicas: FakeReplicas):
        with TemporaryDirectory() as folder:
            file = Path(folder) / "keys.json"
            secret = created(file, "alice", *words).decode()
            app = build_api(
                Endpoints(FakeReplicas(delay_s=0.05), CONFIG), GateConfig(keys=str(file))
            )
            headers = {"authorization": f"Bearer {secret}"} if sends else {}
            return asyncio.run(together(app, path, headers, calls))

    return provoke


async def together(app, path: str, headers: dict[str, str], calls: int) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
        if path == "/v1/models":
            work = [client.get(path) for _ in range(calls)]
        else:
            work = [client.post(path, json=BODY) for _ in range(calls)]
        return (await asyncio.gather(*work))[-1]


PROVOKE: Mapping[str, Callable[[TestClient, FakeReplicas], object]] = {
    "invalid_json": raw(b"{"),
    "invalid_value": lambda client, _: complete(client, n=0),
    "missing_required_parameter": raw(b'{"model": "m"}'),
    "unknown_parameter": lambda client, _: complete(client, frobnicate=1),
    "unsupported_parameter": lambda client, _: complete(client, logit_bias={"1": 1}),
    "context_length_exceeded": refused("context_length_exceeded", "template"),
    "deadline_infeasible": refused("deadline_infeasible", "deadline_ms"),
    "compute_budget_exceeded": refused("compute_budget_exceeded", None),
    "model_not_found": lambda client, _: complete(client, model="other"),
    "not_found": lambda client, _: client.get("/nothing"),
    "method_not_allowed": lambda client, _: client.get("/v1/completions"),
    "request_timeout": when_late,
    "request_too_large": raw(b" " * 501),
    "unsupported_media_type": raw(b"{}", "text/plain"),
    "internal_error": with_trouble(RuntimeError("secret")),
    "model_loading": when_not_ready,
    "overloaded": refused("overloaded", None),
    "replica_lost": with_trouble(ApiError("replica_lost", "lost")),
    "timeout": when_slow,
    "invalid_api_key": with_key(sends=False),
    "permission_denied": with_key("--scope", "metrics"),
    "rate_limit_exceeded": with_key("--requests-per-minute", "1", calls=2),
    "queue_full_for_key": with_key("--concurrent-requests", "1", path="/v1/completions", calls=2),
}


def test_the_table_has_every_code():
    assert sorted(row.code for row in rows()) == sorted(get_args(Code))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.code)
def test_an_error_is_as_its_row_says(row):
    replicas = FakeReplicas()
    app = build_api(Endpoints(replicas, CONFIG))
    with TestClient(app, URL, raise_server_exceptions=False) as client:
        response = PROVOKE[row.code](client, replicas)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (row.status, row.code)
    assert response.headers.get("x-should-retry") == row.should_retry
    assert ("allow" in response.headers) is (row.status == 405)
    assert "secret" not in response.text
