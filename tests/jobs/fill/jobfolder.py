"""Job folders made by hand, as a driver leaves them: parts, ledger, record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.fill.config import JobRecord, JobSpec
from jobs.fill.identity import row_hashes
from jobs.fill.ledger import CommitLog, JobFolder

INPUT = "/data/in.parquet"


def record_of(num_rows, out="/out", **settings):
    spec = JobSpec(input=["/data"], output=str(out), task="generate", model="embedded", **settings)
    return JobRecord(
        job_id="job1", created_at="now", num_rows=num_rows, spec=spec, identity=spec.identity()
    )


def begin(out: Path, num_rows: int, **settings) -> tuple[JobFolder, JobRecord]:
    """A job that has begun and committed nothing."""
    folder, record = JobFolder(out), record_of(num_rows, out, **settings)
    folder.meta.mkdir(parents=True)
    folder.begin(record, pa.table({"path": [INPUT], "num_rows": [num_rows]}))
    CommitLog(folder).take_over()
    return folder, record


def commit(
    folder: JobFolder,
    name: str,
    start: int,
    stop: int,
    *,
    statuses=None,
    ledger=True,
    path=INPUT,
) -> Path:
    """One commit batch: the rows `start` to `stop` of the input."""
    hashes = row_hashes(path, start, stop - start)
    part = folder.data / f"{name}-0.parquet"
    schema = part_table(hashes, statuses).schema
    footer = {"dream.fingerprint": folder.read_record().fingerprint}
    pq.write_table(
        part_table(hashes, statuses).cast(schema.with_metadata(footer)),
        part,
        write_page_checksum=True,
    )
    if ledger:
        pq.write_table(pa.table({"row_hash": hashes}), CommitLog(folder).path / f"{name}.parquet")
    return part


def part_table(hashes: np.ndarray, statuses=None) -> pa.Table:
    """The columns of a part that are counted."""
    count = len(hashes)
    totals = ("prompt_tokens", "completion_tokens", "forward_passes", "token_forwards")
    return pa.table(
        {"row_hash": hashes, "status": statuses or ["ok"] * count}
        | {name: pa.array([2] * count, pa.int64()) for name in totals}
    )
