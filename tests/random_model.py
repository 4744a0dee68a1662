"""A random checkpoint on disk, small enough for every test that needs a folder of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel
from jobs.train.model import config_json


def save_random_model(folder: Path, seed: int = 3) -> Path:
    """A random checkpoint in the official layout, whose parts 1, 2 and 4 processes may hold."""
    config = DreamConfig(
        vocab_size=512,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=160,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        rope_theta=1e4,
        mask_token_id=501,
        eos_token_id=500,
    )
    torch.manual_seed(seed)
    model = DreamModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15) if parameter.ndim == 2 else parameter.fill_(1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config_json(config))
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    return folder
