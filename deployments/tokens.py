"""Text to token ids and back, as requests and responses."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.fields import refused
from deployments.limits import MAX_TOKEN_ID, MAX_TOKENS
from deployments.turns import Messages, check_prefix, context_of
from dream.text import TextTemplate

__all__ = ["DetokenizeRequest", "DetokenizeResponse", "TokenizeRequest", "TokenizeResponse"]

ModelId = Annotated[str, Field(min_length=1, max_length=512)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TokenizeRequest(_Wire):
    """POST /v1/tokenize: a text, or a chat up to where its answer begins."""

    model: ModelId
    prompt: str | None = None
    messages: Messages | None = None

    @model_validator(mode="after")
    def _is_text_or_chat(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise refused("a string, or else messages", param="prompt")
        check_prefix(self.messages or [])
        return self

    @property
    def template(self) -> TextTemplate:
        """What is to be tokenised."""
        if self.messages is not None:
            return TextTemplate(context_of(self.messages))
        return TextTemplate([self.prompt or ""])

    @property
    def param(self) -> str:
        """The field that has the text."""
        return "prompt" if self.messages is None else "messages"


class TokenizeResponse(_Wire):
    """The ids, how many they are, and how many the model takes."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(_Wire):
    """POST /v1/detokenize."""

    model: ModelId
    tokens: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]], Field(max_length=MAX_TOKENS)
    ]


class DetokenizeResponse(_Wire):
    """The text of the ids; special tokens stand as their names."""

    prompt: str
