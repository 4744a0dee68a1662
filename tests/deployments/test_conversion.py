from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.conversion import (
    completion_answer,
    completion_drafts,
    derive,
    infill_answer,
    infill_drafts,
    to_filling,
    to_request,
)
from deployments.requests import CompletionBody, InfillBody
from dream import Completion, Fixed, Hole, Span, Usage
from tests.deployments.fakes import filling

SEEDS = st.integers(0, 2**63 - 1)
COST = Usage(prompt_tokens=3, completion_tokens=4, steps=4, forward_passes=2, token_forwards=14)


def encode(text: str) -> list[int]:
    return list(text.encode())


def decode(token_ids) -> str:
    return bytes(token_ids).decode(errors="replace")


def infill(segments: list[dict[str, object]], **fields: object) -> InfillBody:
    return InfillBody.model_validate({"model": "m", "segments": segments} | fields)


def completion(**fields: object) -> CompletionBody:
    return CompletionBody.model_validate({"model": "m", "prompt": "ab"} | fields)


@given(st.lists(st.text(), max_size=5), SEEDS)
def test_fixed_text_comes_back_byte_for_byte(texts, seed):
    segments = [part for text in texts for part in ({"text": text}, {"hole": 3})]
    body = infill([{"hole": 1}, *segments])
    drafts = infill_drafts(body, answer_id="a", seed=seed)

    answer = infill_answer(body, drafts, [filling(drafts[0])], answer_id="a", created=1)

    spans = answer.choices[0].spans
    between = [part for text, span in zip(texts, spans[1:], strict=True) for part in (text, span)]
    expected = spans[0].text + "".join(p if isinstance(p, str) else p.text for p in between)
    assert answer.choices[0].text.encode() == expected.encode()


@given(st.text(), st.integers(1, 9), st.text())
def test_a_completion_is_prompt_hole_and_suffix(prompt, max_tokens, suffix):
    body = completion(prompt=prompt, max_tokens=max_tokens, suffix=suffix)

    (draft,) = completion_drafts(body, answer_id="a", seed=1)
    template = to_request(draft, encode).template

    fixed = [segment for segment in template.segments if isinstance(segment, Fixed)]
    assert b"".join(bytes(f.token_ids) for f in fixed) == (prompt + suffix).encode()
    assert [(h.start, h.end - h.start) for h in template.holes] == [
        (len(prompt.encode()), max_tokens)
    ]


def test_token_ids_reach_the_canvas_as_they_are():
    (draft,) = completion_drafts(completion(prompt=[7, 8, 9]), answer_id="a", seed=1)

    assert to_request(draft, encode).template.segments == (Fixed([7, 8, 9]), Hole(16))


def test_every_value_of_the_body_reaches_the_parameters():
    diffusion = {"steps": 5, "alg": "origin", "alg_temp": 0.2, "eps": 0.01, "early_exit": False}
    body = completion(temperature=0.7, top_p=0.9, top_k=11, diffusion=diffusion)

    params = completion_drafts(body, answer_id="a", seed=3)[0].params

    assert (params.steps, params.alg, params.alg_temp, params.eps) == (5, "origin", 0.2, 0.01)
    assert (params.temperature, params.top_p, params.top_k) == (0.7, 0.9, 11)
    assert (params.seed, params.order, params.early_exit) == (3, "confidence", False)


def test_every_field_of_decoding_reaches_the_parameters_and_the_answer():
    diffusion = {
        "block_length": 8,
        "eos_frontier": 0,
        "eos_annealing": 2.5,
        "egi_temperature": 0.9,
        "history_top": 6,
        "grow_to": 64,
        "window": "dual",
        "refresh_every": 4,
        "vicinity": 2,
        "suffix_window": 16,
    }
    body = infill([{"hole": 4}], diffusion=diffusion)
    (draft,) = infill_drafts(body, answer_id="a", seed=3)

    answer = infill_answer(body, [draft], [filling(draft)], answer_id="a", created=1)

    resolved = answer.choices[0].diffusion.resolved
    for name, value in diffusion.items():
        assert getattr(draft.params, name) == getattr(resolved, name) == value
    assert (
        draft.params.approximation == "window=dual, suffix_window=16, refresh_every=4, vicinity=2"
    )


@pytest.mark.parametrize("steps", [None, 8])
def test_a_canvas_that_may_grow_resolves_to_the_steps_of_each_run_and_not_to_their_sum(steps):
    body = completion(diffusion={"grow_to": 64, "steps": steps})
    (draft,) = completion_drafts(body, answer_id="a", seed=1)

    answer = completion_answer(body, [draft], [filling(draft)], answer_id="a", created=1)

    assert answer.choices[0].diffusion.resolved.steps == steps
    assert answer.usage.diffusion.steps == 16


@pytest.mark.parametrize("approximation", [None, "suffix_window=16"])
def test_usage_names_the_approximate_mode_that_ran(approximation):
    body = completion(n=2)
    drafts = completion_drafts(body, answer_id="a", seed=1)
    done = [filling(draft) for draft in drafts]
    usage = replace(done[0].usage, approximation=approximation)
    fillings = [replace(one, usage=usage) for one in done]

    answer = completion_answer(body, drafts, fillings, answer_id="a", created=1)

    assert answer.usage.diffusion.approximation == approximation


@pytest.mark.parametrize("exact", [(True, True), (True, False)])
def test_usage_is_bit_exact_where_every_choice_is(exact):
    body = completion(n=2)
    drafts = completion_drafts(body, answer_id="a", seed=1)
    fillings = [
        replace(done, usage=replace(done.usage, bit_exact=one))
        for done, one in zip(map(filling, drafts), exact, strict=True)
    ]

    answer = completion_answer(body, drafts, fillings, answer_id="a", created=1)

    assert answer.usage.diffusion.bit_exact is all(exact)


def test_choices_are_ordered_by_prompt_then_by_choice():
    drafts = completion_drafts(completion(prompt=["x", "y"], n=3), answer_id="a", seed=9)

    seeds = [derive(9, 0), derive(9, 1), derive(9, 2)]
    assert [draft.segments[0] for draft in drafts] == ["x"] * 3 + ["y"] * 3
    assert [draft.params.seed for draft in drafts] == seeds * 2
    assert len({draft.id for draft in drafts}) == 6


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
    body = infill([{"text": "cab"}, {"hole": 4}], stop=list(stop))
    (draft,) = infill_drafts(body, answer_id="a", seed=1)

    done = to_filling(
        draft, _completed(b"cababcd", Span(id="0", start=3, end=7, token_ids=list(b"abcd"))), decode
    )
    answer = infill_answer(body, [draft], [done], answer_id="a", created=1)

    assert done.holes[0].text == text
    assert done.holes[0].num_tokens == 4
    assert answer.choices[0].text == "cab" + text
    assert answer.choices[0].finish_reason == reason


def test_usage_counts_a_prompt_once_and_every_choice():
    body = completion(prompt=["x", "y"], n=2)
    drafts = completion_drafts(body, answer_id="a", seed=1)
    fillings = [filling(draft) for draft in drafts]

    usage = completion_answer(body, drafts, fillings, answer_id="a", created=1).usage

    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 64, 84)
    assert usage.diffusion.forward_passes == 4
    assert usage.diffusion.canvas_tokens == 4 * 26
    assert usage.diffusion.token_forwards == 4 * 26
    assert usage.diffusion.tokens_per_forward == 16.0


def test_an_answer_says_what_repeats_it():
    body = completion(diffusion={"order": "left_to_right"}, temperature=0.5)
    drafts = completion_drafts(body, answer_id="a", seed=5)

    answer = completion_answer(body, drafts, [filling(drafts[0])], answer_id="a", created=1)

    said = answer.choices[0].diffusion
    fields = said.resolved.model_dump(include={"steps", "alg", "alg_temp", "eps", "order"})
    again = completion(diffusion=fields, temperature=said.resolved.temperature, seed=said.seed)
    repeated = completion_drafts(again, answer_id="a", seed=said.seed)[0].params
    assert repeated.steps == 16
    assert [repeated.order, repeated.temperature, repeated.seed] == ["left_to_right", 0.5, 5]


def test_every_key_of_an_answer_is_dumped():
    body = completion()
    drafts = completion_drafts(body, answer_id="cmpl-1", seed=5)

    answer = completion_answer(body, drafts, [filling(drafts[0])], answer_id="cmpl-1", created=7)

    assert answer.model_dump(exclude={"usage"}) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "text": "A" * 16,
                "logprobs": None,
                "finish_reason": "length",
                "diffusion": {
                    "seed": 5,
                    "resolved": {
                        "steps": 16,
                        "alg": "entropy",
                        "alg_temp": None,
                        "eps": 0.001,
                        "order": "confidence",
                        "early_exit": True,
                        "temperature": 0.0,
                        "top_p": None,
                        "top_k": None,
                        "threshold": None,
                        "low_threshold": None,
                        "factor": None,
                        "entropy_bound": None,
                        "entropy_threshold": None,
                        "min_commits": 1,
                        "max_commits": None,
                        "block_length": None,
                        "frontier": None,
                        "eos_frontier": None,
                        "eos_annealing": None,
                        "egi_temperature": None,
                        "history": 0,
                        "history_top": 4,
                        "grow_to": None,
                        "window": None,
                        "refresh_every": None,
                        "vicinity": 0,
                        "suffix_window": None,
                    },
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
