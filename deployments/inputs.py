"""Fields of a request that take several forms: prompts, stop strings, ids of holes."""

from __future__ import annotations

from typing import Annotated, TypeGuard

from pydantic import BeforeValidator, Field, WithJsonSchema

from deployments.allowed import WORDS
from deployments.fields import refused
from deployments.limits import (
    MAX_HOLE_ID_CHARS,
    MAX_PROMPTS,
    MAX_STOP,
    MAX_STOP_CHARS,
    MAX_TOKEN_ID,
)

__all__ = ["HoleId", "Prompt", "Prompts", "Stops"]

HoleId = Annotated[
    str,
    Field(
        pattern=rf"^[A-Za-z0-9._-]{{1,{MAX_HOLE_ID_CHARS}}}$",
        json_schema_extra={
            WORDS: f"a string of 1 to {MAX_HOLE_ID_CHARS} letters, digits, '.', '_' and '-'"
        },
    ),
]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_STOP_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARS}
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stops = Annotated[
    list[Stop],
    Field(max_length=MAX_STOP),
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "anyOf": [
                _STOP_SCHEMA,
                {"type": "array", "items": _STOP_SCHEMA, "maxItems": MAX_STOP},
            ],
            WORDS: f"a string of 1 to {MAX_STOP_CHARS} characters, or a list of at most {MAX_STOP}",
        }
    ),
]


TokenIds = list[int]
Prompt = str | TokenIds


def _as_prompts(value: object) -> object:
    """The prompts as a list, also where one came alone; refused whole if one is no prompt."""
    is_one = isinstance(value, str) or (_is_list(value) and _has_int(value))
    prompts = [value] if is_one else value
    if not _is_list(prompts):
        raise refused(PROMPT_WORDS)
    if not prompts:
        raise refused("a list has at least one prompt, or at least one token id")
    if len(prompts) > MAX_PROMPTS:
        raise refused(f"a list has at most {MAX_PROMPTS} prompts")
    for prompt in prompts:
        _check_prompt(prompt)
    return prompts


def _check_prompt(prompt: object) -> None:
    if isinstance(prompt, str):
        return
    if not _is_list(prompt):
        raise refused(PROMPT_WORDS)
    if not prompt:
        raise refused("a list of token ids has at least one")
    if not all(type(token) is int and 0 <= token <= MAX_TOKEN_ID for token in prompt):
        raise refused(f"token ids are integers from 0 to {MAX_TOKEN_ID}")


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _has_int(values: list[object]) -> bool:
    return any(type(value) is int for value in values)


PROMPT_WORDS = f"a string, a list of token ids, or a list of at most {MAX_PROMPTS} of these"

_TOKEN_IDS_SCHEMA = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
    "minItems": 1,
}
_PROMPT_SCHEMA = {"anyOf": [{"type": "string"}, _TOKEN_IDS_SCHEMA]}
Prompts = Annotated[
    list[Prompt],
    BeforeValidator(_as_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                _TOKEN_IDS_SCHEMA,
                {"type": "array", "items": _PROMPT_SCHEMA, "minItems": 1, "maxItems": MAX_PROMPTS},
            ],
            WORDS: PROMPT_WORDS,
        }
    ),
]
