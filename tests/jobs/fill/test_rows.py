"""Rows become templates and come back whole: given text is the row's own, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream.errors import ContextLengthExceeded, InvalidRequest
from dream.request import Completion, Span, StepEvent, Usage
from dream.template import Fixed, Hole
from jobs.fill.columns import LAYOUTS, OUTPUT_NAMES, ColumnMap
from jobs.fill.config import JobSpec
from jobs.fill.identity import row_seed
from jobs.fill.rows import (
    commit_steps,
    completed,
    failed,
    last_attempt,
    output_schema,
    output_table,
    prepare,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Letters:
    """A tokenizer of one token for each character that loses case, so that copies show."""

    max_token_bytes = 4

    def encode(self, text):
        return [ord(letter) for letter in text.lower()]

    def decode(self, token_ids):
        return "".join(map(chr, token_ids))


def spec_of(task="infill", **more):
    return JobSpec(input=["/in"], output="/out", task=task, model="embedded", **more)


def columns_of(layout, parameters=(), keep=(), own_id=None):
    return ColumnMap(
        layout=layout, template=LAYOUTS[layout], parameters=parameters, keep=keep, id=own_id
    )


def fill(prepared, letter="z"):
    """The completion in which every hole holds `letter`."""
    template = prepared.text.encode(Letters().encode)
    spans = [
        Span(id=hole.id, start=hole.start, end=hole.end, token_ids=[ord(letter)] * (h.num_tokens))
        for hole, h in zip(
            template.holes, [s for s in template.segments if isinstance(s, Hole)], strict=True
        )
    ]
    usage = Usage(prompt_tokens=1, completion_tokens=2, steps=3, forward_passes=3, token_forwards=9)
    return Completion(id="r", token_ids=[], spans=spans, finish_reason="length", usage=usage)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


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

    template = prepared.text.encode(Letters().encode)
    assert list(template.segments) == [Fixed([97, 98]), Hole(3)]
    assert longer.text.pieces[1] == Hole(5)
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
        assert prepared.output(["xy"]) == "def f(xy): pass"
    assert named.text.encode(Letters().encode).holes[0].id == "args"
    assert parts.text.encode(Letters().encode).holes[0].id == "0"


def test_empty_text_makes_no_token_and_no_failure():
    cells = {"prefix": "", "suffix": "", "mask_len": 2}

    prepared = prepare(cells, spec_of(), columns_of("prefix_suffix"), 1)

    assert prepared.text.pieces == (Hole(2),)


def test_a_row_has_its_own_seed_unless_it_brings_one():
    spec = spec_of("generate", seed=5, steps=9)
    columns = columns_of("prompt", ("seed", "steps"))

    derived = prepare({"prompt": "a", "seed": None, "steps": None}, spec, columns, 77).params
    brought = prepare({"prompt": "a", "seed": 3, "steps": 4}, spec, columns, 77).params

    assert (derived.seed, derived.steps) == (row_seed(5, 77), 9)
    assert (brought.seed, brought.steps) == (3, 4)


def test_any_sampling_parameter_may_be_the_rows_own_and_null_is_the_jobs():
    spec = spec_of("generate", temperature=0.5, top_k=7)
    columns = columns_of("prompt", ("temperature", "top_k", "early_exit", "order", "window"))
    own = {"temperature": 1, "top_k": None, "early_exit": False, "order": None}

    params = prepare({"prompt": "a", "window": "dual", **own}, spec, columns, 1).params

    assert (params.temperature, params.top_k, params.early_exit) == (1, 7, False)
    assert (params.order, params.window) == ("confidence", "dual")
    for wrong in ({"temperature": float("nan")}, {"order": "best"}, {"top_k": 0}):
        with pytest.raises(InvalidRequest) as error:
            prepare({"prompt": "a", **wrong}, spec, columns, 1)
        assert error.value.field in wrong


@pytest.mark.parametrize(
    ("layout", "cells", "field"),
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
        ("segments", {"segments": [{"text": "a", "priority": 1}]}, "segments[0]"),
        ("segments", {"segments": [{"text": "a", "id": "x"}]}, "segments[0]"),
        ("segments", {"segments": [{"hole": 1, "priority": "1"}]}, "segments[0].priority"),
    ],
)
def test_a_malformed_row_says_which_field_is_wrong(layout, cells, field):
    spec = spec_of("generate" if layout == "prompt" else "infill")
    parameters = tuple(name for name in ("steps", "max_new_tokens") if name in cells)

    with pytest.raises(InvalidRequest) as error:
        prepare(cells, spec, columns_of(layout, parameters), 1)

    assert error.value.field == field


def test_a_text_that_is_too_long_is_a_status_of_its_own():
    many = "_a" * 3000
    columns = columns_of("text_with_masks")
    prepared = prepare({"text_with_masks": many}, spec_of(mask_token="_"), columns, 1)

    with pytest.raises(ContextLengthExceeded) as error:
        prepared.text.check_length(512, 4)

    assert failed(error.value, {}).status == "too_long"


def test_the_priority_of_a_hole_is_kept():
    segments = [{"text": "a"}, {"hole": 2, "priority": 3}, {"hole": 1, "priority": None}]

    prepared = prepare({"segments": segments}, spec_of(), columns_of("segments"), 1)

    assert prepared.text.holes == (Hole(2, None, 3), Hole(1))


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
