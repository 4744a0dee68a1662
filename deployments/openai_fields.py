"""Fields of OpenAI's API that take null, or that are not served: no pydantic field says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from deployments.allowed import value_words

__all__ = ["UNSERVED", "add_openai", "take_openai"]

UNSERVED: Mapping[str, tuple[object, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "echo": (None, False),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None,),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, False, True),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "stream": (None, False),
    "stream_options": (None,),
    "tool_choice": (None, "none"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
}
"""OpenAI fields that are not served, each with the values that change nothing."""

NULL_IS_DEFAULT = frozenset({"diffusion", "max_tokens", "n", "temperature"})
"""Fields that take null for their default, as OpenAI's do, although they are never None here."""


def take_openai(body: object, model: type[BaseModel]) -> object:
    """The body without fields that change nothing, and without null where it means the default."""
    if not isinstance(body, dict):
        return body
    unserved = (UNSERVED.keys() - model.model_fields.keys()) & body.keys()
    for name in unserved:
        if not any(_is_same(body[name], idle) for idle in UNSERVED[name]):
            values = " or ".join(value_words(idle) for idle in UNSERVED[name])
            message = f"this OpenAI field is not served: leave it out, or send {values}"
            context = {"message": message, "param": name}
            raise PydanticCustomError("unsupported_parameter", "{message}", context)
    defaults = {name for name in NULL_IS_DEFAULT & body.keys() if body[name] is None}
    return {name: value for name, value in body.items() if name not in unserved | defaults}


def add_openai(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """The schema of `model` with the null and the idle values that `take_openai` takes."""
    properties = schema["properties"]
    for name in NULL_IS_DEFAULT & properties.keys():
        kept = {key: properties[name].pop(key) for key in ("default",) if key in properties[name]}
        properties[name] = {"anyOf": [properties[name], {"type": "null"}], **kept}
    for name in UNSERVED.keys() - model.model_fields.keys():
        text = "Not served: these values change nothing."
        properties[name] = {"enum": list(UNSERVED[name]), "description": text}


def _is_same(value: object, other: object) -> bool:
    """Equal as JSON, where false is not 0."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
