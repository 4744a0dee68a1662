"""What goes in: the input files, their footers, and which columns the task reads."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.common.errors import JobError, Refused
from jobs.fill.config import JobSpec, odd_letters
from jobs.fill.identity import FileRows

__all__ = ["ColumnMap", "Form", "InputFile", "Inputs", "input_columns", "refuse_changed", "scan"]

Form = Literal["prompt", "text_with_masks", "prefix_suffix", "segments"]

OUTPUT_NAMES = (
    *("dream_id", "row_hash", "src_file", "src_row", "status", "error_type", "error_message"),
    *("output", "infilled", "finish_reason", "prompt_tokens", "completion_tokens", "steps"),
    *("forward_passes", "token_forwards", "bit_exact", "mean_confidence", "seed"),
    *("latency_ms", "finished_at", "commit_steps"),
)
"""Names of the output columns, in order; an input column of such a name cannot be kept."""

ROW_PARAMETERS = ("steps", "seed", "max_new_tokens")
"""Optional input columns; a row's own value beats the flag."""

FORMS: dict[Form, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "text_with_masks": ("text_with_masks",),
    "prefix_suffix": ("prefix", "suffix", "mask_len"),
    "segments": ("segments",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One input file as its footer and its directory entry describe it."""

    path: str
    num_rows: int
    num_row_groups: int
    num_bytes: int
    mtime_ns: int
    schema_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Every input file in order, and the one schema that all of them can be read with."""

    files: tuple[InputFile, ...]
    schema: pa.Schema

    @property
    def num_rows(self) -> int:
        """Rows in all files together."""
        return sum(file.num_rows for file in self.files)

    @property
    def sha256(self) -> str:
        """Digest of what every file was when it was scanned."""
        rows = [[f.path, f.num_rows, f.num_bytes, f.mtime_ns, f.schema_sha256] for f in self.files]
        return hashlib.sha256(json.dumps(rows).encode("utf-8")).hexdigest()

    def first_rows(self, limit: int | None) -> tuple[FileRows, ...]:
        """The files that hold the first `limit` rows; all of them without a limit."""
        taken: list[FileRows] = []
        rows = 0
        for file in self.files:
            if limit is not None and rows >= limit:
                break
            taken.append(FileRows(path=file.path, num_rows=file.num_rows))
            rows += file.num_rows
        return tuple(taken)

    def as_table(self) -> pa.Table:
        """One row for each file: `_dream/inputs.parquet`."""
        names = InputFile.__slots__
        return pa.table({name: [getattr(file, name) for file in self.files] for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """Which input columns make the template, set a row's parameters, and are kept."""

    form: Form
    template: tuple[str, ...]
    parameters: tuple[str, ...]
    keep: tuple[str, ...]
    id: str | None

    @property
    def read(self) -> tuple[str, ...]:
        """Every column that has to be read, each once."""
        own = (self.id,) if self.id else ()
        return tuple(dict.fromkeys((*self.keep, *self.template, *self.parameters, *own)))


def scan(patterns: Sequence[str]) -> Inputs:
    """Read every footer; a file that cannot be read is named."""
    paths = [path for pattern in patterns for path in _expand(pattern)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        read = list(pool.map(_read_footer, paths))
    schema = _unify([(file.path, schema) for file, schema in read])
    return Inputs(files=tuple(file for file, _ in read), schema=schema)


def refuse_changed(recorded: Path) -> None:
    """Refuse to finish a job over an input file that is not the one it began with."""
    try:
        listed = pq.read_table(recorded, columns=["path", "num_bytes", "mtime_ns"]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{recorded} is not readable: {error}") from error
    for file in listed:
        try:
            stat = os.stat(file["path"])
        except OSError as error:
            raise JobError(f"input {file['path']} is gone: {error}") from error
        if (stat.st_size, stat.st_mtime_ns) != (file["num_bytes"], file["mtime_ns"]):
            raise JobError(
                f"input {file['path']} was changed while the job ran, so some rows may be of the "
                "old file and some of the new one: begin again with --overwrite"
            )


def input_columns(spec: JobSpec, schema: pa.Schema) -> ColumnMap:
    """How the columns are used; refuses what is missing, reserved or of the wrong type."""
    names = list(schema.names)
    for name in names:
        if name == "row_hash" or name.startswith("_dream_") or names.count(name) > 1:
            raise Refused(f"input column {name!r} is reserved or given twice: rename it")
    form, template = _template_columns(spec, names)
    parameters = tuple(name for name in ROW_PARAMETERS if name in names)
    for name in (*(spec.keep_columns or ()), *([spec.id_column] if spec.id_column else [])):
        if name not in names:
            raise Refused(f"input has no column {name!r}; it has {', '.join(names)}")
    consumed = {"steps", "seed"}  # come back as output columns of the same name
    kept = names if spec.keep_columns is None else list(dict.fromkeys(spec.keep_columns))
    keep = tuple(name for name in kept if name not in consumed)
    for name in keep:
        if name in OUTPUT_NAMES:
            raise Refused(
                f"input column {name!r} has the name of an output column: "
                "rename it, or leave it out with --keep-columns"
            )
    for name in (*template, *parameters):
        _check_type(schema.field(name))
    return ColumnMap(
        form=form, template=template, parameters=parameters, keep=keep, id=spec.id_column
    )


def _template_columns(spec: JobSpec, names: list[str]) -> tuple[Form, tuple[str, ...]]:
    if spec.prompt_column is not None:
        if spec.prompt_column not in names:
            raise Refused(f"input has no column {spec.prompt_column!r}; it has {', '.join(names)}")
        return "prompt" if spec.task == "generate" else "text_with_masks", (spec.prompt_column,)
    wanted = [form for form in FORMS if (form == "prompt") == (spec.task == "generate")]
    found = [form for form in wanted if all(column in names for column in FORMS[form])]
    if len(found) == 1:
        return found[0], FORMS[found[0]]
    choices = " | ".join("+".join(FORMS[form]) for form in wanted)
    problem = f"has {' and '.join(found)}, of which one is allowed" if found else "has none of it"
    raise Refused(
        f"task {spec.task} reads {choices}; the input ({', '.join(names)}) {problem}; "
        "--prompt-column names a text column of any other name"
    )


def _check_type(field: pa.Field) -> None:
    wanted, is_right = _WANTED[field.name] if field.name in _WANTED else _WANTED["prompt"]
    if not pa.types.is_null(field.type) and not is_right(field.type):
        raise Refused(f"input column {field.name!r} is {field.type}, not {wanted}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_integer(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind))


def _is_segments(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and pa.types.is_struct(kind.value_type))


_WANTED: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "prompt": ("a string", _is_text),
    "segments": ("list<struct<text, hole, id>>", _is_segments),
    "mask_len": ("an integer", _is_integer),
    **dict.fromkeys(ROW_PARAMETERS, ("an integer", _is_integer)),
}


def _expand(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        found = [str(path) for path in Path(pattern).rglob("*.parquet")]
        paths = sorted(path for path in found if not _is_hidden(os.path.relpath(path, pattern)))
    elif os.path.exists(pattern):
        paths = [pattern]
    else:
        paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise Refused(f"{pattern}: no such file, or no .parquet file in it")
    for path in paths:
        if not path.endswith(".parquet"):
            raise Refused(f"{path}: input files end in .parquet")
        if odd := odd_letters(path):
            raise Refused(f"{path}: a path without {odd} is needed; rename it")
    return paths


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in Path(relative).parts)


def _read_footer(path: str) -> tuple[InputFile, pa.Schema]:
    try:
        stat = os.stat(path)
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema().remove_metadata()
    except (OSError, pa.ArrowException) as error:
        raise Refused(f"{path}: not readable as Parquet: {error}") from error
    file = InputFile(
        path=path,
        num_rows=footer.num_rows,
        num_row_groups=footer.num_row_groups,
        num_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        schema_sha256=hashlib.sha256(str(schema).encode("utf-8")).hexdigest(),
    )
    return file, schema


def _unify(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for all files: integers and strings widen, a column may be absent."""
    unified = schemas[0][1]
    for path, schema in schemas[1:]:
        try:
            unified = pa.unify_schemas([unified, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise Refused(
                f"{path}: its columns do not fit those of the files before: {error}"
            ) from error
    return unified
