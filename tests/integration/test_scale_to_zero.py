"""An app of no replicas: a request wakes it, is answered, and it sleeps again."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from ray import serve

from deployments.app import AppArgs, build_app
from tests.integration.test_autoscaling import METRICS_EACH_S, until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCALING = {
    "min_replicas": 0,
    "max_replicas": 1,
    "initial_replicas": 0,
    "upscale_delay_s": 0,
    "downscale_delay_s": 2,
    "look_back_period_s": 11,
    "policy": {"policy_function": "deployments.autoscaling:BacklogPolicy"},
}


def num_replicas() -> int:
    deployment = serve.status().applications["zero"].deployments["DreamReplica"]
    return sum(deployment.replica_states.values())


@pytest.fixture
def http(server) -> Iterator[httpx.Client]:
    app = build_app(AppArgs(model="embedded", timeout_s=60))
    replicas = app._bound_deployment.init_args[0]
    options = {"num_cpus": 1, "runtime_env": {"env_vars": METRICS_EACH_S}}
    replicas._bound_deployment = replicas._bound_deployment.options(
        autoscaling_config=SCALING, ray_actor_options=options
    )
    serve.run(app, name="zero", route_prefix="/zero")
    with httpx.Client(base_url=f"{server.url}/zero", timeout=90) as http:
        yield http
    serve.delete("zero")


def test_a_request_wakes_an_app_of_no_replicas_and_is_answered(http):
    asked = {"model": "embedded", "prompt": "S:", "max_tokens": 8, "seed": 1}
    texts = []
    for _ in range(2):
        assert num_replicas() == 0
        assert http.get("/ready").status_code == 200

        answer = http.post("/v1/completions", json=asked)

        assert answer.status_code == 200
        texts.append(answer.json()["choices"][0]["text"])
        assert num_replicas() == 1
        until(lambda: num_replicas() == 0, timeout_s=90)
    assert texts[0] == texts[1]


def test_requests_that_wake_it_together_are_all_answered(http):
    asked = {"model": "embedded", "prompt": "S:", "max_tokens": 8, "stream": True}
    until(lambda: num_replicas() == 0, timeout_s=90)

    with (
        httpx.Client(base_url=http.base_url, timeout=90) as other,
        http.stream("POST", "/v1/completions", json=asked) as first,
        other.stream("POST", "/v1/completions", json=asked) as second,
    ):
        assert "[DONE]" in second.read().decode()
        assert "[DONE]" in first.read().decode()
