"""Chat completions: turns of a chat as what stands before one hole, and the answer as a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.canvases import Presets, answering, canvases
from deployments.conversion import Head, choices_of, diffusion_of, usage_of
from deployments.fields import refused
from deployments.limits import MAX_HOLE_TOKENS
from deployments.logprobs import ChatLogprobs, chat_logprobs
from deployments.messages import CanvasRequest, CanvasResult
from deployments.requests import OneHoleRequest
from deployments.responses import ChoiceDiffusion, ResponseUsage
from deployments.turns import Messages, check_prefix
from dream import Hole
from dream.request import MAX_LOGPROBS, FinishReason
from dream.text import TextTemplate

__all__ = ["ChatChoice", "ChatRequest", "ChatResponse", "chat_messages", "chat_response"]

DEFAULT_CHAT_TOKENS = 256


class ChatRequest(OneHoleRequest):
    """POST /v1/chat/completions: a chat, and a hole for the assistant's answer."""

    messages: Messages
    max_tokens: Annotated[int, Field(ge=1, le=MAX_HOLE_TOKENS)] = DEFAULT_CHAT_TOKENS
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _prefix_is_last(self) -> Self:
        check_prefix(self.messages)
        if self.top_logprobs and not self.logprobs:
            raise refused("null or 0 without logprobs", param="top_logprobs")
        return self

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives that are reported beside each token; None reports nothing."""
        return (self.top_logprobs or 0) if self.logprobs else None


class ChatMessage(BaseModel):
    """The answer of the assistant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    diffusion: ChoiceDiffusion


class ChatResponse(BaseModel):
    """The response of POST /v1/chat/completions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: ResponseUsage


def chat_messages(
    request: ChatRequest, response_id: str, seed: int, presets: Presets
) -> list[CanvasRequest]:
    """The canvases of the chat: the turns, and a hole that ends where a turn does."""
    template = TextTemplate([Hole(request.max_tokens)])
    plain = canvases(request, [template], response_id, seed, presets)
    return answering(plain, request.messages)


def chat_response(
    request: ChatRequest,
    messages: Sequence[CanvasRequest],
    results: Sequence[CanvasResult],
    head: Head,
) -> ChatResponse:
    """OpenAI's chat.completion."""
    choices = [
        ChatChoice(
            index=index,
            message=ChatMessage(content=result.holes[0].text),
            logprobs=chat_logprobs(result.holes[0]),
            finish_reason=result.finish_reason,
            diffusion=diffusion_of(message, result, seed),
        )
        for index, (message, result, seed) in enumerate(choices_of(messages, results))
    ]
    return ChatResponse(**head._asdict(), choices=choices, usage=usage_of(results, 1))
