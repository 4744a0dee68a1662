"""Tests of `dream.memory.ModelShape`: what a config.json must have, and how a model is split."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream import EngineConfig
from dream.errors import InvalidRequest
from dream.memory import (
    DREAM_7B,
    DTYPE_BYTES,
    ModelShape,
    check_degree,
    plan,
    valid_degrees,
)
from dream.model.config import read_config
from dream.model.loader import DTYPES

CONFIG = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18_944,
    "vocab_size": 152_064,
    "max_position_embeddings": 131_072,
    "model_type": "Dream",
}
SIZES = [key for key in CONFIG if key != "model_type"]

shapes = st.builds(
    lambda kv_heads, group, head_dim, layers, mlp, vocab: ModelShape(
        hidden_size=kv_heads * group * head_dim,
        num_hidden_layers=layers,
        num_attention_heads=kv_heads * group,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=8 * mlp,
        vocab_size=8 * vocab,
        max_position_embeddings=2048,
    ),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.integers(1, 7),
    st.sampled_from([8, 64, 128]),
    st.integers(1, 40),
    st.integers(1, 3000),
    st.integers(1, 20_000),
)
dtypes = st.sampled_from(sorted(DTYPE_BYTES))


def settings(degree=1, **changes):
    return EngineConfig(device="cuda", tensor_parallel=degree, **changes)


def test_a_config_gives_the_same_shape_as_the_constant():
    assert ModelShape.from_config(CONFIG) == DREAM_7B


def test_a_head_dim_may_be_given_where_it_says_the_same():
    assert ModelShape.from_config(CONFIG | {"head_dim": 128}) == DREAM_7B
    with pytest.raises(InvalidRequest, match="head_dim=64 is not valid: 128"):
        ModelShape.from_config(CONFIG | {"head_dim": 64})


@pytest.mark.parametrize("key", SIZES)
def test_a_missing_size_is_named(key):
    config = {name: value for name, value in CONFIG.items() if name != key}

    with pytest.raises(InvalidRequest) as caught:
        ModelShape.from_config(config)

    assert caught.value.field == key


@pytest.mark.parametrize("value", [0, -1, 1.5, "28", True, None, 10**400])
def test_a_size_that_is_no_positive_integer_is_refused(value):
    with pytest.raises(InvalidRequest) as caught:
        ModelShape.from_config(CONFIG | {"num_hidden_layers": value})

    assert caught.value.field == "num_hidden_layers"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 27}, "a divisor of hidden_size=3584"),
        ({"num_key_value_heads": 3}, "a divisor of num_attention_heads=28"),
    ],
)
def test_heads_that_do_not_divide_are_refused(changes, message):
    with pytest.raises(InvalidRequest, match=message):
        ModelShape.from_config(CONFIG | changes)


def test_the_model_has_the_sizes_of_its_config(tmp_path):
    rest = {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "mask_token_id": 1, "eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | rest))

    assert read_config(tmp_path).sizes == DREAM_7B


def test_the_bytes_of_a_dtype_are_torch_s():
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == DTYPE_BYTES


def test_dream_7b_is_split_by_divisors_of_its_four_key_value_heads():
    assert valid_degrees(DREAM_7B) == (1, 2, 4)


@pytest.mark.parametrize(
    "field", ["num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"]
)
def test_a_degree_must_divide_the_heads_the_mlp_and_the_vocabulary(field):
    odd = replace(DREAM_7B, **{field: 3})

    assert valid_degrees(odd) == (1,)
    with pytest.raises(InvalidRequest, match=f"one of 1: it divides .*{field}=3"):
        check_degree(odd, 2)


@pytest.mark.parametrize("degree", [-1, 0, 3, 8, 10**400])
def test_a_degree_that_splits_unevenly_is_refused_with_those_that_do(degree):
    with pytest.raises(InvalidRequest) as caught:
        check_degree(DREAM_7B, degree)

    assert caught.value.field == "tensor_parallel"
    assert caught.value.allowed.startswith("one of 1, 2, 4: it divides num_attention_heads=28")


@given(shapes, dtypes)
def test_more_processes_never_need_more_memory_each(shape, dtype):
    needs = [plan(shape, settings(n, dtype=dtype)).total for n in valid_degrees(shape)]

    assert needs == sorted(needs, reverse=True)


@given(shapes, dtypes)
def test_the_processes_together_hold_at_least_the_whole_model(shape, dtype):
    whole = plan(shape, settings(dtype=dtype)).weights

    for degree in valid_degrees(shape):
        assert degree * plan(shape, settings(degree, dtype=dtype)).weights >= whole


def test_planning_loads_neither_torch_nor_transformers():
    code = "import sys, dream.memory; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
