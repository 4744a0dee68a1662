"""What travels between ingress and replica: canvases to fill one way, results or a refusal back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dream import SamplingParams, Usage
from dream.request import FinishReason
from dream.text import TextTemplate

__all__ = ["CanvasRequest", "CanvasResult", "FilledHole", "ModelCard", "Refusal", "RefusalCode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasRequest:
    """One canvas to fill, before tokenisation.

    seeds: of the choices that this canvas answers, one for each. Several share a canvas only
    where no noise is drawn. stop: strings that end the text of a hole; they never cut fixed text.
    """

    id: str
    template: TextTemplate
    params: SamplingParams
    seeds: tuple[int, ...] = (0,)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledHole:
    """The text of one hole, up to its first EOS or stop string; tokens up to the EOS."""

    id: str
    text: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasResult:
    """One filled canvas: its holes in order, why it ended, what it cost."""

    holes: tuple[FilledHole, ...]
    finish_reason: FinishReason
    num_canvas_tokens: int
    usage: Usage


RefusalCode = Literal[
    "compute_budget_exceeded", "context_length_exceeded", "invalid_value", "overloaded"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why canvases are not run; `field` is dream's name, None for the whole request.

    A value and not an exception: Serve logs every exception of a replica with a traceback.
    """

    code: RefusalCode
    message: str
    field: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a replica knows about its model; `preset` is the name it was recognised by."""

    max_model_len: int
    preset: str | None = None
