"""How columns are used follows from their names, and what cannot work is refused by name."""

from __future__ import annotations

from dataclasses import fields

import pyarrow as pa
import pytest

from dream import SamplingParams
from dream.options import options_of
from jobs.common.errors import Refused
from jobs.fill.columns import input_columns
from jobs.fill.config import JobSpec

OF_KIND = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}


def spec_of(task="generate", **more):
    return JobSpec(input=["/in"], output="/out", task=task, model="embedded", **more)


def schema_of(**columns):
    return pa.schema(list(columns.items()))


@pytest.mark.parametrize(
    ("task", "columns", "layout"),
    [
        ("generate", {"prompt": pa.string()}, "prompt"),
        ("infill", {"text_with_masks": pa.large_string()}, "text_with_masks"),
        (
            "infill",
            {"prefix": pa.string(), "suffix": pa.string(), "mask_len": pa.int8()},
            "prefix_suffix",
        ),
        ("infill", {"segments": pa.list_(pa.struct([("text", pa.string())]))}, "segments"),
        ("infill", {"prompt": pa.string(), "text_with_masks": pa.string()}, "text_with_masks"),
    ],
)
def test_the_layout_of_the_input_follows_from_its_columns(task, columns, layout):
    assert input_columns(spec_of(task), schema_of(**columns)).layout == layout


def test_prompt_column_names_the_text_of_either_task():
    schema = schema_of(question=pa.string(), prompt=pa.string(), text_with_masks=pa.string())

    asked = input_columns(spec_of(prompt_column="question"), schema)
    filled = input_columns(spec_of("infill", prompt_column="question"), schema)

    assert (asked.layout, asked.template) == ("prompt", ("question",))
    assert (filled.layout, filled.template) == ("text_with_masks", ("question",))


def test_parameters_of_a_row_are_consumed_and_the_rest_is_kept():
    schema = schema_of(
        prompt=pa.string(), steps=pa.int64(), seed=pa.uint64(), id=pa.string(), x=pa.float32()
    )

    columns = input_columns(spec_of(id_column="id"), schema)

    assert columns.parameters == ("steps", "seed")
    assert columns.keep == ("prompt", "id", "x")
    narrow = input_columns(spec_of(id_column="id", keep_columns=["x"]), schema)
    assert narrow.keep == ("x",)
    assert narrow.read == ("x", "prompt", "steps", "seed", "id")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": pa.string()}, "reads prompt"),
        ({"prompt": pa.int64()}, "'prompt' is int64, not a string"),
        ({"prompt": pa.string(), "row_hash": pa.uint64()}, "'row_hash' is reserved"),
        ({"prompt": pa.string(), "_dream_x": pa.string()}, "'_dream_x' is reserved"),
        ({"prompt": pa.string(), "status": pa.string()}, "name of an output column"),
        ({"prompt": pa.string(), "steps": pa.float64()}, "'steps' is double, not an integer; if"),
        ({"prompt": pa.string(), "top_p": pa.string()}, "'top_p' is string, not a number"),
        ({"prompt": pa.string(), "early_exit": pa.int8()}, "'early_exit' is int8, not a boolean"),
        ({"prompt": pa.string(), "order": pa.int64()}, "leave it out of --parameter-columns"),
    ],
)
def test_columns_that_cannot_work_are_refused(columns, message):
    with pytest.raises(Refused) as refusal:
        input_columns(spec_of(), schema_of(**columns))

    assert message in str(refusal.value)


def test_an_output_name_may_be_left_out_of_what_is_kept():
    schema = schema_of(prompt=pa.string(), output=pa.string())

    assert input_columns(spec_of(keep_columns=["prompt"]), schema).keep == ("prompt",)


def test_two_layouts_at_once_and_columns_that_are_not_there_are_refused():
    segments = pa.list_(pa.struct([("text", pa.string())]))
    both = schema_of(text_with_masks=pa.string(), segments=segments)
    with pytest.raises(Refused, match="has text_with_masks and segments"):
        input_columns(spec_of("infill"), both)
    for wrong in ({"prompt_column": "q"}, {"id_column": "q"}, {"keep_columns": ["q"]}):
        with pytest.raises(Refused, match="no column 'q'"):
            input_columns(spec_of(**wrong), schema_of(prompt=pa.string()))
    with pytest.raises(Refused, match="not list<struct"):
        input_columns(spec_of("infill"), schema_of(segments=pa.string()))


def test_every_sampling_parameter_may_be_a_column():
    names = [field.name for field in fields(SamplingParams)]
    kinds = {name: OF_KIND[options_of(SamplingParams)[name].kind] for name in names}

    columns = input_columns(spec_of(), schema_of(prompt=pa.string(), **kinds))

    assert columns.sampling == tuple(names)
    assert columns.keep == ("prompt", *(name for name in names if name not in ("steps", "seed")))


def test_only_the_columns_that_are_named_are_parameters():
    schema = schema_of(prompt=pa.string(), order=pa.int64(), top_k=pa.int32(), steps=pa.int64())
    kept = ["prompt", "order"]

    some = input_columns(spec_of(parameter_columns="top_k", keep_columns=kept), schema)
    none = input_columns(spec_of(parameter_columns=[], keep_columns=kept), schema)

    assert (some.parameters, none.parameters, none.keep) == (("top_k",), (), ("prompt", "order"))
    with pytest.raises(Refused, match="'steps' has the name of an output column"):
        input_columns(spec_of(parameter_columns=[]), schema)
    with pytest.raises(Refused, match="'prompt' is no parameter of a row; those: steps"):
        input_columns(spec_of(parameter_columns=["prompt"]), schema)
    with pytest.raises(Refused, match="no column 'alg'"):
        input_columns(spec_of(parameter_columns=["alg"]), schema)


def test_a_column_that_holds_the_text_is_no_parameter_too():
    schema = schema_of(order=pa.string(), max_new_tokens=pa.string())

    columns = input_columns(spec_of("infill", prompt_column="order"), schema)

    assert (columns.template, columns.parameters) == (("order",), ())


def test_a_segment_has_no_key_that_would_be_dropped():
    known = pa.struct([("text", pa.string()), ("hole", pa.int8()), ("priority", pa.int8())])
    other = pa.struct([("text", pa.string()), ("hole", pa.int8()), ("prio", pa.int8())])

    assert input_columns(spec_of("infill"), schema_of(segments=pa.list_(known))).parameters == ()
    with pytest.raises(Refused, match="not list<struct<text, hole, id, priority>>"):
        input_columns(spec_of("infill"), schema_of(segments=pa.list_(other)))
