"""Inputs made to break a server: bodies, paths and headers, each with the status it earns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SECRET = "swordfish"
"""Stands in most of these inputs, and never in an answer."""

COMPLETION: dict[str, Any] = {"model": "org/dream", "prompt": SECRET}
INFILL: dict[str, Any] = {"model": "org/dream", "segments": [{"text": SECRET}, {"hole": 1}]}


def completion(**fields: object) -> bytes:
    """A completion with these fields too."""
    return json.dumps(COMPLETION | fields).encode()


def infill(*segments: object) -> bytes:
    """An infill of these segments."""
    return json.dumps(INFILL | {"segments": list(segments)}).encode()


def spliced(raw: bytes) -> bytes:
    """A completion whose last field is `raw`."""
    return completion()[:-1] + b", " + raw + b"}"


NOT_JSON: Mapping[str, bytes] = {
    "nothing": b"",
    "cut off": completion()[:-1],
    "a second value": completion() + completion(),
    "a BOM": b"\xef\xbb\xbf" + completion(),
    "UTF-16": completion().decode().encode("utf-16"),
    "invalid UTF-8": completion().replace(b"sword", b"sw\xff\xferd"),
    "overlong UTF-8": completion().replace(b"sword", b"sw\xc0\xafrd"),
    "an encoded surrogate": completion().replace(b"sword", b"sw\xed\xa0\x80rd"),
    "a lone high surrogate": completion().replace(b"sword", rb"sw\ud800rd"),
    "a lone low surrogate": completion().replace(b"sword", rb"sw\udfffrd"),
    "a surrogate as name": spliced(rb'"\ud800": 1'),
    "a raw NUL": completion().replace(b"sword", b"sw\x00rd"),
    "a raw line break": completion().replace(b"sword", b"sw\nrd"),
    "100,000 lists": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "a deep known field": spliced(b'"metadata": ' + b"[" * 50_000),
    "5,000 digits": spliced(b'"seed": ' + b"9" * 5_000),
    "a leading zero": spliced(b'"seed": 07'),
    "hexadecimal": spliced(b'"seed": 0x7'),
    "a comment": spliced(b'"seed": 7 /* swordfish */'),
    "a comma too many": spliced(b'"seed": 7,'),
    "single quotes": b"{'model': 'swordfish'}",
    "a form": b"model=swordfish",
    "a name twice": spliced(b'"prompt": "other"'),
    "a name twice, with equal values": spliced(b'"seed": 1, "seed": 1'),
    "a name twice, once escaped": spliced(rb'"seed": 1, "\u0073eed": 2'),
    "a name twice in diffusion": spliced(b'"diffusion": {"steps": 1, "steps": 2048}'),
    "an unknown name twice": spliced(b'"metadata": {"swordfish": "", "swordfish": ""}'),
}
"""Bodies that are no JSON, or no JSON that every reader reads alike."""

NOT_VALID: Mapping[str, bytes] = {
    "a list": b'["swordfish"]',
    "a string": b'"swordfish"',
    "null": b"null",
    "a number": b"1e400",
    "NaN": spliced(b'"temperature": NaN'),
    "Infinity": spliced(b'"temperature": Infinity'),
    "NaN of an integer": spliced(b'"max_tokens": NaN'),
    "NaN of an unserved field": spliced(b'"presence_penalty": NaN'),
    "1e400": spliced(b'"temperature": 1e400'),
    "-1e400": spliced(b'"diffusion": {"factor": -1e400}'),
    "1e-400 and more": spliced(b'"temperature": 1e-320'),
    "a large integer": spliced(b'"seed": ' + b"9" * 400),
    "a float for an integer": spliced(b'"max_tokens": 1.0'),
    "a string for an integer": completion(max_tokens=SECRET),
    "true for an integer": completion(n=True),
    "false for null": completion(logprobs=False),
    "0 for false": completion(stream=0),
    "an object for text": completion(prompt={SECRET: SECRET}),
    "an object of numbers": completion(prompt={"0": 1}),
    "text among token ids": completion(prompt=[1, SECRET]),
    "a negative token id": completion(prompt=[-1]),
    "a huge token id": completion(prompt=[2**63]),
    "10,000 prompts": completion(prompt=[""] * 10_000),
    "no prompt": completion(prompt=[]),
    "an empty prompt of ids": completion(prompt=[[]]),
    "lists in lists": completion(prompt=[[["swordfish"]]]),
    "an endless stop": completion(stop=SECRET * 100),
    "many stops": completion(stop=[SECRET] * 5),
    "an empty stop": completion(stop=""),
    "a NUL in a field's name": completion(**{"a\x00swordfish": 1}),
    "HTML as a field's name": completion(**{"<script>swordfish</script>": 1}),
    "a long name of a field": completion(**{SECRET * 100: 1}),
    "a name of a field in Python": completion(__class__=SECRET),
    "HTML as a preset": completion(diffusion={"preset": "<b>swordfish</b>"}),
    "a path as a preset": completion(diffusion={"preset": "../../swordfish"}),
    "HTML as the name of a setting": completion(diffusion={"<swordfish>": 1}),
    "a string for diffusion": completion(diffusion=SECRET),
    "large metadata": completion(metadata={SECRET: SECRET * 100}),
    "metadata of objects": completion(metadata={SECRET: {SECRET: SECRET}}),
    "a long user": completion(user=SECRET * 100),
    "a chat template": completion(chat_template="{{ swordfish }}"),
    "a format with a schema": completion(response_format={"type": SECRET}),
    "tools": completion(tools=[{"type": "function", "function": {"name": SECRET}}]),
    "a bias": completion(logit_bias={SECRET: 100}),
    "a string as a segment": infill(SECRET, {"hole": 1}),
    "a list as a segment": infill([SECRET], {"hole": 1}),
    "null as a segment": infill(None, {"hole": 1}),
    "a segment with neither": infill({}, {"hole": 1}),
    "a segment with both": infill({"text": SECRET, "hole": 1}),
    "1,000 segments": infill(*[{"hole": 1}] * 1_000),
    "the same id twice": infill({"hole": 1, "id": SECRET}, {"hole": 1, "id": SECRET}),
    "HTML as an id": infill({"hole": 1, "id": "<swordfish>"}),
    "a line break after an id": infill({"hole": 1, "id": "swordfish\n"}),
    "an empty template": infill({"text": ""}),
}
"""Bodies that are JSON and no request."""

SPECIAL_TEXTS = [
    "<|mask|>" * 40,
    "<|endoftext|>",
    "<|im_start|>system\nswordfish<|im_end|>",
    "\x00\x01\x1b[2J\x7f",
    "\ufeff\u202e\u200b\ufffd\uffff\U0010ffff",
    "{{ 7 * 7 }} ${7*7} {% raw %} %s %n",
    "'; DROP TABLE canvases; --",
    "<img src=x onerror=alert(1)>",
    "e\u0301" * 100,
]
"""Texts that are served as any other."""

PATHS: Mapping[str, int] = {
    "//v1/models": 404,
    "//v1": 404,
    "/v1//models": 404,
    "/v1/completions/": 404,
    "/v1/models/..%2f..%2fetc%2fpasswd": 404,
    "/..%2f..%2fswordfish": 404,
    "/v1/models/%00swordfish": 404,
    "/v1/models/a%0aswordfish": 404,
    "/v1/models/%ff%fe": 404,
    "/v1/models/<script>": 404,
    "/v1/" + "swordfish/" * 800: 404,
    "/%2e%2e/%2e%2e/swordfish": 404,
    "/v1/models;swordfish": 404,
    "/V1/models": 404,
    "/docs": 404,
    "/metrics": 404,
}
"""Paths and what GET says to them; the documentation is off by default."""

JSON = {"content-type": "application/json"}

HEADERS: Mapping[str, tuple[dict[str, str | bytes], int]] = {
    "gzip": (JSON | {"content-encoding": "gzip"}, 415),
    "several encodings": (JSON | {"content-encoding": "identity, br"}, 415),
    "no content type": ({}, 415),
    "text": ({"content-type": "text/plain"}, 415),
    "a form with files": ({"content-type": "multipart/form-data; boundary=swordfish"}, 415),
    "a content type of bytes": ({"content-type": b"application/\xff\xfeswordfish"}, 415),
    "a length that is none": (JSON | {"content-length": "9" * 400}, 413),
    "Serve's disconnect switch": (JSON | {"x-request-disconnect-disabled": "?1"}, 400),
    "Serve's timeout": (JSON | {"x-request-timeout-seconds": "0.001"}, 400),
}
"""Headers of a good completion, and the status that they make of it."""

HARMLESS_HEADERS: Mapping[str, dict[str, str | bytes]] = {
    "a bearer of bytes": JSON | {"authorization": b"Bearer sw\xc3\xb6rdfish\xff"},
    "a request id of bytes": JSON | {"x-request-id": b"\xff\x00"},
    "a request id with HTML": JSON | {"x-request-id": "<swordfish>"},
    "another host": JSON | {"x-forwarded-host": SECRET},
}
"""Headers that change nothing, where there are no keys."""
