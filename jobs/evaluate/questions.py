"""Questions as the input of a job: one row for each suite, steps count and question."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dream.errors import InvalidRequest
from dream.template import Hole
from dream.text import TextTemplate
from jobs.common.errors import Refused
from jobs.common.seeds import derive_seed
from jobs.evaluate.config import EvalSpec, Steps
from jobs.evaluate.suite import Question, Suite

__all__ = ["InputFile", "input_files", "question_seed", "refuse_trivial", "suite_hash"]

_SEGMENT = pa.struct(
    [
        ("text", pa.string()),
        ("hole", pa.int64()),
        ("id", pa.string()),
        ("priority", pa.int64()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("suite", pa.string()),
        pa.field("question", pa.int64()),
        pa.field("steps_asked", pa.string()),
        pa.field("bucket", pa.string()),
        pa.field("input", pa.string()),
        pa.field("reference", pa.string()),
        pa.field("segments", pa.list_(_SEGMENT)),
        pa.field("steps", pa.int64()),
        pa.field("seed", pa.int64()),
    ]
)


class InputFile(NamedTuple):
    """A file of questions: its name, and all it holds."""

    name: str
    content: bytes


def input_files(suites: Sequence[Suite], steps: Sequence[Steps], seed: int) -> list[InputFile]:
    """One Parquet file for each suite; the same questions always give the same bytes."""
    files = []
    for place, suite in enumerate(suites):
        rows = [
            _row(suite, number, question, asked, seed)
            for asked in steps
            for number, question in enumerate(suite.questions)
        ]
        slug = re.sub(r"[^A-Za-z0-9_-]", "-", suite.name)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        files.append(InputFile(f"{place:02d}-{slug}.parquet", _as_parquet(table)))
    return files


def question_seed(seed: int, suite: str, number: int) -> int:
    """Seed of a question: the same at every steps count, by every algorithm and order."""
    return derive_seed(seed, json.dumps([suite, number]).encode("utf-8"))


def suite_hash(suite: Suite) -> str:
    """sha256 of everything that is asked, and of what is compared with the answers."""
    asked = [[_segments(q), q.problem.input, q.problem.reference] for q in suite.questions]
    text = json.dumps(asked, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def refuse_trivial(suite: Suite, spec: EvalSpec) -> None:
    """Refuse a bucket whose questions are all one question that some variant gives one answer."""
    fixed = [v.title for v in spec.variants if not spec.is_drawn(v)]
    if not fixed:
        return
    asked: dict[str, list[TextTemplate]] = {}
    for question in suite.questions:
        asked.setdefault(question.problem.bucket, []).append(question.text)
    for bucket, texts in asked.items():
        if len(texts) > 1 and len(set(texts)) == 1:
            raise Refused(
                f"suite {suite.name}, bucket {bucket}: its {len(texts):,} questions are all the "
                f"same, and so are the answers of {' and '.join(fixed)} at temperature 0: give "
                "--temperature 1, --alg-temp 1 (order confidence), only --order random, only "
                "--alg origin, or other questions"
            )


def _row(
    suite: Suite, number: int, question: Question, asked: Steps, seed: int
) -> dict[str, object]:
    if not question.text.holes:
        raise InvalidRequest(f"{suite.name}[{number}]", _segments(question), "at least one hole")
    return {
        "suite": suite.name,
        "question": number,
        "steps_asked": str(asked),
        "bucket": question.problem.bucket,
        "input": question.problem.input,
        "reference": question.problem.reference,
        "segments": _segments(question),
        "steps": question.text.num_masked if asked == "full" else asked,
        "seed": question_seed(seed, suite.name, number),
    }


def _segments(question: Question) -> list[dict[str, str | int | None]]:
    """The text with holes as a cell of the column `segments`."""
    return [_hole(p) if isinstance(p, Hole) else {"text": str(p)} for p in question.text.pieces]


def _hole(hole: Hole) -> dict[str, str | int | None]:
    assert isinstance(hole.priority, int), "questions give a hole one priority"
    return {"hole": hole.num_tokens, "id": hole.id, "priority": hole.priority}


def _as_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
