"""A wrong or incomplete checkpoint is a typed error that names the file or the tensor."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from dream.errors import CheckpointError
from dream.model.config import DreamConfig
from dream.model.loader import checkpoint_files, load_model, resolve, weights_sha256
from tests.models import GOLDEN


@pytest.fixture
def single(tmp_path):
    return shutil.copytree(GOLDEN / "ckpt_a", tmp_path / "a")


@pytest.fixture
def sharded(tmp_path):
    return shutil.copytree(GOLDEN / "ckpt_b", tmp_path / "b")


def load(folder):
    return load_model(folder, dtype=torch.float32, device="cpu")


def edit_config(folder, **changes):
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))


def edit_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def assert_refused(folder, *words):
    with pytest.raises(CheckpointError) as error:
        load(folder)
    for word in words:
        assert word in str(error.value)


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00003.safetensors").unlink()

    assert_refused(sharded, "model-00002-of-00003.safetensors", "missing")


def test_a_missing_tensor_is_named(single):
    edit_tensors(single / "model.safetensors", lambda t: t.pop("model.norm.weight"))

    assert_refused(single, "model.norm.weight", "missing")


def test_an_unexpected_tensor_is_named(single):
    edit_tensors(single / "model.safetensors", lambda t: t.update(extra=torch.ones(1)))

    assert_refused(single, "unexpected tensor extra")


def test_a_wrong_shape_is_named_with_both_shapes(single):
    edit_tensors(
        single / "model.safetensors", lambda t: t.update({"model.norm.weight": torch.ones(3)})
    )

    assert_refused(single, "model.norm.weight", "[3]", "[64]")


def test_integer_weights_are_refused(single):
    edit_tensors(
        single / "model.safetensors",
        lambda t: t.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)}),
    )

    assert_refused(single, "model.norm.weight", "torch.int8")


def test_a_pickle_is_never_loaded(single):
    (single / "model.safetensors").rename(single / "pytorch_model.bin")

    assert_refused(single, "pytorch_model.bin", "pickled")


def test_a_truncated_file_is_named(single):
    path = single / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])

    assert_refused(single, "model.safetensors", "not readable")


def test_an_index_that_points_outside_the_folder_is_refused(sharded):
    index = sharded / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["lm_head.weight"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(values))

    assert_refused(sharded, "../elsewhere.safetensors")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"mask_token_id": "absent"}, "mask_token_id is missing"),
        ({"mask_token_id": None}, "mask_token_id is missing"),
        ({"mask_token_id": 512}, "outside the vocabulary"),
        ({"hidden_size": "absent"}, "hidden_size is missing"),
        ({"model_type": "qwen2"}, "qwen2"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"hidden_size": 2**70}, "hidden_size"),
        ({"rms_norm_eps": "a"}, "rms_norm_eps"),
        ({"rope_theta": "1e6"}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"eos_token_id": [1, "a"]}, "eos_token_id"),
        ({"head_dim": 32}, "head_dim=32 is not valid: 16"),
    ],
)
def test_a_config_that_is_not_dreams_is_refused(single, changes, word):
    edit_config(single, **changes)

    assert_refused(single, "config.json", word)


@pytest.mark.parametrize(
    "extra", [{"head_dim": 16}, {"torch_dtype": "float99"}, {"id2label": {"a": 1}}]
)
def test_keys_that_change_nothing_are_no_obstacle(single, extra):
    edit_config(single, **extra)

    assert load(single).config.head_dim == 16


@pytest.mark.parametrize("weight_map", [[], "x", None, 3])
def test_an_index_of_another_shape_is_named(sharded, weight_map):
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))

    assert_refused(sharded, "not a safetensors index")


def test_a_config_that_is_not_json_is_named(single):
    (single / "config.json").write_text("{")

    assert_refused(single, "config.json", "JSON")


def test_a_folder_without_weights_or_config_says_so(tmp_path):
    assert_refused(tmp_path, "config.json", "no such file")
    shutil.copy(GOLDEN / "ckpt_a" / "config.json", tmp_path)
    assert_refused(tmp_path, "model.safetensors")


def test_a_model_that_is_nowhere_says_what_was_tried(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve(str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="neither 'embedded', nor a folder"):
        resolve("nobody/no-such-model")


def test_transformers_knows_the_model_type(single):
    """Without remote code, in spite of the published auto_map."""
    assert isinstance(AutoConfig.from_pretrained(single), DreamConfig)


def test_the_digest_changes_with_the_weights_and_the_config(single, sharded):
    before = weights_sha256(single)
    assert before != weights_sha256(sharded)
    assert len(checkpoint_files(sharded)) == 3

    edit_config(single, rms_norm_eps=1e-5)

    assert weights_sha256(single) != before
