"""BacklogPolicy in Serve's controller, fed by the replicas themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from deployments.messages import CanvasRequest
from deployments.replica import DreamReplica, ReplicaConfig
from dream import EngineConfig, Hole, SamplingParams
from dream.text import TextTemplate

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CONFIG = ReplicaConfig(model="embedded", engine=EngineConfig(threads=1), max_token_forwards=10**9)
METRICS_EACH_S = {"RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5"}


def num_running() -> int:
    deployment = serve.status().applications["scaled"].deployments["DreamReplica"]
    return sum(n for state, n in deployment.replica_states.items() if state == "RUNNING")


def until(is_so: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.2)


def test_a_backlog_brings_replicas_and_its_end_takes_them_away(ray_local):
    scaling = AutoscalingConfig(
        min_replicas=1,
        max_replicas=2,
        look_back_period_s=11,
        upscale_delay_s=1,
        downscale_delay_s=2,
        policy=AutoscalingPolicy(
            policy_function="deployments.autoscaling:BacklogPolicy",
            policy_kwargs={"target_seconds": 5.0},
        ),
    )
    app = serve.deployment(
        name="DreamReplica",
        autoscaling_config=scaling,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": METRICS_EACH_S}},
        max_ongoing_requests=64,
    )(DreamReplica).bind(CONFIG)
    handle = serve.run(app, name="scaled", route_prefix=None)
    assert num_running() == 1

    params = SamplingParams(steps=None, early_exit=False)
    template = TextTemplate([Hole(500)])
    messages = [CanvasRequest(id=str(i), template=template, params=params) for i in range(16)]
    work = handle.generate.remote(messages)
    until(lambda: num_running() == 2, timeout_s=60)

    work.cancel()
    until(lambda: num_running() == 1, timeout_s=60)
    serve.delete("scaled")
