"""What `/v1/models` tells: what is served, with which defaults and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from deployments.canvases import Presets
from deployments.limits import LIMITS
from deployments.messages import ModelCard
from deployments.responses import Capabilities, Defaults, ModelPreset, ModelResponse
from dream.params import Order
from dream.presets import QUALITIES, find_preset, quality_of

__all__ = ["IngressConfig", "model_response", "presets_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressConfig:
    """What the HTTP layer is told once; times in seconds.

    preset: whose values requests take for what they leave out. None: only shown, if recognised.
    has_docs: whether the specification and its page are served.
    """

    model_id: str
    max_body_bytes: int
    body_timeout_s: float
    timeout_s: float
    max_token_forwards: int
    preset: str | None = None
    has_docs: bool = False


def presets_for(card: ModelCard, config: IngressConfig) -> Presets:
    """The server's preset, and that of the model."""
    return Presets(find_preset(config.preset), find_preset(config.preset or card.preset))


def model_response(card: ModelCard, config: IngressConfig, created: int) -> ModelResponse:
    """The one model; created: when the ingress started, in seconds since 1970."""
    return ModelResponse(
        id=config.model_id,
        created=created,
        max_model_len=card.max_model_len,
        preset=_shown_preset(config.preset, card.preset),
        capabilities=Capabilities(chat=bool(card.special_tokens), orders=list(get_args(Order))),
        quality=_shown_quality(presets_for(card, config)),
        weights_sha256=card.weights_sha256,
        system_fingerprint=card.fingerprint,
        defaults=Defaults.of(find_preset(config.preset)),
        limits={
            **LIMITS,
            "hole_tokens": min(LIMITS["hole_tokens"], card.max_model_len),
            "body_bytes": config.max_body_bytes,
            "timeout_s": config.timeout_s,
            "token_forwards": config.max_token_forwards,
        },
    )


def _shown_preset(default: str | None, recognised: str | None) -> ModelPreset | None:
    preset = find_preset(default or recognised)
    if preset is None:
        return None
    values = {name: getattr(preset, name) for name in ("name", "about", "source", "note")}
    return ModelPreset(**values, sampling=dict(preset.sampling), is_default=default is not None)


def _shown_quality(presets: Presets) -> dict[str, dict[str, int | float | str | None]]:
    preset = presets.sampling or presets.model
    return {name: dict(quality_of(preset, name)) for name in QUALITIES}  # type: ignore[arg-type]
