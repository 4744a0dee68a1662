"""A `user_config` that changes under a running app: the same replica obeys it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ASKED = {"model": "embedded", "prompt": "S:", "max_tokens": 8}


def deploy(limits: dict[str, Any]) -> None:
    """As `serve deploy` with a config file does."""
    application = {
        "name": "live",
        "route_prefix": "/live",
        "import_path": "deployments.app:build_app",
        "args": {"model": "embedded", "timeout_s": 60},
        "deployments": [
            {"name": "Ingress", "user_config": limits},
            {"name": "DreamReplica", "user_config": limits},
        ],
    }
    schema = ServeDeploySchema.model_validate({"applications": [application]})
    _get_global_client().deploy_apps(schema, _blocking=True)


def pids() -> dict[str, list[int]]:
    deployments = _get_global_client().get_serve_details()["applications"]["live"]["deployments"]
    return {
        name: [replica["pid"] for replica in details["replicas"]]
        for name, details in deployments.items()
    }


def status(http: httpx.Client) -> int:
    return http.post("/v1/completions", json=ASKED).status_code


def until_status(http: httpx.Client, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while status(http) != wanted:
        assert time.monotonic() < deadline, "the limit has not changed"
        time.sleep(0.1)


@pytest.fixture
def http(server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/live", timeout=60) as http:
        yield http
    serve.delete("live")


def test_limits_change_without_a_restart_and_wrong_ones_change_nothing(http):
    deploy({})
    assert status(http) == 200
    before = pids()

    deploy({"max_token_forwards": 10})
    until_status(http, 400)
    deploy({"max_token_forwards": 10, "max_token_forward": 10**6})
    time.sleep(3)

    assert status(http) == 400
    assert serve.status().applications["live"].status == "RUNNING"
    deploy({"timeout_s": 30})
    until_status(http, 200)
    assert pids() == before
    shown = http.get("/v1/models/embedded").json()["limits"]
    assert (shown["timeout_s"], shown["token_forwards"]) == (30, 2048 * 1024)
