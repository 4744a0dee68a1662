"""Dream's configuration, registered with transformers under model_type "Dream"."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from dream.errors import CheckpointError, InvalidRequest
from dream.memory import ModelShape

__all__ = ["DreamConfig", "read_config"]

SIZES = tuple(field.name for field in fields(ModelShape) if field.name != "head_dim")
REQUIRED = (*SIZES, "mask_token_id", "rms_norm_eps", "rope_theta", "eos_token_id")
SERVED = {
    "hidden_act": ("silu",),
    "rope_scaling": (None,),
    "rope_parameters": (None,),
    "use_sliding_window": (None, False),
    "use_mrope": (None, False),
    "tie_word_embeddings": (None, False),
}
"""Settings whose other values would change the forward; None means absent."""


class DreamConfig(PreTrainedConfig):
    """The published `config.json` of Dream; every size is required, no class default is used."""

    model_type = "Dream"
    has_no_defaults_at_init = True

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    mask_token_id: int
    eos_token_id: int | list[int]
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    hidden_act: str = "silu"
    initializer_range: float = 0.02
    attention_dropout: float = 0.0

    def __post_init__(self, **kwargs: object) -> None:
        # transformers 5 treats this key as deprecated; read_config has refused other values.
        kwargs.pop("rope_scaling", None)
        kwargs.pop("head_dim", None)
        super().__post_init__(**kwargs)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def sizes(self) -> ModelShape:
        """The sizes that decide how much memory the model takes."""
        return ModelShape(head_dim=self.head_dim, **{name: getattr(self, name) for name in SIZES})

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """The end-of-text ids; the config may hold one or a list."""
        eos = self.eos_token_id
        return frozenset(eos if isinstance(eos, list) else [eos])


def read_config(folder: Path) -> DreamConfig:
    """The configuration in `folder`, or a CheckpointError that names the file and the key."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; a checkpoint folder has one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    _check(path, values)
    known = {"architectures", "_name_or_path", *DreamConfig.__annotations__}
    return DreamConfig(**{key: value for key, value in values.items() if key in known})


def _check(path: Path, values: object) -> None:
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}, not an object")
    if values.get("model_type") != "Dream":
        found = values.get("model_type")
        raise CheckpointError(f"{path}: model_type is {found!r}; only 'Dream' is loaded")
    for key in REQUIRED:
        if values.get(key) is None:
            raise CheckpointError(f"{path}: {key} is missing; it has no default")
    for key, allowed in SERVED.items():
        if values.get(key, allowed[0]) not in allowed:
            raise CheckpointError(
                f"{path}: {key}={values[key]!r} is not served, only {allowed[-1]!r}"
            )
    _check_numbers(path, values)
    eos = values["eos_token_id"]
    for token in eos if isinstance(eos, list) else [eos]:
        if type(token) is not int:
            raise CheckpointError(
                f"{path}: eos_token_id={eos!r} is neither an id nor a list of ids"
            )


def _check_numbers(path: Path, values: dict[str, int]) -> None:
    try:
        ModelShape.from_config(values)
    except InvalidRequest as error:
        raise CheckpointError(f"{path}: {error}") from error
    for key in ("rms_norm_eps", "rope_theta"):
        if type(values[key]) not in (int, float) or not 0 < values[key] < math.inf:
            raise CheckpointError(f"{path}: {key}={values[key]!r} is not a number > 0")
    mask = values["mask_token_id"]
    if type(mask) is not int or not 0 <= mask < values["vocab_size"]:
        raise CheckpointError(f"{path}: mask_token_id {mask!r} is outside the vocabulary")


AutoConfig.register("Dream", DreamConfig)
