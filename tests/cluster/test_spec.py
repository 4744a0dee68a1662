"""Tests of `cluster.spec` and `cluster.launcher`: which launcher files are accepted."""

from __future__ import annotations

import contextlib
import copy
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import SpecError
from cluster.render import render
from cluster.spec import load, parse, read_shape
from dream.memory import DREAM_7B, GIB, ModelShape
from tests.cluster.samples import LOCAL_OPTIONS

AWS = yaml.safe_load(render("aws", {"machines": "p5.4xlarge:2,p5.48xlarge:1"}))
LOCAL = yaml.safe_load(render("local", LOCAL_OPTIONS))


def dumped(config):
    return yaml.safe_dump(config, sort_keys=False)


def changed(config, path, value):
    """A copy of `config` with the entry at dotted `path` set, or removed if value is None."""
    config = copy.deepcopy(config)
    *parents, last = path.split("/")
    inner = config
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return dumped(config)


def test_node_types_come_from_the_launcher_and_gpu_memory_from_our_block():
    spec = parse(dumped(AWS))

    assert [(t.name, t.num_cpus, t.num_gpus, t.max_nodes) for t in spec.node_types] == [
        ("p5.4xlarge", 16, 1, 2),
        ("p5.48xlarge", 192, 8, 1),
    ]
    assert {t.gpu_memory_bytes for t in spec.node_types} == {79 * GIB}


def test_a_head_with_a_gpu_or_with_gpus_left_to_the_machine_is_refused():
    for resources in ({"CPU": 0, "GPU": 8}, {"CPU": 0}):
        with pytest.raises(SpecError, match="GPU: 0"):
            parse(changed(AWS, "available_node_types/head/resources", resources))


def test_the_node_type_of_provider_local_comes_from_our_block():
    (node_type,) = parse(dumped(LOCAL)).node_types

    assert (node_type.num_cpus, node_type.num_gpus, node_type.max_nodes) == (64, 8, 2)


def test_a_spec_plans_the_most_replicas_it_allows():
    made = parse(dumped(AWS)).plan(DREAM_7B)

    assert made.num_replicas == 4
    assert [use.node_type for use in made.nodes] == ["p5.4xlarge", "p5.48xlarge"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("max_wrokers", 3),
        ("dream", {}),
        ("provider", {"region": "us-west-2"}),
        ("available_node_types/p5.4xlarge/min_wrokers", 0),
        ("available_node_types/p5.4xlarge/resources", {"CPU": 1.5, "GPU": 1}),
        ("available_node_types/p5.4xlarge/min_workers", 9),
        ("head_node_type", "haed"),
        ("head_node_type", None),
        ("setup_commands", "pip install"),
        ("docker", 3),
        ("file_mounts", [1]),
    ],
)
def test_what_ray_refuses_is_refused(path, value):
    with pytest.raises(SpecError):
        parse(changed(AWS, path, value))


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("metadata/dream/tensor_paralel", 2, "metadata.dream.tensor_paralel"),
        ("metadata/dream/replicas/mni", 1, "metadata.dream.replicas.mni"),
        ("metadata/dream/replicas", {"min": 3, "max": 2}, "metadata.dream.replicas"),
        ("metadata/dream/dtype", "int4", "metadata.dream.dtype"),
        ("metadata/dream/model", None, "metadata.dream.model"),
        ("metadata/dream/tensor_parallel", 0, "metadata.dream.tensor_parallel"),
        ("metadata/dream/max_rows", 16_384, "metadata.dream.max_rows"),
        ("metadata/dream/max_cache_tokens", -1, "metadata.dream.max_cache_tokens"),
        ("metadata/dream/gpu_memory_gib", {"p5.4xlarge": 79}, "metadata.dream.gpu_memory_gib"),
        (
            "metadata/dream/gpu_memory_gib/p5.4xlarge",
            float("nan"),
            "metadata.dream.gpu_memory_gib.p5.4xlarge",
        ),
        (
            "metadata/dream/local_node",
            {"num_cpus": 1, "num_gpus": 1},
            "metadata.dream.local_node",
        ),
        ("metadata", None, "metadata"),
        ("max_workers", 2, "max_workers"),
        ("available_node_types/head/resources", {"CPU": 8}, "available_node_types.head.resources"),
        ("available_node_types/head/resources", {}, "available_node_types.head.resources"),
    ],
)
def test_what_we_refuse_is_refused_by_name(path, value, field):
    with pytest.raises(SpecError) as caught:
        parse(changed(AWS, path, value))

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("available_node_types", AWS["available_node_types"]),
        ("metadata/dream/local_node", None),
        ("metadata/dream/gpu_memory_gib", {"h100": 79}),
        ("provider/head_ip", None),
    ],
)
def test_a_local_file_with_the_shape_of_a_cloud_is_refused(path, value):
    with pytest.raises(SpecError):
        parse(changed(LOCAL, path, value))


@pytest.mark.parametrize("ips", [["y", "y"], ["10.0.0.1", "y"]])
def test_a_local_machine_is_counted_once(ips):
    with pytest.raises(SpecError, match="each machine once"):
        parse(changed(LOCAL, "provider/worker_ips", ips))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gpu_memory_gib/p5.4xlarge", 1e308),
        ("gpu_memory_gib/p5.4xlarge", float("inf")),
        ("max_num_batched_tokens", 10**400),
        ("max_logit_rows", 10**400),
        ("max_cache_tokens", 10**400),
    ],
)
def test_a_number_too_large_to_compute_with_is_refused_by_name(path, value):
    with pytest.raises(SpecError, match=path.split("/")[0]):
        parse(changed(AWS, f"metadata/dream/{path}", value))


def test_more_cpus_than_can_be_computed_with_are_refused():
    with pytest.raises(SpecError, match="num_cpus"):
        parse(changed(LOCAL, "metadata/dream/local_node/num_cpus", 10**400))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "a: [",
        "1: 2",
        "metadata: {dream: {}}",
        "a: 2001-99-99",
        "a: !!bool x",
        "a: !!int ''",
        "a: !!timestamp x",
        "a: " + "9" * 5000,
        "a: 0x" + "f" * 5000,
        "a: " + "[" * 5000 + "]" * 5000,
        "&a {metadata: *a}",
    ],
    ids=range(13),
)
def test_text_that_is_no_launcher_file_is_refused_in_words(text):
    with pytest.raises(SpecError, match=" is "):
        parse(text)


@pytest.mark.parametrize("depth", range(20, 200, 20))
def test_a_value_nested_at_any_depth_is_refused_and_never_a_crash(depth):
    value = "[" * depth + "]" * depth

    for text in (f"max_workers: {value}", dumped(AWS) + f"docker: {{image: {value}}}\n"):
        with pytest.raises(SpecError):
            parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(AWS)), json_values)
def test_any_value_under_a_launcher_key_is_accepted_or_refused_and_never_a_crash(key, value):
    with contextlib.suppress(SpecError):
        parse(dumped({**AWS, key: value}))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match="No such file"):
        load(tmp_path / "cluster.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "cluster.yaml").write_bytes(b"\xff\xfe")

    with pytest.raises(SpecError, match="UTF-8"):
        load(tmp_path / "cluster.yaml")


def test_a_hub_id_has_the_shape_of_dream_7b():
    assert read_shape("Dream-org/Dream-v0-Base-7B") == DREAM_7B


def test_a_checkpoint_that_can_be_read_gives_its_own_shape(tmp_path):
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 512,
        "max_position_embeddings": 256,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))

    expected = ModelShape.from_config(config)
    assert read_shape(str(tmp_path)) == expected
    assert read_shape("any", tmp_path / "config.json") == expected


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000], ids=["{", "[]", "{}", "deep"])
def test_a_config_json_that_cannot_be_used_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(SpecError):
        read_shape(str(tmp_path))


def test_a_config_json_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"config\.json"):
        read_shape("any", tmp_path / "config.json")
