"""What a JSON schema allows, in words, and where in it a field stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["WORDS", "Place", "Schema", "allowed", "locate", "resolve", "value_words"]

Schema = Mapping[str, Any]

WORDS = "x-allowed"
"""The key of a schema that says itself what it allows, where its keywords do not."""


class Place(NamedTuple):
    """A field: its path from the body, and its schema."""

    path: tuple[str, ...]
    schema: Schema


def locate(root: Schema, location: Sequence[str | int]) -> Place:
    """The field at pydantic's `location`; keys that no schema names are not part of its path."""
    place = Place((), root)
    for part in location:
        child = _child(root, place.schema, part)
        if child is not None:
            place = Place((*place.path, str(part)), child)
    return place


def allowed(root: Schema, schema: Schema) -> str:
    """Every value that `schema`, a part of `root`, takes."""
    schema = resolve(root, schema)
    if WORDS in schema:
        return str(schema[WORDS])
    if "anyOf" in schema:
        gap = {"not": schema["not"]} if "not" in schema else {}
        return ", or ".join(allowed(root, {**option, **gap}) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(value_words(value) for value in schema["enum"])
    if "const" in schema:
        return value_words(schema["const"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _number(schema)
    if kind == "string":
        return "a string" + _range(schema, "Length", "characters")
    if kind == "array":
        return "a list" + _range(schema, "Items", "items")
    if kind == "object":
        return "an object" + _range(schema, "Properties", "fields")
    return {"boolean": "true or false", "null": "null"}[str(kind)]


def resolve(root: Schema, schema: Schema) -> Schema:
    """The schema that a `$ref` inside `root` stands for; another one is itself."""
    while "$ref" in schema:
        target: Any = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _child(root: Schema, schema: Schema, part: str | int) -> Schema | None:
    for option in _options(root, schema):
        if isinstance(part, int):
            if "items" in option:
                return resolve(root, option["items"])
        elif part in option.get("properties", {}):
            return resolve(root, option["properties"][part])
    return None


def _options(root: Schema, schema: Schema) -> Iterator[Schema]:
    schema = resolve(root, schema)
    yield schema
    for option in schema.get("anyOf", ()):
        yield from _options(root, option)


def _number(schema: Schema) -> str:
    noun = "an integer" if schema["type"] == "integer" else "a number"
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    gap = schema.get("not")
    if gap is not None:
        noun, low = "0 or a number", gap["exclusiveMaximum"]
    if low is not None and high is not None:
        return f"{noun} from {value_words(low)} to {value_words(high)}"
    ends = [("above", above), ("of at least", low), ("at most", high), ("below", below)]
    words = " and ".join(f"{word} {value_words(end)}" for word, end in ends if end is not None)
    return f"{noun} {words}".rstrip()


def _range(schema: Schema, what: str, noun: str) -> str:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if high is None:
        return "" if not low else f" of at least {low} {noun}"
    return f" of {low} to {high} {noun}" if low else f" of at most {high} {noun}"


def value_words(value: object) -> str:
    """A value as JSON has it, without quotation marks around a name."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
