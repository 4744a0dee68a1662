"""A suite from any Parquet file: its own prompts or templates, its own references or scorer."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dream.errors import InvalidRequest
from jobs.common.errors import Refused
from jobs.evaluate.suite import Metric, Question, Suite, filled
from jobs.evaluate.suite_options import Task
from jobs.fill.columns import LENGTH, ColumnMap, input_columns
from jobs.fill.config import JobSpec, load_spec
from jobs.fill.rows import Cell, prepare
from jobs.tasks.base import Problem

__all__ = ["Scorer", "custom_suite", "load_scorer"]

Scorer = Callable[[dict[str, Cell], str], bool | float]
"""Whether an answer to a row is right: True or 1, False or 0."""

EVERYTHING = "all"
"""The bucket of rows that name none."""


def custom_suite(
    *,
    data: str,
    task: Task,
    prompt_column: str | None,
    mask_token: str,
    max_new_tokens: int,
    reference_column: str | None,
    bucket_column: str | None,
    scorer: str | None,
    num: int | None,
) -> Suite:
    """The rows of a Parquet file, read as `run` reads them, the first `num` of them if given.

    An answer is what `run` puts into `output`: the generated text, or an infilled text whole.
    It is right if it equals the row's reference, blanks around both apart, or as a scorer says.
    Problem inputs are the rows as JSON; values that JSON has no type for are their text.
    """
    if (reference_column is None) == (scorer is None):
        raise Refused("a custom suite needs either --reference-column or --scorer, and not both")
    spec = _spec(data, task, prompt_column, mask_token, max_new_tokens)
    table, digest = _read(data)
    own = [name for name in (LENGTH,) if name in table.schema.names]
    columns = input_columns(spec.model_copy(update={"parameter_columns": own}), table.schema)
    _refuse_ignored(data, table.schema)
    for name in (reference_column, bucket_column):
        if name is not None and name not in table.schema.names:
            raise Refused(f"{data} has no column {name!r}; it has {', '.join(table.schema.names)}")
    is_length_read = columns.layout == "prompt" and LENGTH not in columns.parameters
    metric = _scored_by(scorer) if scorer else _equals(reference_column or "")
    questions = [
        _question(f"{data} row {index}", row, spec, columns, reference_column, bucket_column)
        for index, row in enumerate(table.slice(0, num).to_pylist())
    ]
    if not questions:
        raise Refused(f"{data}: it has no rows")
    return Suite(
        name="custom",
        version=1,
        questions=tuple(questions),
        read_answer=_generated if columns.layout == "prompt" else filled,
        metrics={"acc": metric},
        config={
            "task": task,
            "input_layout": columns.layout,
            "num": len(questions),
            "split": "file",
            "data": Path(data).name,
            "data_sha256": digest,
            "prompt_column": prompt_column,
            "mask_token": mask_token,
            "max_new_tokens": max_new_tokens if is_length_read else None,
            "reference_column": reference_column,
            "bucket_column": bucket_column,
            "scorer": scorer,
            "scorer_sha256": None if scorer is None else _module_sha256(scorer),
        },
    )


def load_scorer(name: str) -> Scorer:
    """The function of `module:function`; modules of the working directory are found too."""
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name.isidentifier():
        raise Refused(f"--scorer {name!r}: module:function is expected")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError, TypeError) as error:
        raise Refused(f"--scorer {name}: {module_name} cannot be imported: {error}") from error
    finally:
        sys.path.remove(here)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise Refused(f"--scorer {name}: {module_name} has no function {function_name}")
    scorer: Scorer = function
    return scorer


def _refuse_ignored(data: str, schema: pa.Schema) -> None:
    """Columns that `run` would read, and that an evaluation sets for every row itself."""
    for name in ("steps", "seed"):
        if name in schema.names:
            raise Refused(
                f"{data}: column {name!r} would be ignored, as --{name} says it of every row: "
                "rename or drop the column"
            )


def _module_sha256(scorer: str) -> str | None:
    """Digest of the scorer's module, as imported before; None where it has no file."""
    path = getattr(sys.modules[scorer.partition(":")[0]], "__file__", None)
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _scored_by(name: str) -> Metric:
    scorer = load_scorer(name)

    def is_right(problem_input: str, answer: str) -> bool:
        score = scorer(json.loads(problem_input), answer)
        if score not in (0, 1):
            raise Refused(f"--scorer {name} returned {score!r}: True or False, 1 or 0 is expected")
        return bool(score)

    return is_right


def _equals(reference_column: str) -> Metric:
    def is_right(problem_input: str, answer: str) -> bool:
        reference = json.loads(problem_input)[reference_column]
        return bool(answer.strip() == reference.strip())

    return is_right


def _generated(question: Question, spans: Sequence[str]) -> str:
    return "".join(spans)


def _question(
    place: str,
    row: Mapping[str, Cell],
    spec: JobSpec,
    columns: ColumnMap,
    reference_column: str | None,
    bucket_column: str | None,
) -> Question:
    try:
        template = prepare(row, spec, columns, row_hash=0).text
    except InvalidRequest as error:
        raise Refused(f"{place}: {error}") from error
    reference = "" if reference_column is None else row[reference_column]
    if not isinstance(reference, str):
        raise Refused(f"{place}: column {reference_column!r} is {reference!r}, not a string")
    bucket = EVERYTHING if bucket_column is None else str(row[bucket_column])
    text = json.dumps(row, ensure_ascii=False, default=str)
    return Question(
        problem=Problem(input=text, reference=reference, bucket=bucket),
        text=template,
    )


def _spec(
    data: str, task: Task, prompt_column: str | None, mask_token: str, max_new_tokens: int
) -> JobSpec:
    """The part of a job that says how rows are read; it is never run."""
    return load_spec(
        {
            "input": [data],
            "output": "unused",
            "task": task,
            "model": "embedded",
            "prompt_column": prompt_column,
            "mask_token": mask_token,
            "max_new_tokens": max_new_tokens,
            "keep_columns": [],
        }
    )


def _read(data: str) -> tuple[pa.Table, str]:
    try:
        content = Path(data).read_bytes()
        return pq.read_table(pa.BufferReader(content)), hashlib.sha256(content).hexdigest()
    except (OSError, pa.ArrowException) as error:
        raise Refused(f"{data}: not readable as Parquet: {error}") from error
