"""Turns of a chat as a client sends them, and the pieces of a template that they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from deployments.allowed import WORDS
from deployments.fields import refused
from deployments.limits import MAX_MESSAGES, MAX_PARTS
from dream.chat import Turn, chat_pieces
from dream.text import Piece

__all__ = ["Message", "Messages", "check_prefix", "context_of"]


class _TextPart(BaseModel):
    """A part of a message; only text is served."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    type: Literal["text"]
    text: str


def _as_text(value: object) -> object:
    """Text that came in parts as one string."""
    if not isinstance(value, list):
        return value
    if not 1 <= len(value) <= MAX_PARTS:
        raise refused(f"a string, or a list of 1 to {MAX_PARTS} text parts")
    return "".join(_TextPart.model_validate(part).text for part in value)


_PART = _TextPart.model_json_schema()
Content = Annotated[
    str,
    BeforeValidator(_as_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": _PART, "minItems": 1, "maxItems": MAX_PARTS},
            ],
            WORDS: f"a string, or a list of 1 to {MAX_PARTS} text parts",
        }
    ),
]


class Message(BaseModel):
    """A turn of the chat; `prefix`: the answer goes on where this last turn of the assistant ends.

    `name` is accepted, but the chat template has no place for it. `refusal` and `tool_calls` are
    null in answers, which may be sent back as they came.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    role: Literal["system", "user", "assistant"]
    content: Content
    name: Annotated[str, Field(max_length=64)] | None = None
    prefix: bool = False
    refusal: None = None
    tool_calls: None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


def check_prefix(messages: Sequence[Message]) -> None:
    """Refuses `prefix` anywhere but on a last turn of the assistant."""
    for message in messages[:-1]:
        if message.prefix:
            raise refused("prefix only on the last message", param="messages")
    if messages and messages[-1].prefix and messages[-1].role != "assistant":
        raise refused("prefix only on a message of the assistant", param="messages")


def context_of(messages: Sequence[Message]) -> tuple[Piece, ...]:
    """What a chat puts before the answer."""
    turns = [Turn(message.role, message.content) for message in messages]
    return tuple(chat_pieces(turns, is_open=bool(messages) and messages[-1].prefix))
