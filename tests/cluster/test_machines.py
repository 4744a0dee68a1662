"""Tests of `cluster.machines`: how many replicas machines hold, and what their config file says."""

from __future__ import annotations

import pytest
import yaml

from cluster.errors import ClusterError, DoesNotFit, NotEnoughGpus, SpecError
from cluster.machines import MACHINES, capacity, memory_of_rank, read_machines
from cluster.serve import render_for_machines
from dream.memory import GIB


def replicas(name, **options):
    config = yaml.safe_load(render_for_machines(name, options))
    return config["applications"][0]["deployments"][1]


@pytest.mark.parametrize(("name", "fitting"), [("cpu", 3), ("gpu", 1), ("node", 8), ("nodes", 8)])
def test_as_many_replicas_fit_as_gpus_or_cpus_allow(name, fitting):
    assert capacity(read_machines(name, {})) == fitting


def test_without_gpus_memory_bounds_the_replicas_too():
    machines = read_machines("cpu", {"model": "Dream-org/Dream-v0-Base-7B", "memory_gib": "70"})
    each = memory_of_rank(machines).total

    assert 28 * GIB < each < 40 * GIB
    assert capacity(machines) == 70 * GIB // each == 2


def test_a_replica_stays_in_one_node():
    machines = read_machines("nodes", {"num_gpus": "3", "num_nodes": "5"})

    assert capacity(machines) == 5


@pytest.mark.parametrize(
    ("name", "options", "expected", "surge"),
    [
        ("node", {}, 7, 14),
        ("node", {"max_replicas": "8"}, 8, None),
        ("node", {"max_replicas": "4"}, 4, 100),
        ("nodes", {"num_nodes": "1"}, 3, 33),
    ],
)
def test_a_redeploy_begins_with_the_replicas_there_is_room_for(name, options, expected, surge):
    found = replicas(name, **options)

    assert found["autoscaling_config"]["max_replicas"] == expected
    assert found.get("max_surge_percent") == surge


def test_a_number_that_cannot_change_is_no_autoscaling():
    found = replicas("gpu")

    assert found["num_replicas"] == 1
    assert "autoscaling_config" not in found


@pytest.mark.parametrize(
    ("name", "options", "error", "field"),
    [
        ("moon", {}, SpecError, "on"),
        ("gpu", {"bogus": "1"}, SpecError, "bogus"),
        ("gpu", {"num_gpus": "x"}, SpecError, "num_gpus"),
        ("gpu", {"model": "a\nb"}, SpecError, "model"),
        ("cpu", {"tensor_parallel": "2"}, SpecError, "tensor_parallel"),
        ("node", {"max_replicas": "9"}, NotEnoughGpus, "max_replicas"),
        ("gpu", {"memory_gib": "12"}, DoesNotFit, None),
        ("gpu", {"tensor_parallel": "2"}, DoesNotFit, "tensor_parallel"),
        ("cpu", {"memory_gib": "0.01"}, DoesNotFit, None),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field(name, options, error, field):
    with pytest.raises(error) as caught:
        render_for_machines(name, options)

    assert isinstance(caught.value, ClusterError)
    assert field is None or caught.value.field == field


@pytest.mark.parametrize("name", MACHINES)
def test_the_first_lines_say_how_to_render_it_again(name):
    text = render_for_machines(name, {"num_ingresses": "2"})

    command = f"#   python -m cluster render --serve --on {name} num_ingresses=2"
    assert text.splitlines()[1] == command
