"""A Qwen2.5 folder read as Dream: its configuration, its tokenizer with a mask token in it.

Dream 7B began as Qwen2.5 7B: all weights copied under the same names, the attention without its
causal mask (this network has none), the shift kept, and one id that had no token as the mask.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dream.errors import CheckpointError
from dream.model.config import DreamConfig

__all__ = ["DREAM_MASK", "Qwen2", "add_mask_token", "dream_config", "read_qwen2"]

DREAM_MASK = 151666
"""Dream 7B's mask: an id for which Qwen2.5's embedding has a row and its tokenizer no token."""

MASK_TOKEN, BEGIN_TOKEN = "<|mask|>", "<|beginoftext|>"


class Rope(BaseModel):
    """Rotary settings as transformers 5 writes them."""

    model_config = ConfigDict(extra="forbid")

    rope_theta: float
    rope_type: Literal["default"] = "default"


class Qwen2(BaseModel):
    """What matters of a Qwen2.5 config.json; other values of the literals are not served."""

    model_type: Literal["qwen2"]
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    eos_token_id: int | list[int]
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    initializer_range: float = 0.02
    tie_word_embeddings: bool = False
    rope_theta: float | None = None
    rope_parameters: Rope | None = None
    rope_scaling: None = None
    use_sliding_window: Literal[False] = False
    hidden_act: Literal["silu"] = "silu"


def read_qwen2(folder: Path) -> Qwen2:
    """config.json of a Qwen2.5 folder; CheckpointError names the file and the key."""
    path = folder / "config.json"
    try:
        return Qwen2.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: not readable: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        raise CheckpointError(f"{path}: {name}={problem['input']!r}: {problem['msg']}") from error


def dream_config(qwen2: Qwen2, mask_token_id: int | None) -> DreamConfig:
    """Dream's configuration of the same sizes."""
    mask = DREAM_MASK if mask_token_id is None else mask_token_id
    eos = qwen2.eos_token_id
    ends = eos if isinstance(eos, list) else [eos]
    if mask >= qwen2.vocab_size or mask in ends:
        raise CheckpointError(
            f"mask_token_id={mask} is not valid: an id below vocab_size={qwen2.vocab_size} that "
            "has no token yet"
        )
    theta = qwen2.rope_parameters.rope_theta if qwen2.rope_parameters else qwen2.rope_theta
    if theta is None:
        raise CheckpointError("config.json: rope_theta is missing; it has no default")
    same = {name: getattr(qwen2, name) for name in DreamConfig.__annotations__.keys() & SAME}
    return DreamConfig(
        architectures=["DreamModel"],
        mask_token_id=mask,
        rope_theta=theta,
        pad_token_id=ends[0] if qwen2.pad_token_id is None else qwen2.pad_token_id,
        **same,
    )


def add_mask_token(folder: Path, mask_token_id: int) -> None:
    """Make `<|mask|>` the token of this id, which must have had none.

    A tokenizer numbers added tokens without gaps, so the ids between its last one and the mask
    get tokens too; the one right before it is Dream's `<|beginoftext|>`, if there is none yet.
    """
    path = folder / "tokenizer_config.json"
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")).items())
        vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        added = dict((values.get("added_tokens_decoder") or {}).items())
        names = {int(token_id): token["content"] for token_id, token in added.items()}
        names |= {token_id: token for token, token_id in vocab.items()}
        unused = range(max(names) + 1, mask_token_id)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not the tokenizer of Qwen2.5: {error!r}") from error
    if names.get(mask_token_id, MASK_TOKEN) != MASK_TOKEN:
        raise CheckpointError(f"{path}: mask_token_id={mask_token_id} is another token's id")
    new = {token_id: f"<|unused_{token_id}|>" for token_id in unused}
    if unused and BEGIN_TOKEN not in names.values():
        new[unused[-1]] = BEGIN_TOKEN
    flags = dict.fromkeys(("normalized", "lstrip", "rstrip", "single_word"), False)
    for token_id, content in (new | {mask_token_id: MASK_TOKEN}).items():
        added[str(token_id)] = {"content": content, "special": True, **flags}
    values |= {"added_tokens_decoder": added, "mask_token": MASK_TOKEN}
    values |= {"tokenizer_class": "DreamTokenizer"}
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


SAME = Qwen2.model_fields.keys() - {"model_type", "pad_token_id", "rope_theta"}
"""Keys that mean the same in both; those Dream's config lacks drop out."""
