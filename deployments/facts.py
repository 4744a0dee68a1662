"""What a replica tells about its model and its arithmetic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import version

from deployments.messages import ModelCard
from dream import EngineConfig
from dream.chat import TURN_END, TURN_START
from dream.engine.facts import ModelFacts
from dream.model.loader import resolve, weights_sha256
from dream.options import options_of

__all__ = ["card_of"]


def card_of(facts: ModelFacts, config: EngineConfig, model: str) -> Callable[[], ModelCard]:
    """A call that gives the card; its first one reads all weights."""
    assert facts.tokenizer is not None
    preset = None if facts.preset is None else facts.preset.name
    special = tuple(t for t in (TURN_START, TURN_END) if t in facts.tokenizer.special_tokens)
    settings = {
        name: getattr(config, name)
        for name, one in options_of(EngineConfig).items()
        if one.changes_tokens
    }

    @cache
    def card() -> ModelCard:
        weights = weights_sha256(resolve(model))
        known = [weights, version("dream-cluster"), version("torch"), settings]
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
        return ModelCard(
            max_model_len=facts.max_model_len,
            preset=preset,
            special_tokens=special,
            weights_sha256=weights,
            fingerprint=f"fp_{digest[:16]}",
        )

    return card
