"""Answers read and scored: one pass over the committed rows of a variant."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.common.errors import JobError
from jobs.evaluate.config import Steps, Variant
from jobs.evaluate.order import order_metrics
from jobs.evaluate.suite import Suite
from jobs.fill.ledger import JobFolder
from jobs.fill.manifest import read_manifest
from jobs.fill.rows import InfilledSpan

__all__ = ["Row", "Sample", "samples_as_parquet", "score_row", "score_variant"]

_TYPES = {
    "suite": pa.string(),
    "steps_asked": pa.string(),
    "question": pa.int64(),
    "bucket": pa.string(),
    "input": pa.string(),
    "reference": pa.string(),
    "status": pa.string(),
    "error_message": pa.string(),
    "steps": pa.int32(),
    "forward_passes": pa.int32(),
    "token_forwards": pa.int64(),
    "completion_tokens": pa.int32(),
    "mean_confidence": pa.float32(),
    "seed": pa.uint64(),
    "latency_ms": pa.float32(),
    "finished_at": pa.timestamp("us", tz="UTC"),
    "commit_steps": pa.list_(pa.int32()),
}
"""Columns that samples have of their rows."""


class Row(TypedDict):
    """What is read of an output row."""

    suite: str
    steps_asked: str
    question: int
    bucket: str
    input: str
    reference: str
    status: str
    error_message: str | None
    infilled: list[InfilledSpan] | None
    steps: int | None
    forward_passes: int | None
    token_forwards: int | None
    completion_tokens: int | None
    mean_confidence: float | None
    seed: int | None
    latency_ms: float | None
    finished_at: datetime | None
    commit_steps: list[int | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer, scored; a row that failed has no answer, and every score of it is False."""

    variant: Variant
    row: Row
    answer: str | None
    scores: Mapping[str, bool]
    order_metrics: Mapping[str, float | None]


def score_variant(
    folder: JobFolder, variant: Variant, suites: Sequence[Suite], steps: Sequence[Steps]
) -> list[Sample]:
    """Every row of a finished variant as a sample: by suite, then steps as asked, then question."""
    by_name = {suite.name: suite for suite in suites}
    parts = [folder.data / entry.name for entry in read_manifest(folder).parts]
    samples = [
        score_row(row, variant, by_name[row["suite"]]) for part in parts for row in _rows(part)
    ]
    suite_place = {name: place for place, name in enumerate(by_name)}
    steps_place = {str(asked): place for place, asked in enumerate(steps)}
    return sorted(
        samples,
        key=lambda sample: (
            suite_place[sample.row["suite"]],
            steps_place[sample.row["steps_asked"]],
            sample.row["question"],
        ),
    )


def samples_as_parquet(samples: Sequence[Sample]) -> bytes:
    """The samples as one table; each score and order metric is a column."""
    columns = {
        name: pa.array([sample.row.get(name) for sample in samples], kind)
        for name, kind in _TYPES.items()
    }
    columns["alg"] = pa.array([sample.variant.alg for sample in samples], pa.string())
    columns["order"] = pa.array([sample.variant.order for sample in samples], pa.string())
    columns["answer"] = pa.array([sample.answer for sample in samples], pa.string())
    for name in dict.fromkeys(name for sample in samples for name in sample.scores):
        if name in columns:
            raise JobError(f"metric {name!r} has the name of a column of the samples: rename it")
        columns[name] = pa.array([sample.scores.get(name) for sample in samples], pa.bool_())
    for name in dict.fromkeys(name for sample in samples for name in sample.order_metrics):
        values = [sample.order_metrics.get(name) for sample in samples]
        columns[name] = pa.array(values, pa.float64())
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()


def _rows(part: Path) -> list[Row]:
    wanted = [*_TYPES, "infilled"]
    try:
        rows: list[Row] = pq.read_table(part, columns=wanted, partitioning=None).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{part} is not readable: {error}") from error
    return rows


def score_row(row: Row, variant: Variant, suite: Suite) -> Sample:
    """A row read and scored by its suite."""
    answer = None
    scores = dict.fromkeys(suite.metrics, False)
    question = suite.questions[row["question"]]
    if row["status"] == "ok" and row["infilled"] is not None:
        answer = suite.read_answer(question, [span["text"] for span in row["infilled"]])
        for name, metric in suite.metrics.items():
            scores[name] = bool(metric(question.problem.input, answer))
    return Sample(
        variant=variant,
        row=row,
        answer=answer,
        scores=scores,
        order_metrics=order_metrics(row["commit_steps"]),
    )
