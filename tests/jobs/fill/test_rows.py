"""Rows become templates and come back whole: given text is the row's own, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream.errors import ContextLengthExceeded, InvalidRequest
from dream.request import Completion, Span, StepEvent, Usage
from dream.template import Fixed, Hole
from jobs.fill.config import JobSpec
from jobs.fill.identity import row_seed
from jobs.fill.inputs import FORMS, OUTPUT_NAMES, ColumnMap
from jobs.fill.rows import (
    commit_steps,
    completed,
    failed,
    last_attempt,
    output_schema,
    output_table,
    prepare,
    split_masks,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Letters:
    """A tokenizer of one token for each character that loses case, so that copies show."""

    def encode(self, text):
        return [ord(letter) for letter in text.lower()]

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))


def spec_of(task="infill", **more):
    return JobSpec(input=["/in"], output="/out", task=task, model="embedded", **more)


def columns_of(form, parameters=(), keep=(), own_id=None):
    return ColumnMap(form=form, template=FORMS[form], parameters=parameters, keep=keep, id=own_id)


def fill(prepared, letter="z"):
    """The completion in which every hole holds `letter`."""
    template = prepared.template(Letters(), 10**6)
    spans = [
        Span(id=hole.id, start=hole.start, end=hole.end, token_ids=[ord(letter)] * (h.num_tokens))
        for hole, h in zip(
            template.holes, [s for s in template.segments if isinstance(s, Hole)], strict=True
        )
    ]
    usage = Usage(prompt_tokens=1, completion_tokens=2, steps=3, forward_passes=3, token_forwards=9)
    return Completion(id="r", token_ids=[], spans=spans, finish_reason="length", usage=usage)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(st.tuples(texts, st.integers(0, 4)), max_size=5),
    st.sampled_from(["<|mask|>", "_", "[MASK]", ".*", "ab"]),
)
def test_text_with_masks_is_cut_at_masks_and_nowhere_else(parts, mask):
    text = "".join(given + mask * count for given, count in parts)

    pieces = split_masks(text, mask)

    again = "".join(mask * p.num_tokens if isinstance(p, Hole) else p for p in pieces)
    assert again == text
    for one, next_one in pairwise(pieces):
        assert isinstance(one, Hole) != isinstance(next_one, Hole)
    assert not any(isinstance(piece, str) and mask in piece for piece in pieces)


@given(texts, st.integers(1, 5), texts)
def test_given_text_comes_back_byte_for_byte(before, masks, after):
    text = before.replace("_", "") + "_" * masks + after.replace("_", "")
    columns = columns_of("text_with_masks")
    prepared = prepare({"text_with_masks": text}, spec_of(mask_token="_"), columns, 1)

    row = completed(
        prepared, fill(prepared), Letters(), mean_confidence=0.5, latency_ms=1.0, finished_at=NOW
    )

    assert row.output == text.replace("_", "z")
    assert row.infilled == [{"span": "0", "text": "z" * masks}]


def test_a_prompt_is_followed_by_one_hole_and_the_output_is_the_hole():
    spec, columns = spec_of("generate", max_new_tokens=3), columns_of("prompt", ("max_new_tokens",))

    prepared = prepare({"prompt": "Ab", "max_new_tokens": None}, spec, columns, 1)
    longer = prepare({"prompt": "Ab", "max_new_tokens": 5}, spec, columns, 1)

    template = prepared.template(Letters(), 100)
    assert list(template.segments) == [Fixed([97, 98]), Hole(3)]
    assert longer.pieces[1] == Hole(5)
    row = completed(
        prepared, fill(prepared), Letters(), mean_confidence=None, latency_ms=1.0, finished_at=NOW
    )
    assert (row.output, row.status, row.steps) == ("zzz", "ok", 3)


def test_prefix_suffix_and_segments_make_the_same_text():
    cells = {"prefix": "def f(", "suffix": "): pass", "mask_len": 2}
    parts = prepare(cells, spec_of(), columns_of("prefix_suffix"), 1)
    segments = [
        {"text": "def f(", "hole": None, "id": None},
        {"text": None, "hole": 2, "id": "args"},
        {"text": "): pass", "hole": None, "id": None},
    ]

    named = prepare({"segments": segments}, spec_of(), columns_of("segments"), 1)

    for prepared in (parts, named):
        assert prepared.whole(["xy"]) == "def f(xy): pass"
    assert named.template(Letters(), 99).holes[0].id == "args"
    assert parts.template(Letters(), 99).holes[0].id == "0"


def test_empty_text_makes_no_token_and_no_failure():
    cells = {"prefix": "", "suffix": "", "mask_len": 2}

    prepared = prepare(cells, spec_of(), columns_of("prefix_suffix"), 1)

    assert list(prepared.template(Letters(), 9).segments) == [Hole(2)]


def test_a_row_has_its_own_seed_unless_it_brings_one():
    spec = spec_of("generate", seed=5, steps=9)
    columns = columns_of("prompt", ("seed", "steps"))

    derived = prepare({"prompt": "a", "seed": None, "steps": None}, spec, columns, 77)
    brought = prepare({"prompt": "a", "seed": 3, "steps": 4}, spec, columns, 77)

    assert (derived.seed, derived.steps) == (row_seed(5, 77), None)
    assert (brought.seed, brought.steps) == (3, 4)
    assert spec.sampling(seed=3, steps=derived.steps).steps == 9
    assert spec.sampling(seed=3, steps=brought.steps).steps == 4


@pytest.mark.parametrize(
    ("form", "cells", "field"),
    [
        ("prompt", {"prompt": None}, "prompt"),
        ("prompt", {"prompt": "a", "steps": True}, "steps"),
        ("prompt", {"prompt": "a", "max_new_tokens": 0}, "num_tokens"),
        ("text_with_masks", {"text_with_masks": "no mask"}, "text_with_masks"),
        ("prefix_suffix", {"prefix": None, "suffix": "", "mask_len": 1}, "prefix"),
        ("prefix_suffix", {"prefix": "", "suffix": "", "mask_len": None}, "mask_len"),
        ("segments", {"segments": None}, "segments"),
        ("segments", {"segments": []}, "segments"),
        ("segments", {"segments": [None]}, "segments[0]"),
        ("segments", {"segments": [{"text": "a", "hole": 1}]}, "segments[0]"),
        ("segments", {"segments": [{"text": None, "hole": None}]}, "segments[0]"),
        ("segments", {"segments": [{"hole": "3"}]}, "segments[0].hole"),
        ("segments", {"segments": [{"text": 3}]}, "segments[0].text"),
    ],
)
def test_a_malformed_row_says_which_field_is_wrong(form, cells, field):
    with pytest.raises(InvalidRequest) as error:
        prepare(cells, spec_of("generate" if form == "prompt" else "infill"), columns_of(form), 1)

    assert error.value.field == field


def test_holes_that_are_too_long_are_told_before_a_template_is_built():
    many = "_a" * 3000
    columns = columns_of("text_with_masks")
    prepared = prepare({"text_with_masks": many}, spec_of(mask_token="_"), columns, 1)

    with pytest.raises(ContextLengthExceeded) as error:
        prepared.template(Letters(), 512)

    assert failed(error.value, {}).status == "too_long"


def test_an_error_becomes_a_row_of_its_type_and_message():
    row = failed(InvalidRequest("steps", "x" * 10_000, "an integer"), {"seed": 7})

    assert (row.status, row.error_type) == ("error", "InvalidRequest")
    assert row.error_message is not None
    assert len(row.error_message) == 500
    assert failed(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), {}).status == "error"


def test_the_output_table_has_one_schema_whatever_its_rows():
    schema_in = pa.schema([("prompt", pa.string()), ("id", pa.int64()), ("x", pa.float64())])
    columns = columns_of("prompt", keep=("prompt", "x"), own_id="id")
    schema = output_schema(schema_in, columns)
    batch = pa.table({"prompt": ["a", None], "id": [7, 7], "x": [None, None], "row_hash": [1, 2]})
    places = {"src_file": pa.array(["f", "f"]), "src_row": pa.array([0, 1])}
    spec = spec_of("generate", max_new_tokens=1)
    prepared = prepare({"prompt": "a"}, spec, columns, 1)
    ok = completed(
        prepared, fill(prepared), Letters(), mean_confidence=0.5, latency_ms=2.0, finished_at=NOW
    )

    mixed = output_table(batch, columns, schema, places, [ok, failed(ValueError("no"), {})])
    errors = output_table(batch, columns, schema, places, [failed(ValueError("no"), {})] * 2)

    assert mixed.schema.equals(errors.schema)
    assert mixed.schema.names == ["prompt", "x", *OUTPUT_NAMES]
    assert mixed.column("status").to_pylist() == ["ok", "error"]
    assert mixed.column("output").to_pylist() == ["z", None]
    assert mixed.schema.field("output").type == pa.large_string()
    assert pa.types.is_dictionary(mixed.schema.field("status").type)
    assert mixed.column("dream_id").to_pylist() == [7, 7]


def test_commit_steps_name_the_step_of_each_hole_token_in_the_order_of_the_canvas():
    usage = Usage(prompt_tokens=1, completion_tokens=3, steps=9, forward_passes=2, token_forwards=8)
    spans = [
        Span(id="0", start=1, end=3, token_ids=[7, 7]),
        Span(id="1", start=5, end=7, token_ids=[7]),  # cut at an EOS, its tail filled by the exit
    ]
    done = Completion(id="r", token_ids=[], spans=spans, finish_reason="stop", usage=usage)
    events = [
        StepEvent(request_id="r", step=3, positions=[2, 5], token_ids=[7, 7], confidences=[1, 1]),
        StepEvent(request_id="r", step=8, positions=[1], token_ids=[7], confidences=[1]),
    ]

    assert commit_steps(done, events) == [8, 3, 3, None]


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([[(0, [1]), (3, [2])]], 1),
        ([[(0, [1]), (3, [2])], [(0, [2]), (5, [1, 3])]], 2),
        ([[(0, [1])], [(1, [1, 2])], [(1, [3, 4]), (3, [1, 2])]], 3),
        ([[]], 0),
    ],
)
def test_a_canvas_that_grew_is_told_by_its_last_run(runs, kept):
    events = [
        StepEvent(
            request_id="r",
            step=step,
            positions=places,
            token_ids=[],
            confidences=[],
            attempt=number,
        )
        for number, run in enumerate(runs)
        for step, places in run
    ]

    last = last_attempt(events)

    assert [(event.step, event.positions) for event in last] == (runs[kept - 1] if kept else [])
