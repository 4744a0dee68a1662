"""A job is not started on a cluster that it would wait on for ever."""

from __future__ import annotations

import pytest

from jobs.common.errors import Refused
from jobs.common.session import check_resources, ray_session, row_needs
from jobs.fill.config import JobSpec


def spec_of(**more):
    return JobSpec(input=["/in"], output="/out", task="generate", model="embedded", **more)


@pytest.mark.parametrize(
    ("settings", "resources"),
    [
        ({}, {"CPU": 3.0}),
        ({"replicas": 2}, {"CPU": 4.0}),
        ({"replicas": 2, "threads": 2}, {"CPU": 6.0}),
        ({"device": "cuda", "replicas": 2, "threads": 8}, {"CPU": 3.0, "GPU": 2.0}),
    ],
)
def test_a_cluster_that_is_large_enough_is_taken(settings, resources):
    check_resources(row_needs(spec_of(**settings)), resources)


@pytest.mark.parametrize(
    ("settings", "resources", "message"),
    [
        ({}, {"CPU": 2.0}, "--replicas 1 on cpu takes 3 CPUs, and Ray has 2"),
        ({"replicas": 4}, {"CPU": 5.0}, "--replicas 4 on cpu takes 6 CPUs"),
        ({"replicas": 2, "threads": 3}, {"CPU": 7.0}, "--replicas 2 on cpu takes 8 CPUs"),
        ({"device": "cuda"}, {"CPU": 8.0}, "on cuda takes 1 GPUs, and Ray has 0"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused_with_the_number(settings, resources, message):
    with pytest.raises(Refused, match=message):
        check_resources(row_needs(spec_of(**settings)), resources)


@pytest.mark.ray
def test_a_session_within_another_uses_its_ray_and_leaves_it_running(ray_local):
    import ray

    before = ray.get_runtime_context().gcs_address

    with ray_session(row_needs(spec_of())):
        assert ray.get_runtime_context().gcs_address == before

    assert ray.is_initialized()
