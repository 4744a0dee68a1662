"""The chunks of streams: OpenAI's shapes, with what diffusion adds under one key."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from deployments.events import Event
from deployments.responses import ChoiceDiffusion, InfillSpan, ResponseUsage
from dream.request import FinishReason

__all__ = ["ChatChunk", "ChatChunkChoice", "Chunk", "CompletionChunk", "CompletionChunkChoice"]
__all__ += ["Delta", "InfillChunk", "InfillChunkChoice"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CompletionChunkChoice(_Part):
    """Text that follows that of earlier chunks of this choice."""

    index: int
    text: str = ""
    logprobs: None = None
    finish_reason: FinishReason | None = None
    diffusion: ChoiceDiffusion | None = None


class InfillChunkChoice(_Part):
    """Text that follows; the spans come with the finish reason."""

    index: int
    text: str = ""
    spans: list[InfillSpan] | None = None
    finish_reason: FinishReason | None = None
    diffusion: ChoiceDiffusion | None = None


class Delta(BaseModel):
    """What is added to the message; keys that add nothing are left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _leave_out_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, str]:
        return {name: value for name, value in dump(self).items() if value is not None}


class ChatChunkChoice(_Part):
    """A part of one choice's message."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None = None
    diffusion: ChoiceDiffusion | None = None


class Chunk(_Part):
    """What every chunk has; `usage` stands in the last one, if it was asked for.

    diffusion: news of the canvas, in streams of steps or snapshots.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: ResponseUsage | None = None
    diffusion: Event | None = None


class CompletionChunk(Chunk):
    """A chunk of POST /v1/completions."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChunkChoice]


class ChatChunk(Chunk):
    """A chunk of POST /v1/chat/completions."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatChunkChoice]


class InfillChunk(Chunk):
    """A chunk of POST /v1/infill."""

    object: Literal["infill.chunk"] = "infill.chunk"
    choices: list[InfillChunkChoice]
