"""What the error of a body says: the field, and what it takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.allowed import allowed, locate
from deployments.requests import CompletionRequest, InfillRequest
from deployments.validation import from_validation

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "p"}
INFILL: dict[str, Any] = {"model": "m", "segments": [{"hole": 1}]}


def message_of(**fields: object) -> str:
    """The message to a request with these fields, which begins with its `param`."""
    model = InfillRequest if "segments" in fields else CompletionRequest
    body = (INFILL if "segments" in fields else COMPLETION) | fields
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(body))
    error = from_validation(caught.value, model)
    assert error.param is None or error.message.startswith(f"{error.param}: ")
    return error.message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"diffusion": {"steps": 0}}, "diffusion.steps: an integer from 1 to 2048, or null"),
        ({"diffusion": {"eps": 1}}, "diffusion.eps: a number above 0 and below 1"),
        ({"diffusion": {"factor": -1}}, "diffusion.factor: a number of at least 0, or null"),
        (
            {"diffusion": {"alg_temp": 1e-5}},
            "diffusion.alg_temp: 0 or a number from 0.0001 to 10000, or null",
        ),
        ({"diffusion": {"early_exit": 1}}, "diffusion.early_exit: true or false"),
        ({"diffusion": {"window": "all"}}, "diffusion.window: one of prefix, dual, or null"),
        ({"diffusion": 3}, "diffusion: an object, or null"),
        ({"diffusion": {"a b": 3}}, "diffusion: it has a field that is not known"),
        (
            {"diffusion": {"temperature": 1}},
            "diffusion.temperature: this field belongs beside diffusion",
        ),
        ({"steps": 1}, "steps: this field belongs in diffusion"),
        ({"frobnicate": 1}, "frobnicate: this field is not known"),
        ({"a b": 1}, "A field is not known."),
        ({"temperature": 1e-5}, "temperature: 0 or a number from 0.0001 to 2, or null"),
        ({"temperature": 3}, "temperature: 0 or a number from 0.0001 to 2, or null"),
        ({"top_p": 0}, "top_p: a number above 0 and at most 1, or null"),
        ({"max_tokens": 2049}, "max_tokens: an integer from 1 to 2048, or null"),
        ({"user": "x" * 513}, "user: a string of at most 512 characters, or null"),
        ({"model": ""}, "model: a string of 1 to 512 characters"),
        (
            {"metadata": {"n": 1}},
            "metadata: an object of at most 16 strings of at most 512 characters, or null",
        ),
        ({"stop": 1}, "stop: a string of 1 to 200 characters, or a list of at most 4, or null"),
        ({"stop": ["", 1]}, "stop.0: a string of 1 to 200 characters"),
        (
            {"echo": True},
            "echo: this OpenAI field is not served: leave it out, or send null or false",
        ),
        (
            {"logit_bias": {"1": 1}},
            "logit_bias: this OpenAI field is not served: leave it out, or send null or {}",
        ),
        ({"prompt": 1}, "prompt: a string, a list of token ids, or a list of at most 16 of these"),
        ({"prompt": []}, "prompt: a list has at least one prompt, or at least one token id"),
        ({"prompt": [[]]}, "prompt: a list of token ids has at least one"),
        ({"prompt": ["a"] * 17}, "prompt: a list has at most 16 prompts"),
        ({"prompt": [-1]}, "prompt: token ids are integers from 0 to 2147483647"),
        ({"prompt": [["a"]]}, "prompt: token ids are integers from 0 to 2147483647"),
        (
            {"max_tokens": 3, "max_completion_tokens": 4},
            "max_completion_tokens: the value of max_tokens, or without it",
        ),
        ({"segments": []}, "segments: a list of 1 to 256 items"),
        ({"segments": [{"text": ""}]}, "segments: 1 to 64 of them are holes"),
        ({"segments": ["a"]}, "segments.0: an object with either text or hole"),
        (
            {"segments": [{}]},
            "segments.0: an object with either text or hole, and this has neither",
        ),
        (
            {"segments": [{"text": "", "hole": 1}]},
            "segments.0: an object with either text or hole, and this has both",
        ),
        (
            {"segments": [{"hole": 1, "id": "a b"}]},
            "segments.0.id: a string of 1 to 64 letters, digits, '.', '_' and '-', or null",
        ),
    ],
)
def test_a_message_names_the_field_and_what_it_takes(fields, message):
    assert message_of(**fields) == message


def test_a_required_field_is_named():
    with pytest.raises(ValidationError) as caught:
        CompletionRequest.model_validate_json('{"model": "m"}')

    assert from_validation(caught.value, CompletionRequest).message == (
        "prompt: this field is required"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("diffusion", "max_tokens", "max_completion_tokens", "metadata", "n", "seed", "stop"),
        *("safety_identifier", "stream", "suffix", "temperature", "top_k", "top_p", "user"),
        *("logprobs", "response_format", "tools"),
    ],
)
def test_a_field_of_openai_that_may_be_null_is_then_its_default(name):
    without = CompletionRequest.model_validate(COMPLETION)

    assert CompletionRequest.model_validate(COMPLETION | {name: None}) == without


def test_the_two_names_of_max_tokens_mean_the_same():
    for fields in (
        {"max_completion_tokens": 7},
        {"max_tokens": 7, "max_completion_tokens": 7},
        {"max_tokens": None, "max_completion_tokens": 7},
        {"max_tokens": 7, "max_completion_tokens": None},
    ):
        assert CompletionRequest.model_validate(COMPLETION | fields).max_tokens == 7


def test_the_branch_of_a_union_is_no_part_of_a_path():
    part = {"properties": {"text": {"type": "string", "maxLength": 9}}}
    schema = {
        "properties": {"content": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Parts"}]}},
        "$defs": {"Parts": {"type": "array", "items": part}},
    }

    place = locate(schema, ("content", "list[Part]", 2, "text"))

    assert ".".join(place.path) == "content.2.text"
    assert allowed(schema, place.schema) == "a string of at most 9 characters"
