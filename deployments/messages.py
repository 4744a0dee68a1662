"""What travels between ingress and replica: drafts one way, fillings or a refusal back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dream import Fixed, Hole, SamplingParams, Usage
from dream.request import FinishReason

__all__ = ["Draft", "FilledHole", "Filling", "ModelCard", "Refusal", "RefusalCode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One canvas before tokenisation: a template whose fixed parts may still be text.

    stop: strings that end the text of a hole. They never cut fixed text.
    """

    id: str
    segments: tuple[str | Fixed | Hole, ...]
    params: SamplingParams
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledHole:
    """The text of one hole, up to its first EOS or stop string; tokens up to the EOS."""

    id: str
    text: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """One filled canvas: its holes in order, why it ended, what it cost."""

    holes: tuple[FilledHole, ...]
    finish_reason: FinishReason
    num_canvas_tokens: int
    usage: Usage


RefusalCode = Literal["compute_budget_exceeded", "context_length_exceeded", "invalid_value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why drafts cannot be run; `field` is dream's name, None for the whole request.

    A value and not an exception: Serve logs every exception of a replica with a traceback.
    """

    code: RefusalCode
    field: str | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a replica knows about its model."""

    max_model_len: int
    vocab_size: int
