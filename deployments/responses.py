"""Bodies of answers: OpenAI's shapes, with everything of diffusion under one key."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from deployments.requests import Diffusion
from dream.params import Alg, Order, Window
from dream.request import FinishReason

__all__ = [
    "AnswerUsage",
    "Capabilities",
    "ChoiceDiffusion",
    "CompletionAnswer",
    "CompletionChoice",
    "Defaults",
    "InfillAnswer",
    "InfillChoice",
    "InfillSpan",
    "ModelAnswer",
    "ModelList",
    "Resolved",
    "UsageDiffusion",
]


class _Answer(BaseModel):
    """A part of an answer; every key is dumped, whether it was set or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Resolved(_Answer):
    """The sampling values that were used; `alg` is None where `order` replaced it.

    `steps` is None where a growing canvas gave each run one for each of its masked tokens.
    """

    steps: int | None
    alg: Alg | None
    alg_temp: float | None
    eps: float
    order: Order
    early_exit: bool
    temperature: float
    top_p: float | None
    top_k: int | None
    threshold: float | None
    low_threshold: float | None
    factor: float | None
    entropy_bound: float | None
    entropy_threshold: float | None
    min_commits: int
    max_commits: int | None
    block_length: int | None
    frontier: int | None
    eos_frontier: int | None
    eos_annealing: float | None
    egi_temperature: float | None
    history: int
    history_top: int
    grow_to: int | None
    window: Window | None
    refresh_every: int | None
    vicinity: int
    suffix_window: int | None


class ChoiceDiffusion(_Answer):
    """What repeats a choice: the same body with this seed and n=1 gives the same text."""

    seed: int
    resolved: Resolved


class UsageDiffusion(_Answer):
    """What the canvases cost, summed; `token_forwards` is rows x forward passes.

    `forced_commits` are masks that the timetable filled although the commit rule did not;
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


class AnswerUsage(_Answer):
    """OpenAI's counts; a prompt counts once however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    diffusion: UsageDiffusion


class CompletionChoice(_Answer):
    """The text of one hole."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: FinishReason
    diffusion: ChoiceDiffusion


class CompletionAnswer(_Answer):
    """Answer of POST /v1/completions."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: AnswerUsage


class InfillSpan(_Answer):
    """The text of one hole of a template, and how many tokens it took."""

    id: str
    text: str
    tokens: int


class InfillChoice(_Answer):
    """A filled template: the whole text, in which fixed text is that of the request."""

    index: int
    text: str
    spans: list[InfillSpan]
    finish_reason: FinishReason
    diffusion: ChoiceDiffusion


class InfillAnswer(_Answer):
    """Answer of POST /v1/infill."""

    id: str
    object: Literal["infill"] = "infill"
    created: int
    model: str
    choices: list[InfillChoice]
    usage: AnswerUsage


class Capabilities(_Answer):
    """What a client may ask of this model."""

    chat: bool = False
    completions: bool = True
    infill: bool = True
    logprobs: bool = False
    stream: bool = False
    orders: list[Order]


class Defaults(_Answer):
    """What holds for a field a request leaves out."""

    max_tokens: int = 16
    temperature: float = 0.0
    n: int = 1
    diffusion: Diffusion = Diffusion(alg="entropy")


class ModelAnswer(_Answer):
    """One entry of GET /v1/models; OpenAI's four fields come first."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "dream-cluster"
    max_model_len: int
    capabilities: Capabilities
    defaults: Defaults
    limits: dict[str, int | float]


class ModelList(_Answer):
    """Answer of GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]
