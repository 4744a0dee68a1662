"""What is wrong with a body: the field, and what the wire models allow there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from pydantic import BaseModel, ValidationError

from deployments.allowed import Schema, allowed, locate
from deployments.errors import ApiError, Code
from dream import SamplingParams
from dream.options import options_of

__all__ = ["from_validation", "path_of"]

_CODES: Mapping[str, Code] = {
    "missing": "missing_required_parameter",
    "unsupported_parameter": "unsupported_parameter",
}

_OWN = ("refused", "unsupported_parameter")
"""Errors of our own validators: they say themselves what is allowed."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def from_validation(invalid: ValidationError, model: type[BaseModel]) -> ApiError:
    """The first thing wrong with a body of `model`, with the dotted path of its field."""
    first = invalid.errors(include_url=False, include_input=False)[0]
    kind, context, location = first["type"], first.get("ctx", {}), first["loc"]
    if kind == "json_invalid":
        return ApiError("invalid_json", f"The body is not valid JSON: {context['error']}.")
    if kind == "extra_forbidden":
        return _unknown_field(model, location)
    if "param" in context:
        location = (*location, context["param"])
    schema = _schema(model)
    place = locate(schema, location)
    if not place.path:
        return ApiError("invalid_value", "The body is a JSON object.")
    message = allowed(schema, place.schema)
    if kind == "missing":
        message = "this field is required"
    elif kind in _OWN:
        message = first["msg"]
    return ApiError(_CODES.get(kind, "invalid_value"), message, param=".".join(place.path))


def path_of(model: type[BaseModel], location: tuple[str | int, ...]) -> str | None:
    """The dotted path of a field as far as `model` knows it; None for the body itself."""
    return ".".join(locate(_schema(model), location).path) or None


@cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _unknown_field(model: type[BaseModel], location: tuple[str | int, ...]) -> ApiError:
    """Named only where it looks like a field's name, so that no message carries text."""
    *place, name = location
    parent = path_of(model, tuple(place))
    if not _NAME.fullmatch(str(name)):
        message = "it has a field that is not known" if parent else "A field is not known."
        return ApiError("unknown_parameter", message, param=parent)
    path = f"{parent}.{name}" if parent else str(name)
    message = "this field is not known"
    if name in options_of(SamplingParams) and parent in (None, "diffusion"):
        message = f"this field belongs {'beside' if parent else 'in'} diffusion"
    return ApiError("unknown_parameter", message, param=path)
