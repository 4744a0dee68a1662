"""What a client sends: every field has bounds, and an unknown field is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from deployments.fields import PresetName, with_options
from dream import SamplingParams
from dream.options import options_of
from dream.params import MAX_STEPS
from dream.template import MOST_PRIORITY

__all__ = [
    "LIMITS",
    "OPENAI_NAMED",
    "UNSERVED",
    "CompletionRequest",
    "Diffusion",
    "GenerationRequest",
    "InfillRequest",
    "Prompt",
    "Segment",
]

MAX_HOLE_TOKENS = 2048
MAX_HOLES = 64
MAX_N = 8
MAX_PROMPTS = 16
MAX_STOP = 4
MAX_STOP_CHARS = 200

LIMITS: Mapping[str, int] = {
    "hole_tokens": MAX_HOLE_TOKENS,
    "holes": MAX_HOLES,
    "n": MAX_N,
    "prompts": MAX_PROMPTS,
    "steps": MAX_STEPS,
    "stop": MAX_STOP,
    "stop_chars": MAX_STOP_CHARS,
}
"""The bounds above, under the names that `/v1/models` shows."""

OPENAI_NAMED = frozenset({"temperature", "top_p", "top_k", "seed"})
"""Options of `SamplingParams` that OpenAI names: they stand beside `diffusion`, not in it."""

UNSERVED: Mapping[str, tuple[object, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "echo": (None, False),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None,),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "store": (None, False),
    "stream": (None, False),
    "stream_options": (None,),
    "tool_choice": (None, "none"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
}
"""OpenAI fields that are not served, each with the values that change nothing."""


DREAM = options_of(SamplingParams)
"""OpenAI's bounds of temperature and top_p are narrower; all others are dream's own."""


class _Wire(BaseModel):
    """A JSON object of a request: no coercion, no unknown field, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@with_options(SamplingParams, leave_out=OPENAI_NAMED, nullable={"alg"})
class Diffusion(_Wire):
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
            raise PydanticCustomError(
                "order", "With an order other than 'confidence', alg decides nothing: leave it out"
            )
        return self


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
UserText = Annotated[str, Field(max_length=512)]


class GenerationRequest(_Wire):
    """What completions and infill share. `user`, `safety_identifier`, `metadata` are not read."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    temperature: Annotated[float, Field(ge=0, le=2)] = DREAM["temperature"].default
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=DREAM["top_k"].low, le=DREAM["top_k"].high)] | None = None
    seed: Annotated[int, Field(ge=DREAM["seed"].low, le=DREAM["seed"].high)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 1
    stop: Annotated[
        Annotated[list[Stop], Field(max_length=MAX_STOP)] | None, BeforeValidator(_as_list)
    ] = None
    diffusion: Diffusion = Field(default_factory=Diffusion)
    user: UserText | None = None
    safety_identifier: UserText | None = None
    metadata: Annotated[dict[str, UserText], Field(max_length=16)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unserved(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        for name, idle_values in UNSERVED.items():
            if name in body and body[name] not in idle_values:
                raise PydanticCustomError(
                    "unsupported_parameter",
                    "This OpenAI field is not served by this model",
                    {"param": name},
                )
        return {name: value for name, value in body.items() if name not in UNSERVED}


TokenIds = list[int]
Prompt = str | TokenIds


def _as_prompts(value: object) -> object:
    """The prompts as a list, also where one came alone; refused whole if one is no prompt."""
    prompts = [value] if isinstance(value, str) or _is_token_ids(value) else value
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= MAX_PROMPTS:
        raise _PROMPT_ERROR
    if not all(isinstance(prompt, str) or _is_token_ids(prompt) for prompt in prompts):
        raise _PROMPT_ERROR
    return prompts


def _is_token_ids(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(type(token) is int and 0 <= token < 2**31 for token in value)
    )


_PROMPT_ERROR = PydanticCustomError(
    "prompt", "A prompt is text or a list of token ids; at most 16 of them come as a list"
)


class CompletionRequest(GenerationRequest):
    """POST /v1/completions: a prompt, a hole of `max_tokens`, and a suffix if there is one."""

    prompt: Annotated[list[Prompt], BeforeValidator(_as_prompts)]
    suffix: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_HOLE_TOKENS)] = 16


class Segment(_Wire):
    """Fixed `text`, or a `hole` of so many tokens that may have an `id` and a `priority`."""

    text: str | None = None
    hole: Annotated[int, Field(ge=1, le=MAX_HOLE_TOKENS)] | None = None
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    priority: Annotated[int, Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY)] = 0

    @model_validator(mode="after")
    def _is_text_or_hole(self) -> Segment:
        if (self.text is None) == (self.hole is None):
            raise PydanticCustomError("segment", "A segment has either text or hole")
        if self.text is not None and (self.id is not None or self.priority):
            raise PydanticCustomError("segment", "Only a hole has an id or a priority")
        return self


class InfillRequest(GenerationRequest):
    """POST /v1/infill: fixed text and holes in any number and order."""

    segments: Annotated[list[Segment], Field(min_length=1, max_length=4 * MAX_HOLES)]

    @model_validator(mode="after")
    def _holes_are_few_and_named_apart(self) -> InfillRequest:
        holes = [segment for segment in self.segments if segment.hole is not None]
        if not 1 <= len(holes) <= MAX_HOLES:
            raise PydanticCustomError("holes", "An infill has 1 to 64 holes", {"param": "segments"})
        names = {hole.id or str(index) for index, hole in enumerate(holes)}
        if len(names) < len(holes):
            raise PydanticCustomError(
                "hole_ids",
                "Hole ids are unique; a hole without one is named by its index",
                {"param": "segments"},
            )
        return self
