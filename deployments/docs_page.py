"""The specification as one page of plain HTML: no script, nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

from deployments.allowed import Schema, allowed, resolve, value_words

__all__ = ["SECURITY_POLICY", "docs_page"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem; border-top: 1px solid #8888 }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #8888; padding: .2rem .5rem; text-align: left }
td, th { vertical-align: top }
code { font-size: .9em }
"""

_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may do with the page: apply its own style."""


def docs_page(spec: Mapping[str, Any]) -> str:
    """Every operation with its fields, its responses and their errors."""
    info = spec["info"]
    title = escape(f"{info['title']} {info['version']}")
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f'<h1>{title}</h1><p>As JSON: <a href="openapi.json">openapi.json</a></p>',
            *_operations(spec),
            "</body></html>",
        ]
    )


def _operations(spec: Schema) -> Iterator[str]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            if method not in ("get", "post"):
                continue
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(operation['summary'])}</p>"
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                yield _table(("field", "allowed", "default", "what"), _fields(spec, schema))
            yield _table(("status", "response or errors"), _responses(operation))


def _fields(spec: Schema, schema: Schema, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """The fields of a body, those of objects and of lists of objects inside it too."""
    schema = resolve(spec, schema)
    for name, field in schema["properties"].items():
        default = value_words(field["default"]) if "default" in field else ""
        if name in schema.get("required", ()):
            default = "required"
        about = field.get("description", "")
        yield f"{prefix}{name}", allowed(spec, field), default, about
        for inner, path in _objects(spec, field):
            yield from _fields(spec, inner, f"{prefix}{name}{path}.")


def _objects(spec: Schema, field: Schema) -> Iterator[tuple[Schema, str]]:
    field = resolve(spec, field)
    if "properties" in field:
        yield field, ""
    if "items" in field and "properties" in (item := resolve(spec, field["items"])):
        yield item, "[]"
    for option in field.get("anyOf", ()):
        yield from _objects(spec, option)


def _responses(operation: Schema) -> Iterator[tuple[str, ...]]:
    for status, response in operation["responses"].items():
        kinds = ", ".join(response["content"])
        yield status, kinds if status == "200" else response["description"]


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
