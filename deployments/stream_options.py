"""How a caller wants to see an answer: at once or as it forms, and how much of its making."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.messages import StreamMode, View
from deployments.time_options import Quality, TimeOptions
from dream.params import MAX_STEPS

__all__ = ["QUALITY_OF", "AnswerOptions", "Effort", "StreamOptions"]

Effort = Literal["minimal", "low", "medium", "high"]

QUALITY_OF: Mapping[Effort, Quality] = {
    "minimal": "fast",
    "low": "fast",
    "medium": "balanced",
    "high": "best",
}
"""What OpenAI's `reasoning_effort` means here."""


class AnswerOptions(TimeOptions):
    """Fields of `diffusion` that are no sampling parameters."""

    quality: Quality | None = Field(
        None, description="Steps and rule by name, as /v1/models shows them; given values win"
    )
    stream: StreamMode = Field(
        "text", description="What a stream shows: finished text, each step too, or snapshots"
    )
    stream_every: Annotated[int, Field(ge=1, le=MAX_STEPS)] = Field(
        1, description="Steps from one snapshot of a stream to the next"
    )
    confidence: bool = Field(True, description="Whether steps show the probability of each token")
    trace: bool = Field(False, description="Whether the answer says what each step committed")

    @property
    def view(self) -> View:
        """What the stream shows."""
        return View(mode=self.stream, every=self.stream_every)


class StreamOptions(BaseModel):
    """OpenAI's `stream_options`; `include_obfuscation` is accepted where it asks for nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None
