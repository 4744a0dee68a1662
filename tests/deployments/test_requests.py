from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.errors import ApiError
from deployments.requests import (
    LIMITS,
    OPENAI_NAMED,
    UNSERVED,
    CompletionRequest,
    Diffusion,
    InfillRequest,
)
from deployments.stream_options import AnswerOptions
from deployments.validation import from_validation
from dream import SamplingParams
from dream.errors import InvalidRequest
from dream.options import Option, options_of

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "p"}
INFILL: dict[str, Any] = {"model": "m", "segments": [{"hole": 4}]}
ABOUT_ANSWERS = set(AnswerOptions.model_fields)
DECLARED = set(Diffusion.model_fields) - {"preset"} - ABOUT_ANSWERS


def parse(body: object) -> CompletionRequest:
    return CompletionRequest.model_validate_json(json.dumps(body))


def error_of(model: type[CompletionRequest] | type[InfillRequest], raw: str | bytes) -> ApiError:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(raw)
    return from_validation(caught.value, model)


def refusal(
    model: type[CompletionRequest] | type[InfillRequest], raw: str | bytes
) -> tuple[str, Any]:
    error = error_of(model, raw)
    return error.code, error.param


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("n", 1, LIMITS["n"]),
        ("max_tokens", 1, LIMITS["hole_tokens"]),
        ("seed", 0, 2**63 - 1),
        ("diffusion.steps", 1, LIMITS["steps"]),
    ],
)
@settings(deadline=None)
@given(data=st.data())
def test_integers_are_taken_within_their_bounds_and_refused_outside(field, low, high, data):
    inside = data.draw(st.integers(low, high))
    outside = data.draw(st.integers(max_value=low - 1) | st.integers(min_value=high + 1))

    parse(COMPLETION | _at(field, inside))

    assert refusal(CompletionRequest, json.dumps(COMPLETION | _at(field, outside))) == (
        "invalid_value",
        field,
    )


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", [0, 2, 0.5], [-0.1, 2.1]),
        ("top_p", [0.1, 1, None], [0, 1.1]),
        ("top_k", [1, 50, None], [0, -1, 2**31]),
        ("diffusion.eps", [0.5], [0, 1]),
        ("diffusion.alg_temp", [0, 1e-4, 10, None], [-1, 1e-5, 10_001]),
        ("diffusion.alg", ["origin", "entropy", None], ["random"]),
        ("diffusion.early_exit", [True, False], [None, "yes"]),
        ("diffusion.eos_frontier", [0, 2048, None], [-1, 2049, 1.5]),
        ("diffusion.eos_annealing", [1, 2.5, None], [0.9, "2", 1e5]),
        ("diffusion.egi_temperature", [0.0001, 10000, None], [0, 10001]),
        ("diffusion.history", [0, 8], [-1, 9, None]),
        ("diffusion.history_top", [1, 16], [0, 17, None]),
        ("diffusion.grow_to", [1, 2048, None], [0, 2049]),
        ("diffusion.window", ["prefix", "dual", None], ["both", True]),
        ("diffusion.refresh_every", [1, 2048, None], [0, 2049]),
        ("diffusion.vicinity", [0, 2048], [-1, 2049, None]),
        ("diffusion.suffix_window", [0, 2048, None], [-1, 2049]),
    ],
)
def test_values_at_the_bounds_are_taken_and_values_past_them_refused(field, good, bad):
    for value in good:
        parse(COMPLETION | _at(field, value))

    for value in bad:
        assert refusal(CompletionRequest, json.dumps(COMPLETION | _at(field, value))) == (
            "invalid_value",
            field,
        )


@pytest.mark.parametrize("value", ["4", 4.0, True, [4], {}])
def test_numbers_are_not_made_of_other_types(value):
    assert refusal(CompletionRequest, json.dumps(COMPLETION | {"max_tokens": value}))[1] == (
        "max_tokens"
    )


@pytest.mark.parametrize("prompt", ["", "text", [1, 2], ["a", "b"], [[1], [2, 3]], ["a", [1]]])
def test_a_prompt_is_text_or_token_ids_or_a_list_of_these(prompt):
    body = parse({"model": "m", "prompt": prompt})

    is_one = isinstance(prompt, str) or isinstance(prompt[0], int)
    assert body.prompt == ([prompt] if is_one else prompt)


@pytest.mark.parametrize(
    "prompt", [None, 3, [], [[]], [1, "a"], [-1], [True], [1.5], [2**31], ["a"] * 17, {"a": 1}]
)
def test_anything_else_is_no_prompt(prompt):
    assert refusal(CompletionRequest, json.dumps({"model": "m", "prompt": prompt})) == (
        "invalid_value",
        "prompt",
    )


def test_stop_is_a_string_or_a_few():
    assert parse(COMPLETION | {"stop": "x"}).stop == ["x"]
    assert parse(COMPLETION | {"stop": ["x", "y"]}).stop == ["x", "y"]
    assert parse(COMPLETION | {"stop": None}).stop is None
    for bad in (["x"] * 5, [""], ["x" * 201], ""):
        code, param = refusal(CompletionRequest, json.dumps(COMPLETION | {"stop": bad}))
        assert code == "invalid_value"
        assert param.startswith("stop")


@pytest.mark.parametrize("name", sorted(UNSERVED.keys() - CompletionRequest.model_fields.keys()))
def test_an_openai_field_that_is_not_served_is_refused_unless_it_asks_for_nothing(name):
    for idle in UNSERVED[name]:
        parse(COMPLETION | {name: idle})

    assert refusal(CompletionRequest, json.dumps(COMPLETION | {name: 3})) == (
        "unsupported_parameter",
        name,
    )


def test_options_of_a_stream_need_a_stream():
    options = {"stream_options": {"include_usage": True}}

    parse(COMPLETION | options | {"stream": True})

    assert refusal(CompletionRequest, json.dumps(COMPLETION | options)) == (
        "invalid_value",
        "stream_options",
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (COMPLETION | {"typo": 1}, "typo"),
        (COMPLETION | {"diffusion": {"step": 1}}, "diffusion.step"),
        (COMPLETION | {"a text\nof some kind": 1}, None),
        (COMPLETION | {"diffusion": {"<script>": 1}}, "diffusion"),
    ],
)
def test_unknown_fields_are_named_only_if_they_look_like_fields(body, param):
    assert refusal(CompletionRequest, json.dumps(body)) == ("unknown_parameter", param)


def test_required_fields_are_required():
    missing = "missing_required_parameter"
    assert refusal(CompletionRequest, '{"prompt": "p"}') == (missing, "model")
    assert refusal(CompletionRequest, '{"model": "m"}') == (missing, "prompt")
    assert refusal(InfillRequest, '{"model": "m"}') == (missing, "segments")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"model": "m", "prompt": "\\ud800"}',
        b'{"model": "m", "prompt": "p", "seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
)
def test_what_is_not_strict_json_is_invalid_json(raw):
    assert refusal(CompletionRequest, raw) == ("invalid_json", None)


@pytest.mark.parametrize("raw", ["[]", "3", "null", '"text"'])
def test_a_body_is_an_object(raw):
    assert refusal(CompletionRequest, raw) == ("invalid_value", None)


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity"])
def test_a_number_that_is_not_finite_is_refused(number):
    raw = '{"model": "m", "prompt": "p", "temperature": ' + number + "}"

    assert refusal(CompletionRequest, raw) == ("invalid_value", "temperature")


@pytest.mark.parametrize(
    ("segments", "param"),
    [
        ([], "segments"),
        ([{"text": "no hole"}], "segments"),
        ([{"hole": 1}] * 65, "segments"),
        ([{"hole": 0}], "segments.0.hole"),
        ([{"hole": 2049}], "segments.0.hole"),
        ([{"hole": 1}, {}], "segments.1"),
        ([{"hole": 1, "text": "x"}], "segments.0"),
        ([{"hole": 1}, {"text": "x", "id": "a"}], "segments.1"),
        ([{"hole": 1, "id": "a b"}], "segments.0.id"),
        ([{"hole": 1, "id": "a"}, {"hole": 1, "id": "a"}], "segments"),
        ([{"hole": 1, "id": "1"}, {"hole": 1}], "segments"),
    ],
)
def test_segments_that_make_no_template_are_refused(segments, param):
    body = json.dumps({"model": "m", "segments": segments})

    assert refusal(InfillRequest, body) == ("invalid_value", param)


@settings(deadline=None)
@given(st.sampled_from(["random", "left_to_right", "right_to_left"]))
def test_an_order_takes_the_place_of_alg(order):
    parse(COMPLETION | {"diffusion": {"order": order}})

    assert refusal(
        CompletionRequest,
        json.dumps(COMPLETION | {"diffusion": {"order": order, "alg": "entropy"}}),
    ) == ("invalid_value", "diffusion.alg")


def test_the_defaults_are_dreams():
    wire = Diffusion().model_dump(exclude={"alg", "preset", *ABOUT_ANSWERS})
    dream = SamplingParams(steps=None)

    assert wire == {name: getattr(dream, name) for name in wire}


def test_diffusion_has_every_option_that_openai_does_not_name():
    names = {field.name for field in fields(SamplingParams)}

    assert names - OPENAI_NAMED == DECLARED
    assert set(CompletionRequest.model_fields) >= OPENAI_NAMED


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_the_schema_of_diffusion_says_what_is_declared(name):
    option = options_of(SamplingParams)[name]

    shown = Diffusion.model_json_schema()["properties"][name]

    values = shown.get("anyOf", [shown])[0]
    lowest = 0 if option.or_zero else option.low
    is_open = option.is_open
    assert shown["description"] == option.help
    assert tuple(values.get("enum", ())) == option.choices
    assert values.get("exclusiveMinimum" if is_open else "minimum") == lowest
    assert values.get("exclusiveMaximum" if is_open else "maximum") == option.high


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_http_takes_a_value_where_dream_takes_it(name):
    option = options_of(SamplingParams)[name]
    ends = [end for end in (option.low, option.high) if end is not None]
    values = [end + step for end in ends for step in (-1, 0, 1)]
    values += [None, True, "text", 0, 0.5, 1e-320, *option.choices]

    for value in values:
        is_alg_left_out = name == "alg" and value is None
        assert http_takes(name, value) is (is_alg_left_out or dream_takes(option, value)), value


def test_a_preset_is_one_that_there_is():
    assert http_takes("preset", "dream-v0-instruct")
    assert http_takes("preset", "none")
    assert not http_takes("preset", "best")


def http_takes(name: str, value: object) -> bool:
    try:
        Diffusion.model_validate({name: value})
    except ValidationError:
        return False
    return True


def dream_takes(option: Option, value: object) -> bool:
    try:
        option.check(value)
    except InvalidRequest:
        return False
    return True


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_message_never_repeats_what_was_sent(text):
    for body in (
        COMPLETION | {"temperature": text},
        COMPLETION | {"n": text},
        COMPLETION | {"diffusion": {"alg": text + "!"}},
        COMPLETION | {"diffusion": text},
        COMPLETION | {"stop": [text * 300 + "!" * 201]},
        {"model": 1, "prompt": text},
    ):
        with pytest.raises(ValidationError) as caught:
            parse(body)

        assert (
            len(text) < 25 or text not in from_validation(caught.value, CompletionRequest).message
        )


def _at(path: str, value: object) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    return {head: _at(rest, value)} if rest else {head: value}
