"""Tests of `cluster.footprint`: parameters, bytes, and what a config.json must have."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SpecError
from cluster.footprint import DREAM_7B, GIB, ModelFootprint

CONFIG = {
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "model_type": "Dream",
}

footprints = st.builds(
    lambda kv_heads, group, head_dim, layers, mlp, vocab, dtype: ModelFootprint(
        hidden_size=kv_heads * group * head_dim,
        num_hidden_layers=layers,
        num_attention_heads=kv_heads * group,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=8 * mlp,
        vocab_size=vocab,
        dtype=dtype,
    ),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.integers(1, 7),
    st.sampled_from([8, 64, 128]),
    st.integers(1, 40),
    st.integers(1, 3000),
    st.integers(1, 200_000),
    st.sampled_from(["bfloat16", "float16", "float32"]),
)


def test_dream_7b_has_the_parameters_of_its_checkpoint():
    assert DREAM_7B.num_parameters == 7_615_616_512
    assert DREAM_7B.weight_bytes == 2 * 7_615_616_512


def test_one_gpu_of_80_gb_holds_dream_7b_in_bfloat16_and_one_of_16_gib_does_not():
    need = DREAM_7B.memory_bytes(1, 16_384, 512)

    assert 16 * GIB < need < 20 * GIB


def test_a_packed_row_is_three_hidden_and_three_mlp_vectors():
    assert DREAM_7B.activation_bytes_per_row(1) == 2 * (3 * 3584 + 3 * 18944)


def test_a_logit_row_is_held_in_the_model_dtype_and_twice_in_float32():
    assert DREAM_7B.logit_bytes_per_row == 152064 * (2 + 4 + 4)


def test_tensor_parallel_sizes_divide_the_four_kv_heads():
    assert DREAM_7B.tensor_parallel_sizes == (1, 2, 4)


def test_a_config_gives_the_same_footprint_as_the_constant():
    assert ModelFootprint.from_config(CONFIG, "bfloat16") == DREAM_7B


def test_a_config_with_its_own_head_dim_keeps_it():
    assert ModelFootprint.from_config({**CONFIG, "head_dim": 64}, "float32").head_dim == 64


@pytest.mark.parametrize("key", [key for key in CONFIG if key != "model_type"])
def test_a_missing_key_is_named(key):
    config = {name: value for name, value in CONFIG.items() if name != key}

    with pytest.raises(SpecError) as caught:
        ModelFootprint.from_config(config, "bfloat16")

    assert caught.value.field == key


@pytest.mark.parametrize("value", [0, -1, 1.5, "28", True, None, 10**400])
def test_a_value_that_is_no_positive_integer_is_refused(value):
    with pytest.raises(SpecError, match="num_hidden_layers"):
        ModelFootprint.from_config({**CONFIG, "num_hidden_layers": value}, "bfloat16")


def test_heads_that_do_not_divide_the_hidden_size_are_refused():
    with pytest.raises(SpecError, match="divisor of hidden_size 3584"):
        ModelFootprint.from_config({**CONFIG, "num_attention_heads": 27}, "bfloat16")


def test_an_unknown_dtype_is_refused_with_the_ones_allowed():
    with pytest.raises(SpecError, match="bfloat16, float16, float32"):
        ModelFootprint.from_config(CONFIG, "int8")


@given(footprints)
def test_one_rank_alone_holds_every_weight(footprint):
    assert footprint.weight_bytes_per_rank(1) == footprint.weight_bytes


@given(footprints, st.integers(1, 10_000), st.integers(1, 1_000))
def test_more_ranks_never_need_more_memory_each(footprint, rows, logit_rows):
    sizes = footprint.tensor_parallel_sizes

    needs = [footprint.memory_bytes(size, rows, logit_rows) for size in sizes]

    assert needs == sorted(needs, reverse=True)


@given(footprints, st.integers(1, 10_000), st.integers(1, 1_000))
def test_memory_grows_with_rows_logit_rows_layers_and_vocabulary(footprint, rows, logit_rows):
    need = footprint.memory_bytes(1, rows, logit_rows)
    deeper = replace(footprint, num_hidden_layers=footprint.num_hidden_layers + 1)
    wordier = replace(footprint, vocab_size=footprint.vocab_size + 1)

    assert footprint.memory_bytes(1, rows + 1, logit_rows) > need
    assert footprint.memory_bytes(1, rows, logit_rows + 1) > need
    assert deeper.memory_bytes(1, rows, logit_rows) > need
    assert wordier.memory_bytes(1, rows, logit_rows) > need


@given(footprints)
def test_the_ranks_together_hold_at_least_the_whole_model(footprint):
    for size in footprint.tensor_parallel_sizes:
        assert size * footprint.weight_bytes_per_rank(size) >= footprint.weight_bytes
