"""What a client gets back: OpenAI's shapes, with all that is about diffusion under one key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from deployments.events import Event
from deployments.fields import with_options
from deployments.logprobs import ChatLogprobs, CompletionLogprobs
from deployments.requests import OPENAI_NAMED, CompletionRequest, Diffusion
from dream import SamplingParams
from dream.options import options_of
from dream.params import Order
from dream.presets import Preset, with_preset
from dream.request import FinishReason

__all__ = [
    "Capabilities",
    "ChoiceDiffusion",
    "CompletionChoice",
    "CompletionResponse",
    "Defaults",
    "EmptyResponse",
    "InfillChoice",
    "InfillResponse",
    "InfillSpan",
    "ModelListResponse",
    "ModelPreset",
    "ModelResponse",
    "Resolved",
    "ResponseUsage",
    "UsageDiffusion",
]


class _Response(BaseModel):
    """A JSON object of a response; every key is dumped, whether it was set or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmptyResponse(_Response):
    """The response of GET /health and /ready: all is well."""


@with_options(SamplingParams, leave_out={"seed"}, nullable={"alg"}, is_required=True)
class Resolved(_Response):
    """The sampling values that were used; `alg` is None where `order` replaced it.

    `steps` is None where a growing canvas took one step for each of its masks at each size, and
    where there are more masks than a request may ask for steps.
    """


class ChoiceDiffusion(_Response):
    """What repeats a choice: the same request with this seed and n=1 gives the same text.

    `deadline_met`: whether it was done in time, where it had a deadline. `timetable`: where the
    number of steps was not the one asked for, what repeats the choice in place of the deadline.
    `trace`, where it was asked for: what happened on the canvas, as a stream of steps tells it.
    """

    seed: int
    resolved: Resolved
    deadline_met: bool | None = None
    timetable: list[list[int]] | None = None
    trace: list[Event] | None = None


class UsageDiffusion(_Response):
    """What the canvases that ran cost, summed; `token_forwards` is tokens x forward passes.

    `forced_commits` counts masks that the timetable filled and the commit rule did not allow;
    `approximation` names the approximate mode that ran, None for exact decoding; `bit_exact` says
    whether the same request has the same bits in any batch.
    """

    steps: int
    forward_passes: int
    token_forwards: int
    canvas_tokens: int
    tokens_per_forward: float
    forced_commits: int
    approximation: str | None
    bit_exact: bool


class ResponseUsage(_Response):
    """OpenAI's counts, over the canvases that ran; a prompt counts once for all its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    diffusion: UsageDiffusion


class CompletionChoice(_Response):
    """The text of one hole."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason
    diffusion: ChoiceDiffusion


class CompletionResponse(_Response):
    """The response of POST /v1/completions."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: ResponseUsage


class InfillSpan(_Response):
    """The text of one hole of a template, and how many tokens it took."""

    id: str
    text: str
    tokens: int
    logprobs: ChatLogprobs | None = None


class InfillChoice(_Response):
    """A filled template: the whole text, with the fixed text exactly as the request had it."""

    index: int
    text: str
    spans: list[InfillSpan]
    finish_reason: FinishReason
    diffusion: ChoiceDiffusion


class InfillResponse(_Response):
    """The response of POST /v1/infill."""

    id: str
    object: Literal["infill"] = "infill"
    created: int
    model: str
    system_fingerprint: str
    choices: list[InfillChoice]
    usage: ResponseUsage


class Capabilities(_Response):
    """What a client may ask of this model."""

    chat: bool
    completions: bool = True
    infill: bool = True
    logprobs: bool = True
    stream: bool = True
    orders: list[Order]


class Defaults(_Response):
    """The value of each field that a request leaves out."""

    max_tokens: int = CompletionRequest.model_fields["max_tokens"].default
    temperature: float = CompletionRequest.model_fields["temperature"].default
    top_p: float | None = None
    top_k: int | None = None
    n: int = CompletionRequest.model_fields["n"].default
    diffusion: Diffusion

    @classmethod
    def of(cls, preset: Preset | None) -> Defaults:
        """The defaults of a server whose requests take this preset."""
        values = {"alg": options_of(SamplingParams)["alg"].default} | with_preset(preset, {})
        named = {name: values.pop(name) for name in OPENAI_NAMED & values.keys()}
        diffusion = values | {"preset": None if preset is None else preset.name}
        return cls(diffusion=Diffusion.model_validate(diffusion), **named)


class ModelPreset(_Response):
    """Sampling that the model's authors published, and where; `is_default` where it is applied."""

    name: str
    about: str
    sampling: dict[str, int | float | str | None]
    source: str
    note: str | None
    is_default: bool


class ModelResponse(_Response):
    """One entry of GET /v1/models; OpenAI's four fields come first."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dream-cluster"
    max_model_len: int
    weights_sha256: str
    system_fingerprint: str
    preset: ModelPreset | None
    quality: dict[str, dict[str, int | float | str | None]]
    capabilities: Capabilities
    defaults: Defaults
    limits: dict[str, int | float]


class ModelListResponse(_Response):
    """The response of GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelResponse]
