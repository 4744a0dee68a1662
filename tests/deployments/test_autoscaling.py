from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingContext

from deployments.autoscaling import METRIC, PACE, BacklogPolicy

PER_S = 20.0
TARGET_S = 5.0
"""So that 100 token-forwards are what one replica is to have."""


def replica(name: str) -> ReplicaID:
    return ReplicaID(name, DeploymentID("DreamReplica", "dream"))


def wanted(
    reported: dict[str, float],
    *,
    running: str = "abcd",
    paces: dict[str, float] | None = None,
    num_running: float = 0,
    num_queued: float = 0,
    low: int = 1,
    high: int = 10,
) -> int:
    paces = dict.fromkeys(reported, PER_S) if paces is None else paces
    context = AutoscalingContext(
        deployment_id=DeploymentID("DreamReplica", "dream"),
        deployment_name="DreamReplica",
        app_name="dream",
        current_num_replicas=len(running),
        target_num_replicas=len(running),
        running_replicas=[replica(name) for name in running],
        total_num_requests=num_running + num_queued,
        total_queued_requests=num_queued,
        aggregated_metrics={
            METRIC: {replica(n): value for n, value in reported.items()},
            PACE: {replica(n): value for n, value in paces.items()},
        },
        raw_metrics=None,
        capacity_adjusted_min_replicas=low,
        capacity_adjusted_max_replicas=high,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=None,
    )
    return BacklogPolicy(TARGET_S)(context)[0]


@pytest.mark.parametrize(
    ("backlog", "replicas"), [(0, 1), (1, 1), (100, 1), (101, 2), (250, 3), (10_000, 10)]
)
def test_replicas_are_added_until_each_has_the_target_within_the_bounds(backlog, replicas):
    assert wanted({"a": backlog}, running="a") == replicas


def test_a_faster_replica_takes_more():
    assert wanted({"a": 400.0}, running="a", paces={"a": PER_S}) == 4
    assert wanted({"a": 400.0}, running="a", paces={"a": 2 * PER_S}) == 2
    assert wanted({"a": 400.0, "b": 0.0}, running="ab", paces={"a": 10.0, "b": 30.0}) == 4


def test_the_backlog_of_all_replicas_counts_together():
    assert wanted({"a": 150, "b": 150, "c": 0}, running="abc") == 3


@pytest.mark.parametrize(("backlog", "replicas"), [(0, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_a_replica_goes_when_the_others_would_be_half_full(backlog, replicas):
    assert wanted({"a": backlog, "b": 0.0, "c": 0.0}, running="abc") == replicas


@settings(max_examples=200, derandomize=True, deadline=None)
@given(backlog=st.floats(0, 2_000), num_running=st.integers(1, 10))
def test_a_number_that_is_wanted_stays_wanted(backlog, num_running):
    names = "abcdefghijklmnopqrst"
    chosen = wanted(
        {"a": backlog} | dict.fromkeys(names[1:num_running], 0.0),
        running=names[:num_running],
        high=20,
    )

    again = wanted(
        {"a": backlog} | dict.fromkeys(names[1:chosen], 0.0), running=names[:chosen], high=20
    )

    assert again == chosen


@settings(max_examples=200, derandomize=True, deadline=None)
@given(less=st.floats(0, 2_000), more=st.floats(0, 2_000), num_running=st.integers(1, 6))
def test_more_work_never_wants_fewer_replicas(less, more, num_running):
    running = "abcdef"[:num_running]
    idle = dict.fromkeys(running, 0.0)

    numbers = [wanted(idle | {"a": work}, running=running) for work in sorted((less, more))]

    assert numbers == sorted(numbers)


def test_an_idle_deployment_shrinks_to_its_minimum():
    assert wanted(dict.fromkeys("abcd", 0.0), low=0) == 0
    assert wanted(dict.fromkeys("abcd", 0.0), low=2) == 2


def test_a_silent_replica_is_neither_idle_nor_a_reason_to_grow():
    assert wanted({}, running="abcd") == 4
    assert wanted({"a": 0.0}, running="abcd") == 3
    assert wanted({"a": 100.0}, running="abcd") == 4


def test_before_a_pace_is_measured_work_keeps_the_replicas_that_there_are():
    assert wanted({"a": 10_000.0, "b": 1.0}, running="ab", paces={}) == 2
    assert wanted({"a": 10_000.0, "b": 0.0}, running="ab", paces={"b": 0.0}) == 2
    assert wanted({"a": 0.0, "b": 0.0}, running="ab", paces={}, low=0) == 0


def test_requests_that_wait_at_a_caller_count_as_the_mean_running_one():
    assert wanted({"a": 100.0}, running="a", num_running=10, num_queued=0) == 1
    assert wanted({"a": 100.0}, running="a", num_running=10, num_queued=20) == 3


def test_requests_that_wait_for_the_first_replica_count_as_a_target_each():
    assert wanted({}, running="", num_queued=3, low=0) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target_seconds": 0}, "target_seconds=0: a number > 0"),
        ({"scale_down_fraction": 0}, "scale_down_fraction=0: above 0"),
        ({"scale_down_fraction": 1.5}, "scale_down_fraction=1.5: above 0, at most 1"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        BacklogPolicy(**settings)
