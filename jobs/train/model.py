"""The model a run begins with: fresh, a Dream checkpoint's, or Qwen2.5's turned into Dream.

`prepare` writes the base folder of a run: `config.json` and the tokenizer, in Dream's official
layout. `first_weights` yields the weights, tensor by tensor, under the official names.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dream.errors import CheckpointError
from dream.model.config import DreamConfig, read_config
from dream.model.loader import checkpoint_files, resolve
from dream.model.modeling import DreamModel
from dream.model.tokenizer import write_byte_tokenizer
from jobs.train.config import TrainSpec
from jobs.train.qwen2 import add_mask_token, dream_config, read_qwen2

__all__ = ["CARD", "STARTED_FROM", "VOCABULARY_FILES", "config_json", "first_weights", "prepare"]

VOCABULARY_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
"""The tokenizer files that training reads and writes."""

CARD, STARTED_FROM = "card.json", "started_from.json"
"""Of a run, written last: a folder that holds it is finished; the card of the run it continues."""

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def prepare(spec: TrainSpec, base: Path) -> DreamConfig:
    """Write config.json and the tokenizer files of the run; returns what is written."""
    base.mkdir(parents=True, exist_ok=True)
    place = spec.from_place
    if place is None:
        config = _fresh_config(spec, write_byte_tokenizer(base))
    elif spec.is_qwen2:
        config = dream_config(read_qwen2(resolve(place)), spec.mask_token_id)
        _copy_tokenizer(resolve(place), base)
        add_mask_token(base, config.mask_token_id)
    else:
        config = read_config(resolve(place))
        _copy_tokenizer(resolve(place), base)
        _copy_card(resolve(place), base)
    (base / "config.json").write_text(config_json(config), encoding="utf-8")
    return read_config(base)


def first_weights(spec: TrainSpec, config: DreamConfig) -> Iterator[tuple[str, Tensor]]:
    """Name and float32 value of every parameter that the run begins with."""
    place = spec.from_place
    if place is None:
        yield from _fresh(config, spec.seed).named_parameters()
        return
    is_tied = spec.is_qwen2 and read_qwen2(resolve(place)).tie_word_embeddings
    for name, tensor in _read(resolve(place)):
        if is_tied and name == EMBEDDING:
            yield HEAD, tensor  # Dream's head is its own: a tied one starts as a copy
        if not (is_tied and name == HEAD):
            yield name, tensor


def config_json(config: DreamConfig) -> str:
    """config.json in the published layout, under Dream's own keys."""
    keys = [*DreamConfig.__annotations__, "architectures"]
    values = {"model_type": "Dream"} | {key: getattr(config, key) for key in keys}
    fixed = {"rope_scaling": None, "tie_word_embeddings": False, "use_sliding_window": False}
    return json.dumps(values | fixed | {"torch_dtype": "bfloat16"}, indent=2, sort_keys=True) + "\n"


def _fresh_config(spec: TrainSpec, special: dict[str, int]) -> DreamConfig:
    return DreamConfig(
        architectures=["DreamModel"],
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.num_hidden_layers,
        num_attention_heads=spec.num_attention_heads,
        num_key_value_heads=spec.num_key_value_heads,
        intermediate_size=spec.intermediate_size,
        max_position_embeddings=spec.max_position_embeddings,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
        mask_token_id=special["<|mask|>"],
        eos_token_id=special["<|endoftext|>"],
        pad_token_id=special["<|endoftext|>"],
        bos_token_id=special["<|beginoftext|>"],
    )


def _fresh(config: DreamConfig, seed: int) -> DreamModel:
    """A new model: normal(0, .02) matrices, those that write to the residual scaled by depth.

    Biases are 0 and norms 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DreamModel(config)
        depth = 1.0 / math.sqrt(2 * config.num_hidden_layers)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                is_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                torch.nn.init.normal_(parameter, std=0.02 * (depth if is_residual else 1.0))
            elif name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
    return model


def _copy_tokenizer(source: Path, base: Path) -> None:
    for name in VOCABULARY_FILES:
        if not (source / name).is_file():
            raise CheckpointError(f"{source / name}: no such file; training needs the tokenizer")
        shutil.copyfile(source / name, base / name)


def _copy_card(source: Path, base: Path) -> None:
    """The card of the checkpoint as it is now, if it has one of ours."""
    try:
        card = json.loads((source / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(card, dict):
        (base / STARTED_FROM).write_text(json.dumps(card), encoding="utf-8")


def _read(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in checkpoint_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    yield name, file.get_tensor(name).float()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not readable as safetensors: {error}") from error
