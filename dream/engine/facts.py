"""What is known of a model without its weights: tokenizer, ids, context, preset."""

from __future__ import annotations

from dataclasses import dataclass

from dream.engine.config import EngineConfig
from dream.engine.vocabulary import end_ids
from dream.model.config import read_config
from dream.model.family import preset_of
from dream.model.loader import resolve
from dream.model.tokenizer import Tokenizer
from dream.presets import Preset

__all__ = ["ModelFacts", "read_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a caller of an engine needs to know of its model.

    max_model_len: tokens of the longest canvas, under the engine's settings.
    """

    tokenizer: Tokenizer | None
    eos_token_ids: frozenset[int]
    vocab_size: int
    max_model_len: int
    preset: Preset | None


def read_facts(model: str, config: EngineConfig) -> ModelFacts:
    """The facts of "embedded", a checkpoint folder, or a Hugging Face Hub id."""
    folder = resolve(model)
    shape, tokenizer = read_config(folder), Tokenizer.from_folder(folder)
    return ModelFacts(
        tokenizer=tokenizer,
        eos_token_ids=end_ids(shape, tokenizer),
        vocab_size=shape.vocab_size,
        max_model_len=min(config.max_model_len, shape.max_position_embeddings),
        preset=preset_of(model, folder, tokenizer),
    )
