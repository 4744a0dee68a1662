"""Which input columns make a row's text, set its parameters, and are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pyarrow as pa

from dream.options import options_of
from dream.params import SamplingParams
from jobs.common.errors import Refused
from jobs.fill.config import JobSpec

__all__ = ["LAYOUTS", "LENGTH", "OUTPUT_NAMES", "ColumnMap", "InputLayout", "input_columns"]

InputLayout = Literal["prompt", "text_with_masks", "prefix_suffix", "segments"]

OUTPUT_NAMES = (
    *("dream_id", "row_hash", "src_file", "src_row", "status", "error_type", "error_message"),
    *("output", "infilled", "finish_reason", "prompt_tokens", "completion_tokens", "steps"),
    *("forward_passes", "token_forwards", "bit_exact", "mean_confidence", "seed"),
    *("latency_ms", "finished_at", "commit_steps"),
)
"""Names of the output columns, in order; an input column of such a name cannot be kept."""

LENGTH = "max_new_tokens"
"""The row parameter of a prompt that is no sampling parameter."""

LAYOUTS: dict[InputLayout, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "text_with_masks": ("text_with_masks",),
    "prefix_suffix": ("prefix", "suffix", "mask_len"),
    "segments": ("segments",),
}

SEGMENT_KEYS = ("text", "hole", "id", "priority")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """Which input columns make the template, set a row's parameters, and are kept."""

    layout: InputLayout
    template: tuple[str, ...]
    parameters: tuple[str, ...]
    keep: tuple[str, ...]
    id: str | None

    @property
    def sampling(self) -> tuple[str, ...]:
        """The columns that are sampling parameters of the row."""
        return tuple(name for name in self.parameters if name != LENGTH)

    @property
    def read(self) -> tuple[str, ...]:
        """Every column that has to be read, each once."""
        own = (self.id,) if self.id else ()
        return tuple(dict.fromkeys((*self.keep, *self.template, *self.parameters, *own)))


class Wanted(NamedTuple):
    """A type of columns: in words, and whether a column has it."""

    words: str
    is_right: Callable[[pa.DataType], bool]


def input_columns(spec: JobSpec, schema: pa.Schema) -> ColumnMap:
    """How the columns are used; refuses what is missing, reserved or of the wrong type."""
    names = list(schema.names)
    for name in names:
        if name == "row_hash" or name.startswith("_dream_") or names.count(name) > 1:
            raise Refused(f"input column {name!r} is reserved or given twice: rename it")
    own_id = [spec.id_column] if spec.id_column else []
    for name in (*(spec.keep_columns or ()), *(spec.parameter_columns or ()), *own_id):
        if name not in names:
            raise Refused(f"input has no column {name!r}; it has {', '.join(names)}")
    layout, template = _template_columns(spec, names)
    for name in template:
        is_text = layout in ("prompt", "text_with_masks")
        _check_type(schema.field(name), TEXT if is_text else _OF_TEMPLATE[name])
    parameters = _parameter_columns(spec, schema, layout, template)
    return ColumnMap(
        layout=layout,
        template=template,
        parameters=parameters,
        keep=_kept_columns(spec, names, parameters),
        id=spec.id_column,
    )


def _parameter_columns(
    spec: JobSpec, schema: pa.Schema, layout: InputLayout, template: tuple[str, ...]
) -> tuple[str, ...]:
    wanted = {name: _OF_KIND[one.kind] for name, one in options_of(SamplingParams).items()}
    if layout == "prompt":
        wanted[LENGTH] = INTEGER
    for name in spec.parameter_columns or ():
        if name not in wanted:
            known = ", ".join(wanted)
            raise Refused(f"--parameter-columns: {name!r} is no parameter of a row; those: {known}")
    asked = wanted if spec.parameter_columns is None else spec.parameter_columns
    found = tuple(name for name in wanted if name in asked and name in schema.names)
    parameters = tuple(name for name in found if name not in template)
    for name in parameters:
        hint = "; if it is no parameter of the rows, leave it out of --parameter-columns"
        _check_type(schema.field(name), wanted[name], hint)
    return parameters


def _kept_columns(spec: JobSpec, names: list[str], parameters: tuple[str, ...]) -> tuple[str, ...]:
    """A parameter that has the name of an output column comes back as that column."""
    kept = names if spec.keep_columns is None else list(dict.fromkeys(spec.keep_columns))
    keep = tuple(name for name in kept if name not in parameters or name not in OUTPUT_NAMES)
    for name in keep:
        if name in OUTPUT_NAMES:
            raise Refused(
                f"input column {name!r} has the name of an output column: "
                "rename it, or leave it out with --keep-columns"
            )
    return keep


def _template_columns(spec: JobSpec, names: list[str]) -> tuple[InputLayout, tuple[str, ...]]:
    if spec.prompt_column is not None:
        if spec.prompt_column not in names:
            raise Refused(f"input has no column {spec.prompt_column!r}; it has {', '.join(names)}")
        return "prompt" if spec.task == "generate" else "text_with_masks", (spec.prompt_column,)
    wanted = [layout for layout in LAYOUTS if (layout == "prompt") == (spec.task == "generate")]
    found = [layout for layout in wanted if all(column in names for column in LAYOUTS[layout])]
    if len(found) == 1:
        return found[0], LAYOUTS[found[0]]
    choices = " | ".join("+".join(LAYOUTS[layout]) for layout in wanted)
    problem = f"has {' and '.join(found)}, of which one is allowed" if found else "has none of it"
    raise Refused(
        f"task {spec.task} reads {choices}; the input ({', '.join(names)}) {problem}; "
        "--prompt-column names a text column of any other name"
    )


def _check_type(field: pa.Field, wanted: Wanted, hint: str = "") -> None:
    if not pa.types.is_null(field.type) and not wanted.is_right(field.type):
        raise Refused(f"input column {field.name!r} is {field.type}, not {wanted.words}{hint}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_integer(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_boolean(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind))


def _is_segments(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list and pa.types.is_struct(kind.value_type)):
        return False
    return {field.name for field in kind.value_type} <= set(SEGMENT_KEYS)


TEXT = Wanted("a string", _is_text)
INTEGER = Wanted("an integer", _is_integer)
_OF_KIND = {
    int: INTEGER,
    float: Wanted("a number", _is_number),
    bool: Wanted("a boolean", _is_boolean),
    str: TEXT,
}
_OF_TEMPLATE = {
    "prefix": TEXT,
    "suffix": TEXT,
    "mask_len": INTEGER,
    "segments": Wanted(f"list<struct<{', '.join(SEGMENT_KEYS)}>>", _is_segments),
}
