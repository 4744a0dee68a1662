"""What a run begins with: Qwen2.5's weights under Dream's names, a Dream checkpoint, fresh ones."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from dream import Tokenizer
from dream.errors import CheckpointError
from dream.model.attention import PackedLayout
from dream.model.config import read_config
from dream.model.loader import EMBEDDED, load_model
from dream.model.modeling import DreamModel
from dream.model.tokenizer import write_byte_tokenizer
from jobs.train.model import first_weights, prepare
from jobs.train.network import build, fill, local_parameters
from tests.jobs.train.trainrun import TINY, spec_of

SIZES = [name for name in TINY if name.endswith(("_size", "_layers", "_heads"))]
MASK = 270


def continued(place, **changes):
    """The tiny run from other weights."""
    sizes = dict.fromkeys(name for name in SIZES if name != "batch_size")
    return spec_of(**{**sizes, "from": str(place), **changes})


@pytest.fixture(params=[False, True], ids=["head", "tied"])
def qwen2(request, tmp_path, monkeypatch):
    """A small random Qwen2 as transformers saves it, and its folder; its tokenizer has no mask."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=280,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        rope_theta=1e4,
        tie_word_embeddings=request.param,
        eos_token_id=256,
        bos_token_id=256,
    )
    model = Qwen2ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    folder = tmp_path / "qwen2"
    model.save_pretrained(folder)
    write_byte_tokenizer(folder)
    values = json.loads((folder / "tokenizer_config.json").read_text())
    del values["added_tokens_decoder"]["260"], values["mask_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return model, folder


def as_dream(folder, base):
    spec = continued(f"qwen2 {folder}", mask_token_id=MASK)
    config = prepare(spec, base)
    model = DreamModel(config).eval()
    fill(dict(model.named_parameters()), first_weights(spec, config))
    return model


def test_qwen2_becomes_dream_weight_for_weight(qwen2, tmp_path):
    original, folder = qwen2

    model = as_dream(folder, tmp_path / "base")

    expected = original.state_dict()
    assert set(expected) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_without_its_causal_mask_qwen2_gives_dreams_logits(qwen2, tmp_path):
    original, folder = qwen2
    model = as_dream(folder, tmp_path / "base")
    ids = torch.randint(0, 256, (2, 11), generator=torch.Generator().manual_seed(1))
    all_visible = torch.zeros(2, 1, 11, 11)

    with torch.no_grad():
        expected = original(ids, attention_mask=all_visible).logits
        logits = model.logits(model(ids.flatten(), PackedLayout.of([11, 11], "cpu")))
        causal = original(ids).logits

    torch.testing.assert_close(logits.view_as(expected), expected, rtol=1e-5, atol=1e-5)
    assert (causal - expected).abs().max() > 1e-2


def test_the_base_of_qwen2_is_in_dreams_layout_and_has_a_mask(qwen2, tmp_path):
    _, folder = qwen2
    as_dream(folder, tmp_path / "base")

    config = read_config(tmp_path / "base")

    assert (config.model_type, config.mask_token_id, config.eos_token_id) == ("Dream", MASK, 256)
    tokenizer = Tokenizer.from_folder(tmp_path / "base")
    assert (tokenizer.token_id("<|mask|>"), len(tokenizer)) == (MASK, MASK + 1)
    assert tokenizer.encode("<|mask|>") == list(b"<|mask|>")


@pytest.mark.parametrize(
    ("mask", "change", "message"),
    [
        (None, {}, "mask_token_id=151666 is not valid: an id below vocab_size=280"),
        (256, {}, "mask_token_id=256 is not valid"),
        (65, {}, "mask_token_id=65 is another token's id"),
        (257, {}, "mask_token_id=257 is another token's id"),
        (MASK, {"model_type": "llama"}, "model_type='llama'"),
        (MASK, {"use_sliding_window": True}, "use_sliding_window=True"),
        (MASK, {"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "rope_type='yarn'"),
    ],
)
@pytest.mark.parametrize("qwen2", [False], indirect=True, ids=["head"])
def test_a_folder_that_is_not_served_is_refused_by_name(qwen2, tmp_path, mask, change, message):
    _, folder = qwen2
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | change))

    with pytest.raises(CheckpointError) as refusal:
        prepare(continued(f"qwen2 {folder}", mask_token_id=mask), tmp_path / "base")

    assert message in str(refusal.value)


def test_any_dream_checkpoint_is_gone_on_from(tmp_path):
    spec = continued("embedded")
    config = prepare(spec, tmp_path / "base")

    network = build(config, spec, 1, first_weights(spec, config), torch.device("cpu"))

    expected = load_model(EMBEDDED, dtype=torch.float32, device="cpu").state_dict()
    parameters = local_parameters(network)
    assert set(parameters) == set(expected)
    assert all(torch.equal(parameters[name], tensor) for name, tensor in expected.items())
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "base" / name).read_bytes() == (EMBEDDED / name).read_bytes()


def test_weights_of_another_shape_or_name_are_refused():
    into = {"a": torch.zeros(2), "b": torch.zeros(3)}

    for weights, message in (
        ([("c", torch.zeros(2))], "unexpected tensor c"),
        ([("a", torch.zeros(3))], "tensor a has shape"),
        ([("a", torch.zeros(2))], "tensor b is missing"),
    ):
        with pytest.raises(CheckpointError, match=message):
            fill(into, weights)


def test_a_fresh_model_is_a_function_of_the_seed(tmp_path):
    spec = spec_of()
    config = prepare(spec, tmp_path / "base")

    one, two = (dict(first_weights(spec, config)) for _ in range(2))
    other = dict(first_weights(spec_of(seed=4), config))

    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    assert one["model.layers.0.mlp.up_proj.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert one["model.layers.0.mlp.down_proj.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert "lm_head.weight" in load_file(EMBEDDED / "model.safetensors")
