"""What differs between the routes that generate: their canvases, their answers, their chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from deployments.canvases import Presets, completion_messages, infill_messages
from deployments.chat import ChatRequest, ChatResponse, chat_messages, chat_response
from deployments.chunks import (
    ChatChunk,
    ChatChunkChoice,
    Chunk,
    CompletionChunk,
    CompletionChunkChoice,
    Delta,
    InfillChunk,
    InfillChunkChoice,
)
from deployments.conversion import Head, completion_response, infill_response, spans_of
from deployments.logprobs import chat_logprobs, completion_logprobs
from deployments.messages import CanvasRequest, CanvasResult
from deployments.requests import CompletionRequest, FimRequest, GenerationRequest, InfillRequest
from deployments.responses import ChoiceDiffusion, CompletionResponse, InfillResponse

__all__ = ["CHAT", "COMPLETION", "FIM", "INFILL", "End", "Shape"]

Wanted = TypeVar("Wanted", bound=GenerationRequest)
Given = TypeVar("Given", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a choice of a stream ended."""

    result: CanvasResult
    diffusion: ChoiceDiffusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape(Generic[Wanted, Given]):
    """One kind of generation: `request` to canvases, and results to `response` or chunks.

    prefix: of its ids. param: the field whose text is too long where a canvas is. piece: the choice
    of a chunk that adds text; None makes the first chunk of a choice, None without an end too.
    """

    prefix: str
    param: str
    request: type[Wanted]
    response: type[Given]
    chunk: type[Chunk]
    messages: Callable[[Wanted, str, int, Presets], list[CanvasRequest]]
    answer: Callable[[Wanted, Sequence[CanvasRequest], Sequence[CanvasResult], Head], Given]
    piece: Callable[[int, str, End | None, bool], BaseModel]
    num_templates: Callable[[Wanted], int]
    has_opening: bool = False


def _completion_piece(index: int, text: str, end: End | None, is_first: bool) -> BaseModel:
    if end is None:
        return CompletionChunkChoice(index=index, text=text)
    return CompletionChunkChoice(
        index=index,
        text=text,
        logprobs=completion_logprobs(end.result.holes[0]),
        finish_reason=end.result.finish_reason,
        diffusion=end.diffusion,
    )


def _infill_piece(index: int, text: str, end: End | None, is_first: bool) -> BaseModel:
    if end is None:
        return InfillChunkChoice(index=index, text=text)
    return InfillChunkChoice(
        index=index,
        text=text,
        spans=spans_of(end.result),
        finish_reason=end.result.finish_reason,
        diffusion=end.diffusion,
    )


def _chat_piece(index: int, text: str, end: End | None, is_first: bool) -> BaseModel:
    delta = Delta(role="assistant", content="") if is_first else Delta(content=text or None)
    if end is None:
        return ChatChunkChoice(index=index, delta=delta)
    return ChatChunkChoice(
        index=index,
        delta=delta,
        logprobs=chat_logprobs(end.result.holes[0]),
        finish_reason=end.result.finish_reason,
        diffusion=end.diffusion,
    )


COMPLETION: Shape[CompletionRequest, CompletionResponse] = Shape(
    prefix="cmpl",
    param="prompt",
    request=CompletionRequest,
    response=CompletionResponse,
    chunk=CompletionChunk,
    messages=completion_messages,
    answer=completion_response,
    piece=_completion_piece,
    num_templates=lambda wanted: len(wanted.prompt),
)

INFILL: Shape[InfillRequest, InfillResponse] = Shape(
    prefix="infill",
    param="segments",
    request=InfillRequest,
    response=InfillResponse,
    chunk=InfillChunk,
    messages=infill_messages,
    answer=infill_response,
    piece=_infill_piece,
    num_templates=lambda wanted: 1,
)

FIM: Shape[FimRequest, CompletionResponse] = Shape(
    prefix="cmpl",
    param="prompt",
    request=FimRequest,
    response=CompletionResponse,
    chunk=CompletionChunk,
    messages=completion_messages,
    answer=completion_response,
    piece=_completion_piece,
    num_templates=lambda wanted: len(wanted.prompt),
)

CHAT: Shape[ChatRequest, ChatResponse] = Shape(
    prefix="chatcmpl",
    param="messages",
    request=ChatRequest,
    response=ChatResponse,
    chunk=ChatChunk,
    messages=chat_messages,
    answer=chat_response,
    piece=_chat_piece,
    num_templates=lambda wanted: 1,
    has_opening=True,
)
