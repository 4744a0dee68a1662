from __future__ import annotations

from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.canvases import Presets, completion_messages, derive, infill_messages
from deployments.conversion import Head, completion_response, infill_response, to_request, to_result
from deployments.requests import CompletionRequest, InfillRequest
from dream import Completion, Fixed, Hole, SamplingParams, Span, Usage
from tests.deployments.fakes import result_of
from tests.deployments.samples import sample, wire

HEAD = Head("cmpl-1", 1, "m", "fp_0")
OPTIONS = [field.name for field in fields(SamplingParams)]
SEEDS = st.integers(0, 2**63 - 1)
COST = Usage(prompt_tokens=3, completion_tokens=4, steps=4, forward_passes=2, token_forwards=14)


def encode(text: str) -> list[int]:
    return list(text.encode())


def decode(token_ids) -> str:
    return bytes(token_ids).decode(errors="replace")


def infill(segments: list[dict[str, object]], **fields: object) -> InfillRequest:
    return InfillRequest.model_validate({"model": "m", "segments": segments} | fields)


def completion(**fields: object) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "m", "prompt": "ab"} | fields)


@settings(deadline=None)
@given(st.lists(st.text(), max_size=5), SEEDS)
def test_fixed_text_comes_back_byte_for_byte(texts, seed):
    segments = [part for text in texts for part in ({"text": text}, {"hole": 3})]
    request = infill([{"hole": 1}, *segments])
    messages = infill_messages(request, "a", seed, Presets())

    response = infill_response(request, messages, [result_of(messages[0])], HEAD)

    spans = response.choices[0].spans
    between = [part for text, span in zip(texts, spans[1:], strict=True) for part in (text, span)]
    expected = spans[0].text + "".join(p if isinstance(p, str) else p.text for p in between)
    assert response.choices[0].text.encode() == expected.encode()


@settings(deadline=None)
@given(st.text(), st.integers(1, 9), st.text())
def test_a_completion_is_prompt_hole_and_suffix(prompt, max_tokens, suffix):
    request = completion(prompt=prompt, max_tokens=max_tokens, suffix=suffix)

    (message,) = completion_messages(request, "a", 1, Presets())
    template = message.template.encode(encode)

    fixed = [segment for segment in template.segments if isinstance(segment, Fixed)]
    assert b"".join(bytes(f.token_ids) for f in fixed) == (prompt + suffix).encode()
    assert [(h.start, h.end - h.start) for h in template.holes] == [
        (len(prompt.encode()), max_tokens)
    ]


def test_token_ids_reach_the_canvas_as_they_are():
    (message,) = completion_messages(completion(prompt=[7, 8, 9]), "a", 1, Presets())

    request = to_request(message, message.template.encode(encode))
    assert request.template.segments == (Fixed([7, 8, 9]), Hole(16))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_a_request_reaches_the_parameters_and_the_response(name):
    options = sample(name)
    request = completion(**wire({"seed": 3} | options))
    (message,) = completion_messages(request, "a", request.seed, Presets())

    response = completion_response(request, [message], [result_of(message)], HEAD)

    assert message.params == SamplingParams(**{"steps": None, "seed": 3} | options)
    said = response.choices[0].diffusion
    shown = said.resolved.model_dump() | {"seed": said.seed}
    cost = {} if "grow_to" in options else {"steps": 16}
    alg = {"alg": None} if "order" in options else {}
    assert shown == asdict(message.params) | cost | alg


@pytest.mark.parametrize("name", OPTIONS)
def test_the_whole_resolved_object_is_a_request_for_the_same(name):
    request = completion(**wire(sample(name)))
    messages = completion_messages(request, "a", 5, Presets())
    response = completion_response(request, messages, [result_of(messages[0])], HEAD)
    said = response.choices[0].diffusion

    again = completion(**wire(said.resolved.model_dump() | {"seed": said.seed}))
    (repeated,) = completion_messages(again, "a", again.seed, Presets())

    steps = {} if name == "grow_to" else {"steps": 16}
    assert set(said.resolved.model_dump()) == set(OPTIONS) - {"seed"}
    assert repeated.params == replace(messages[0].params, **steps)


def test_more_masks_than_steps_may_be_asked_for_resolve_to_one_step_for_each():
    request = infill(segments=[{"hole": 2000}, {"hole": 2000}])
    messages = infill_messages(request, "a", 1, Presets())

    response = infill_response(request, messages, [result_of(messages[0])], HEAD)

    assert response.choices[0].diffusion.resolved.steps is None
    assert response.usage.diffusion.steps == 4000


@pytest.mark.parametrize("steps", [None, 8])
def test_a_canvas_that_may_grow_resolves_to_the_steps_of_each_run_and_not_to_their_sum(steps):
    request = completion(diffusion={"grow_to": 64, "steps": steps})
    (message,) = completion_messages(request, "a", 1, Presets())

    response = completion_response(request, [message], [result_of(message)], HEAD)

    assert response.choices[0].diffusion.resolved.steps == steps
    assert response.usage.diffusion.steps == 16


@pytest.mark.parametrize("approximation", [None, "suffix_window=16"])
def test_usage_names_the_approximate_mode_that_ran(approximation):
    request = completion(n=2, temperature=1.0)
    messages = completion_messages(request, "a", 1, Presets())
    done = [result_of(message) for message in messages]
    usage = replace(done[0].usage, approximation=approximation)
    results = [replace(one, usage=usage) for one in done]

    response = completion_response(request, messages, results, HEAD)

    assert response.usage.diffusion.approximation == approximation


@pytest.mark.parametrize("exact", [(True, True), (True, False)])
def test_usage_is_bit_exact_where_every_choice_is(exact):
    request = completion(n=2, temperature=1.0)
    messages = completion_messages(request, "a", 1, Presets())
    results = [
        replace(done, usage=replace(done.usage, bit_exact=one))
        for done, one in zip(map(result_of, messages), exact, strict=True)
    ]

    response = completion_response(request, messages, results, HEAD)

    assert response.usage.diffusion.bit_exact is all(exact)


def test_choices_are_ordered_by_prompt_then_by_choice():
    request = completion(prompt=["x", "y"], n=3, temperature=1.0)

    messages = completion_messages(request, "a", 9, Presets())

    seeds = [derive(9, 0), derive(9, 1), derive(9, 2)]
    assert [message.template.pieces[0] for message in messages] == ["x"] * 3 + ["y"] * 3
    assert [message.params.seed for message in messages] == seeds * 2
    assert [message.seeds for message in messages] == [(seed,) for seed in seeds * 2]
    assert len({message.id for message in messages}) == 6


def test_choices_that_draw_nothing_share_one_canvas_and_keep_their_seeds():
    request = completion(prompt=["x", "y"], n=3)
    messages = completion_messages(request, "a", 9, Presets())
    results = [result_of(message) for message in messages]

    response = completion_response(request, messages, results, HEAD)

    seeds = [derive(9, 0), derive(9, 1), derive(9, 2)]
    assert [message.seeds for message in messages] == [tuple(seeds)] * 2
    assert [choice.index for choice in response.choices] == list(range(6))
    assert [choice.diffusion.seed for choice in response.choices] == seeds * 2
    assert response.usage.prompt_tokens == 20
    assert response.usage.completion_tokens == 32
    assert response.usage.diffusion.forward_passes == 2


@settings(deadline=None)
@given(SEEDS, st.integers(1, 7))
def test_derived_seeds_are_valid_distinct_and_keep_the_first(seed, choice):
    assert derive(seed, 0) == seed
    assert 0 <= derive(seed, choice) < 2**63
    assert derive(seed, choice) != derive(seed, choice + 1)


def test_derived_seeds_never_change_between_versions():
    assert [derive(7, i) for i in range(3)] == [7, DERIVED_7_1, DERIVED_7_2]


DERIVED_7_1 = 8141747360954777192
DERIVED_7_2 = 523655691413314271


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ((), "abcd", "length"),
        (("x",), "abcd", "length"),
        (("cd", "b"), "a", "stop"),
        (("abcd",), "", "stop"),
    ],
)
def test_the_first_stop_string_ends_the_text_of_a_hole(stop, text, reason):
    request = infill([{"text": "cab"}, {"hole": 4}], stop=list(stop))
    (message,) = infill_messages(request, "a", 1, Presets())

    done = to_result(
        message,
        _completed(b"cababcd", Span(id="0", start=3, end=7, token_ids=list(b"abcd"))),
        decode,
    )
    response = infill_response(request, [message], [done], HEAD)

    assert done.holes[0].text == text
    assert done.holes[0].num_tokens == 4
    assert response.choices[0].text == "cab" + text
    assert response.choices[0].finish_reason == reason


def test_usage_counts_a_prompt_once_and_every_drawn_choice():
    request = completion(prompt=["x", "y"], n=2, temperature=1.0)
    messages = completion_messages(request, "a", 1, Presets())
    results = [result_of(message) for message in messages]

    usage = completion_response(request, messages, results, HEAD).usage

    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 64, 84)
    assert usage.diffusion.forward_passes == 4
    assert usage.diffusion.canvas_tokens == 4 * 26
    assert usage.diffusion.token_forwards == 4 * 26
    assert usage.diffusion.tokens_per_forward == 16.0


def test_every_key_of_a_response_is_dumped():
    request = completion()
    messages = completion_messages(request, "cmpl-1", 5, Presets())

    response = completion_response(request, messages, [result_of(messages[0])], HEAD)

    resolved = asdict(SamplingParams(steps=16))
    del resolved["seed"]
    assert response.model_dump(exclude={"usage"}) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "system_fingerprint": "fp_0",
        "choices": [
            {
                "index": 0,
                "text": "A" * 16,
                "logprobs": None,
                "finish_reason": "length",
                "diffusion": {
                    "seed": 5,
                    "resolved": resolved,
                    "deadline_met": None,
                    "timetable": None,
                    "trace": None,
                },
            }
        ],
    }


def _completed(canvas: bytes, span: Span) -> Completion:
    return Completion(
        id="a-0",
        token_ids=list(canvas),
        spans=[span],
        finish_reason="length",
        usage=COST,
    )
