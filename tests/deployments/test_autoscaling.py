from __future__ import annotations

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingContext

from deployments.autoscaling import METRIC, BacklogPolicy

TARGET = 100.0


def replica(name: str) -> ReplicaID:
    return ReplicaID(name, DeploymentID("DreamReplica", "dream"))


def wanted(
    reported: dict[str, float],
    *,
    running: str = "abcd",
    num_running: float = 0,
    num_queued: float = 0,
    low: int = 1,
    high: int = 10,
) -> int:
    context = AutoscalingContext(
        deployment_id=DeploymentID("DreamReplica", "dream"),
        deployment_name="DreamReplica",
        app_name="dream",
        current_num_replicas=len(running),
        target_num_replicas=len(running),
        running_replicas=[replica(name) for name in running],
        total_num_requests=num_running + num_queued,
        total_queued_requests=num_queued,
        aggregated_metrics={METRIC: {replica(n): value for n, value in reported.items()}},
        raw_metrics=None,
        capacity_adjusted_min_replicas=low,
        capacity_adjusted_max_replicas=high,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=None,
    )
    return BacklogPolicy(TARGET)(context)[0]


@pytest.mark.parametrize(
    ("backlog", "replicas"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3), (10_000, 10)]
)
def test_there_is_a_replica_for_every_target_of_backlog_within_the_bounds(backlog, replicas):
    assert wanted({"a": backlog}, running="a") == replicas


def test_the_backlog_of_all_replicas_counts_together():
    assert wanted({"a": 150, "b": 150, "c": 0}, running="abc") == 3


def test_an_idle_deployment_shrinks_to_its_minimum():
    assert wanted(dict.fromkeys("abcd", 0.0), low=0) == 0
    assert wanted(dict.fromkeys("abcd", 0.0), low=2) == 2


def test_a_silent_replica_is_neither_idle_nor_a_reason_to_grow():
    assert wanted({}, running="abcd") == 4
    assert wanted({"a": 0.0}, running="abcd") == 3
    assert wanted({"a": 100.0}, running="abcd") == 4


def test_requests_that_wait_at_a_caller_count_as_the_mean_running_one():
    assert wanted({"a": 100.0}, running="a", num_running=10, num_queued=0) == 1
    assert wanted({"a": 100.0}, running="a", num_running=10, num_queued=20) == 3


def test_requests_that_wait_for_the_first_replica_count_as_a_target_each():
    assert wanted({}, running="", num_queued=3, low=0) == 3


def test_a_target_is_positive():
    with pytest.raises(ValueError):
        BacklogPolicy(0)
