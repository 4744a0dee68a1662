"""What a client sends: every field has bounds, and an unknown field is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from deployments.allowed import WORDS
from deployments.fields import PresetName, bounds, checked, refused, with_options
from deployments.inputs import HoleId, Prompt, Prompts, Stops
from deployments.limits import (
    LIMITS,
    MAX_HOLE_TOKENS,
    MAX_HOLES,
    MAX_METADATA,
    MAX_N,
    MAX_SEGMENTS,
    MAX_USER_CHARS,
)
from deployments.openai_fields import UNSERVED, add_openai, take_openai
from deployments.stream_options import (
    QUALITY_OF,
    AnswerOptions,
    Effort,
    StreamOptions,
)
from deployments.time_options import Quality
from deployments.turns import Messages, check_prefix
from dream import SamplingParams
from dream.options import options_of
from dream.request import MAX_LOGPROBS
from dream.template import MOST_PRIORITY

__all__ = [
    "LIMITS",
    "OPENAI_NAMED",
    "UNSERVED",
    "CompletionRequest",
    "Diffusion",
    "FimRequest",
    "GenerationRequest",
    "InfillRequest",
    "OneHoleRequest",
    "Prompt",
    "Segment",
]

OPENAI_NAMED = frozenset({"temperature", "top_p", "top_k", "seed"})
"""Options of `SamplingParams` that OpenAI names: they stand beside `diffusion`, not in it."""

DREAM = options_of(SamplingParams)
TEMPERATURE = replace(DREAM["temperature"], high=2)
"""OpenAI's bounds of temperature and top_p are narrower; all others are dream's own."""


class _Wire(BaseModel):
    """A JSON object of a request: no coercion, no unknown field, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@with_options(SamplingParams, leave_out=OPENAI_NAMED, nullable={"alg"})
class Diffusion(AnswerOptions):
    """How the holes are denoised: all of `SamplingParams` that OpenAI has no name for.

    `alg` is None where it was not sent: an `order` other than confidence replaces it. `preset`
    names published defaults for what the request leaves out.
    """

    preset: PresetName | None = Field(
        None, description="Defaults for what is left out, as /v1/models shows them, or none"
    )

    @model_validator(mode="after")
    def _order_replaces_alg(self) -> Diffusion:
        given = self.model_dump(include={"alg", "order"})
        if given["order"] != "confidence" and given["alg"] is not None:
            raise refused("null beside an order other than confidence", param="alg")
        return self


UserText = Annotated[str, Field(max_length=MAX_USER_CHARS)]
_METADATA = f"an object of at most {MAX_METADATA} strings of at most {MAX_USER_CHARS} characters"
Metadata = Annotated[
    dict[str, UserText], Field(max_length=MAX_METADATA, json_schema_extra={WORDS: _METADATA})
]


class GenerationRequest(_Wire):
    """What completions and infill share. `user`, `safety_identifier`, `metadata` are not read."""

    model_config = ConfigDict(json_schema_extra=add_openai)

    model: Annotated[str, Field(min_length=1, max_length=512)]
    temperature: Annotated[float, Field(**bounds(TEMPERATURE)), checked(TEMPERATURE)] = (
        TEMPERATURE.default
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(**bounds(DREAM["top_k"]))] | None = None
    seed: Annotated[int, Field(**bounds(DREAM["seed"]))] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 1
    stop: Stops | None = None
    diffusion: Diffusion = Field(default_factory=Diffusion)
    reasoning_effort: Effort | None = Field(
        None, description="OpenAI's name for diffusion.quality: minimal and low are fast"
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: UserText | None = None
    safety_identifier: UserText | None = None
    metadata: Metadata | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_openai(cls, body: object) -> object:
        return take_openai(body, cls)

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives that are reported beside each token; None reports nothing."""
        return None

    @property
    def quality(self) -> Quality | None:
        """The quality asked for by either name."""
        effort = self.reasoning_effort
        return self.diffusion.quality or (None if effort is None else QUALITY_OF[effort])

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise refused("null without stream", param="stream_options")
        effort, quality = self.reasoning_effort, self.diffusion.quality
        if effort is not None and quality not in (None, QUALITY_OF[effort]):
            raise refused("what diffusion.quality says, or without it", param="reasoning_effort")
        return self


class OneHoleRequest(GenerationRequest):
    """A request whose text ends in one hole, of `max_tokens`; OpenAI has two names for it."""

    max_tokens: Annotated[int, Field(ge=1, le=MAX_HOLE_TOKENS)] = 16
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_HOLE_TOKENS)] | None = Field(
        None, description="Another name of max_tokens"
    )

    @model_validator(mode="after")
    def _have_one_size(self) -> Self:
        size = self.max_completion_tokens
        if size is None:
            return self
        if "max_tokens" in self.model_fields_set and self.max_tokens != size:
            raise refused("the value of max_tokens, or without it", param="max_completion_tokens")
        object.__setattr__(self, "max_tokens", size)
        return self


class CompletionRequest(OneHoleRequest):
    """POST /v1/completions: a prompt, a hole of `max_tokens`, and a suffix if there is one."""

    prompt: Prompts
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def num_logprobs(self) -> int | None:
        """As of GenerationRequest; completions have one field for both."""
        return self.logprobs


class FimRequest(CompletionRequest):
    """POST /v1/fim/completions: a completion whose seed has the name that editors' plug-ins use."""

    random_seed: Annotated[int, Field(**bounds(DREAM["seed"]))] | None = Field(
        None, description="Another name of seed"
    )

    @model_validator(mode="after")
    def _have_one_seed(self) -> Self:
        if self.random_seed is None:
            return self
        if self.seed is not None and self.seed != self.random_seed:
            raise refused("the value of seed, or without it", param="random_seed")
        object.__setattr__(self, "seed", self.random_seed)
        return self


_ONE_OF: list[JsonValue] = [
    {
        "required": ["text"],
        "properties": {
            "text": {"type": "string"},
            "hole": {"type": "null"},
            "id": {"type": "null"},
            "priority": {"const": 0},
        },
    },
    {
        "required": ["hole"],
        "properties": {"hole": {"type": "integer"}, "text": {"type": "null"}},
    },
]
"""Which fields of a segment go together."""


class Segment(_Wire):
    """Fixed `text`, or a `hole` of so many tokens that may have an `id` and a `priority`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": _ONE_OF, WORDS: "an object with either text or hole"}
    )

    text: str | None = None
    hole: Annotated[int, Field(ge=1, le=MAX_HOLE_TOKENS)] | None = None
    id: HoleId | None = None
    priority: Annotated[int, Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY)] = 0

    @model_validator(mode="after")
    def _is_text_or_hole(self) -> Segment:
        if self.text is None and self.hole is None:
            raise refused("an object with either text or hole, and this has neither")
        if self.text is not None and self.hole is not None:
            raise refused("an object with either text or hole, and this has both")
        if self.text is not None and (self.id is not None or self.priority):
            raise refused("an id or a priority beside hole alone: text has none")
        return self


class InfillRequest(GenerationRequest):
    """POST /v1/infill: fixed text and holes in any number and order."""

    segments: Annotated[list[Segment], Field(min_length=1, max_length=MAX_SEGMENTS)]
    messages: Messages | None = Field(
        None, description="A chat whose next answer the segments are; it is not in the text"
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives that are reported beside each token; None reports nothing."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _holes_are_few_and_named_apart(self) -> InfillRequest:
        check_prefix(self.messages or [])
        if self.top_logprobs and not self.logprobs:
            raise refused("null or 0 without logprobs", param="top_logprobs")
        holes = [segment for segment in self.segments if segment.hole is not None]
        if not 1 <= len(holes) <= MAX_HOLES:
            raise refused(f"1 to {MAX_HOLES} of them are holes", param="segments")
        names = {hole.id or str(index) for index, hole in enumerate(holes)}
        if len(names) < len(holes):
            message = "hole ids are unique; a hole without one is named by its index"
            raise refused(message, param="segments")
        return self
