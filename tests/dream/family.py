"""Tiny random checkpoints with the config and tokenizer of each member of the family.

Ids, sizes of the vocabulary and special tokens are the published ones; the network is as small as
can be. The middle of the vocabulary is filled with tokens that no text gives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from dream.model.config import read_config
from dream.model.modeling import DreamModel
from dream.model.tokenizer import _byte_symbols

FIRST_ADDED, VOCAB = 151_643, 152_064
EOS, IM_END, BOS, MASK, NEXT = 151_643, 151_645, 151_665, 151_666, 151_667
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN += [f"<|qwen_{number}|>" for number in range(FIRST_ADDED + 3, BOS)]
"""The 22 tokens that Qwen2.5 adds; the names of most do not matter here."""


@dataclass(frozen=True)
class Member:
    """What sets a checkpoint apart: bos of its config, its context, and tokens after the mask."""

    hub_id: str
    preset: str
    bos: int = EOS
    max_position_embeddings: int = 131_072
    extra: list[str] = field(default_factory=list)


CODER = {"bos": BOS, "max_position_embeddings": 32_768}
MEMBERS = [
    Member("Dream-org/Dream-v0-Base-7B", "dream-v0-base"),
    Member("Dream-org/Dream-v0-Instruct-7B", "dream-v0-instruct"),
    Member("Dream-org/Dream-Coder-v0-Base-7B", "dream-coder-v0-base", **CODER),
    Member("Dream-org/Dream-Coder-v0-Instruct-7B", "dream-coder-v0-instruct", **CODER),
    Member("apple/DiffuCoder-7B-Base", "diffucoder-base"),
    Member("apple/DiffuCoder-7B-Instruct", "diffucoder-instruct", extra=["<|dlm_pad|>"]),
    Member("apple/DiffuCoder-7B-cpGRPO", "diffucoder-instruct", extra=["<|dlm_pad|>"]),
    Member("d3LLM/d3LLM_Dream", "d3llm-dream"),
    Member("Dream-org/DreamOn-v0-7B", "dreamon-v0", extra=["<|expand|>", "<|delete|>"], **CODER),
]


def write_member(member: Member, parent: Path, name: str | None = None) -> Path:
    """A checkpoint of this member, in a folder named as on the Hub."""
    folder = parent / (name or member.hub_id.rpartition("/")[2])
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_config(member)))
    (folder / "vocab.json").write_text(_vocab())
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config(member)))
    torch.manual_seed(0)
    state = DreamModel(read_config(folder)).bfloat16().state_dict()
    save_file(state, folder / "model.safetensors")
    return folder


def _config(member: Member) -> dict[str, object]:
    return {
        "architectures": ["DreamModel"],
        "model_type": "Dream",
        "auto_map": {"AutoModel": "modeling_dream.DreamModel"},
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 8,
        "max_window_layers": 28,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_scaling": None,
        "vocab_size": VOCAB,
        "mask_token_id": MASK,
        "pad_token_id": EOS,
        "eos_token_id": EOS,
        "bos_token_id": member.bos,
        "max_position_embeddings": member.max_position_embeddings,
        "use_cache": True,
        "use_sliding_window": False,
    }


@cache
def _vocab() -> str:
    names = [*_byte_symbols(), *(f"unused {number}" for number in range(256, FIRST_ADDED))]
    return json.dumps({name: number for number, name in enumerate(names)})


def _tokenizer_config(member: Member) -> dict[str, object]:
    names = [*QWEN, "<|beginoftext|>", "<|mask|>", *member.extra]
    flags = {"special": True, "normalized": False, "lstrip": False, "rstrip": False}
    return {
        "added_tokens_decoder": {
            str(FIRST_ADDED + index): {"content": name, "single_word": False} | flags
            for index, name in enumerate(names)
        },
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "bos_token": "<|beginoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "tokenizer_class": "DreamTokenizer",
    }
