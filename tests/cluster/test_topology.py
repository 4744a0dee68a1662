"""Tests of `cluster.topology`: where replicas go, and why some cannot."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DoesNotFit, NotEnoughGpus, PlanError, SpecError
from cluster.settings import EngineSettings
from cluster.topology import NodeType, ReplicaResources, plan, replica_resources
from dream import memory
from dream.errors import InvalidRequest, MemoryExceeded
from dream.memory import CUDA_CONTEXT, DREAM_7B, GIB


def node_type(name="h100", cpus=96.0, gpus=8, gib=79.0, nodes=2):
    return NodeType(
        name=name,
        num_cpus=cpus,
        num_gpus=gpus,
        gpu_memory_bytes=int(gib * GIB),
        max_nodes=nodes,
    )


def settings(size=1, **changes):
    return EngineSettings(tensor_parallel=size, **changes)


def placed(types, num_replicas=1, *, size=1, **options):
    return plan(DREAM_7B, settings(size), types, num_replicas=num_replicas, **options)


def smallest(types, num_replicas=1):
    return placed(types, num_replicas, smallest=True)


node_types = st.lists(
    st.builds(
        node_type,
        name=st.sampled_from("abcde"),
        cpus=st.integers(0, 16).map(float),
        gpus=st.integers(0, 8),
        gib=st.sampled_from([5.0, 9.0, 13.0, 24.0, 80.0]),
        nodes=st.integers(0, 4),
    ),
    max_size=4,
    unique_by=lambda item: item.name,
)
cases = st.tuples(node_types, st.sampled_from([1, 2, 4]), st.integers(1, 40), st.integers(1, 3))


def capacity(types, size, cpus):
    """How many replicas the arithmetic allows, counted the slow way."""
    need = memory.plan(DREAM_7B, settings(size)).total + CUDA_CONTEXT
    replicas = 0
    for item in types:
        if item.gpu_memory_bytes < need:
            continue
        gpus, free = item.num_gpus, item.num_cpus
        while gpus >= size and free >= size * cpus:
            gpus, free, replicas = gpus - size, free - size * cpus, replicas + item.max_nodes
    return replicas


def test_dream_7b_in_bfloat16_goes_on_one_gpu_of_80_gb():
    made = smallest([node_type(gpus=1, nodes=1)])

    assert made.tensor_parallel == 1
    assert made.bundles == [{"GPU": 1, "CPU": 1.0}]
    assert [(p.replica, p.node_type, p.node) for p in made.placements] == [(0, "h100", 0)]


@pytest.mark.parametrize("size", [2, 4])
def test_a_tensor_parallel_replica_has_a_bundle_per_rank_on_one_node(size):
    made = placed([node_type(nodes=1)], size=size)

    assert made.bundles == [{"GPU": 1, "CPU": 1.0}] * size
    assert made.strategy == "STRICT_PACK"
    assert made.num_gpus == size


def test_many_replicas_fill_one_node_before_the_next():
    made = placed([node_type(nodes=4)], 10, size=2)

    (use,) = made.nodes
    assert (use.num_nodes, use.replicas_per_node, use.num_replicas) == (3, 4, 10)
    assert (made.num_replicas, made.num_nodes, made.num_gpus) == (10, 3, 20)


def test_several_node_types_are_used_in_the_order_given():
    small, large = node_type("small", gpus=1, nodes=2), node_type("large", gpus=4, nodes=1)

    made = placed([small, large], 5)

    assert [(use.node_type, use.num_replicas) for use in made.nodes] == [("small", 2), ("large", 3)]


def test_without_a_size_the_fewest_ranks_that_fit_are_taken():
    made = smallest([node_type(gib=14.0)])

    assert made.tensor_parallel == 2


def test_a_gpu_too_small_is_refused_as_the_engine_would_with_what_would_fit():
    with pytest.raises(DoesNotFit) as caught:
        placed([node_type(gib=18.0)])

    with pytest.raises(MemoryExceeded) as engine:
        memory.check(DREAM_7B, settings(), 18 * GIB - CUDA_CONTEXT)
    assert caught.value.field == engine.value.field == "max_num_batched_tokens"
    assert engine.value.allowed in caught.value.allowed


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_rank_fits_exactly_where_the_engine_would_start(size):
    need = memory.plan(DREAM_7B, settings(size)).total + CUDA_CONTEXT
    exact = replace(node_type(), gpu_memory_bytes=need)

    assert placed([exact], size=size).memory.total == need - CUDA_CONTEXT
    with pytest.raises(DoesNotFit):
        placed([replace(exact, gpu_memory_bytes=need - 1)], size=size)


def test_without_a_size_a_gpu_too_small_is_refused_for_the_most_ranks():
    with pytest.raises(DoesNotFit, match=r"tensor_parallel 4, .*the plan needs 8 GiB .*2\.5 GiB"):
        smallest([node_type(gib=3.0)])


def test_a_size_that_splits_unevenly_is_refused_with_those_that_do_not():
    with pytest.raises(PlanError, match="one of 1, 2, 4: it divides num_attention_heads=28"):
        placed([node_type()], size=8)


def test_a_size_must_divide_the_vocabulary_as_the_engine_demands():
    shape = replace(DREAM_7B, vocab_size=152_065)

    with pytest.raises(PlanError, match=r"one of 1: it divides .*vocab_size=152065"):
        plan(shape, settings(2), [node_type()], num_replicas=1)
    with pytest.raises(InvalidRequest, match="one of 1"):
        memory.check_degree(shape, 2)


def test_too_few_gpus_are_refused_with_what_is_needed_and_what_there_is():
    with pytest.raises(NotEnoughGpus, match=r"needs 36 GPUs.* tops out at 16 \(8 replicas\)"):
        placed([node_type(nodes=2)], 18, size=2)


def test_without_a_size_too_few_gpus_are_refused_for_the_fewest_ranks():
    with pytest.raises(NotEnoughGpus, match="tensor_parallel 1 needs 17 GPUs"):
        smallest([node_type(nodes=2)], 17)


def test_a_group_may_not_span_nodes():
    with pytest.raises(DoesNotFit, match="fit in one node: needs 4 GPUs"):
        placed([node_type(gpus=2, nodes=9)], size=4)


def test_the_cpus_of_a_node_bound_its_replicas():
    made = placed([node_type(cpus=8.0, nodes=3)], 6, num_cpus=3.0)

    assert made.nodes[0].replicas_per_node == 2


def test_a_cluster_without_gpus_is_refused():
    with pytest.raises(DoesNotFit, match="0 GiB are free on the largest GPU"):
        placed([node_type(gpus=0)])


def test_two_node_types_of_one_name_are_refused():
    with pytest.raises(PlanError, match="each name once"):
        placed([node_type(), node_type()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_replicas": 0},
        {"num_cpus": 0.0},
        {"num_cpus": float("nan")},
    ],
)
def test_a_number_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(PlanError) as caught:
        placed([node_type()], **wrong)

    assert [caught.value.field] == list(wrong)


@pytest.mark.parametrize("wrong", [{"gpus": -1}, {"cpus": float("inf")}, {"nodes": -1}])
def test_a_node_type_that_cannot_exist_is_refused(wrong):
    with pytest.raises(SpecError, match="finite number >= 0"):
        node_type(**wrong)


@given(cases)
def test_a_plan_is_refused_exactly_if_the_arithmetic_says_so(case):
    types, size, num_replicas, cpus = case

    try:
        made = placed(types, num_replicas, size=size, num_cpus=float(cpus))
    except PlanError:
        made = None

    assert (made is not None) == (capacity(types, size, cpus) >= num_replicas)


@given(cases)
def test_every_replica_is_placed_once_and_no_node_is_over_its_gpus_or_cpus(case):
    types, size, num_replicas, cpus = case
    if capacity(types, size, cpus) < num_replicas:
        return

    made = placed(types, num_replicas, size=size, num_cpus=float(cpus))

    by_name = {item.name: item for item in types}
    loads = Counter((p.node_type, p.node) for p in made.placements)
    assert [p.replica for p in made.placements] == list(range(num_replicas))
    for (name, node), replicas in loads.items():
        assert node < by_name[name].max_nodes
        assert replicas * size <= by_name[name].num_gpus
        assert replicas * size * cpus <= by_name[name].num_cpus
        assert by_name[name].gpu_memory_bytes >= made.memory.total + CUDA_CONTEXT
    assert sum(use.num_replicas for use in made.nodes) == num_replicas
    assert made.num_nodes == len(loads)


@given(node_types, st.integers(1, 20))
def test_without_a_size_the_smallest_possible_is_taken_or_none_is(types, num_replicas):
    possible = [size for size in (1, 2, 4) if capacity(types, size, 1) >= num_replicas]

    try:
        chosen = [smallest(types, num_replicas).tensor_parallel]
    except PlanError:
        chosen = []

    assert chosen == possible[:1]


@given(node_types, st.integers(1, 20))
def test_a_larger_gpu_never_makes_a_plan_impossible(types, num_replicas):
    larger = [replace(item, gpu_memory_bytes=2 * item.gpu_memory_bytes) for item in types]
    if capacity(types, 1, 1) < num_replicas:
        return

    made = placed(larger, num_replicas)

    assert made.num_replicas == num_replicas


def test_one_rank_on_cuda_asks_for_a_gpu_and_no_placement_group():
    assert replica_resources(device="cuda", num_cpus=2.0) == ReplicaResources(
        ray_actor_options={"num_cpus": 2.0, "num_gpus": 1},
        placement_group_bundles=None,
        placement_group_strategy=None,
    )


def test_on_cpu_a_replica_asks_for_no_gpu():
    assert replica_resources(device="cpu").ray_actor_options == {"num_cpus": 1.0}


def test_with_several_ranks_the_bundles_have_everything_and_the_replica_nothing():
    assert replica_resources(device="cuda", tensor_parallel=2) == ReplicaResources(
        ray_actor_options={"num_cpus": 0},
        placement_group_bundles=[{"GPU": 1, "CPU": 1.0}, {"GPU": 1, "CPU": 1.0}],
        placement_group_strategy="STRICT_PACK",
    )


def test_several_ranks_on_cpu_have_bundles_without_gpus():
    asked = replica_resources(device="cpu", tensor_parallel=2, num_cpus=0.5)

    assert asked.placement_group_bundles == [{"CPU": 0.5}, {"CPU": 0.5}]


@pytest.mark.parametrize("wrong", [{"tensor_parallel": 0}, {"num_cpus": 0.0}])
def test_resources_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(PlanError) as caught:
        replica_resources(device="cuda", **wrong)

    assert [caught.value.field] == list(wrong)


def test_planning_imports_neither_ray_nor_torch():
    code = "import sys, cluster.topology, cluster.providers, cluster.settings\n"
    code += "sys.exit(bool({'ray', 'torch', 'transformers'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_a_model_in_8_bits_fits_a_gpu_of_12_gb_in_one_process(dtype):
    small = [node_type(gib=12.0, gpus=2)]
    fewer = {"max_num_batched_tokens": 4096, "max_logit_rows": 128}

    made = plan(DREAM_7B, settings(dtype=dtype, **fewer), small, num_replicas=4, smallest=True)

    assert (made.tensor_parallel, len(made.placements)) == (1, 4)
    with pytest.raises(DoesNotFit):
        plan(DREAM_7B, settings(**fewer), small, num_replicas=1)
    with pytest.raises(PlanError, match=f"1 with dtype {dtype}"):
        plan(DREAM_7B, settings(2, dtype=dtype, **fewer), small, num_replicas=1)
