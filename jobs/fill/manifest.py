"""The end of a job: what was never committed goes, the rest is proved, manifest and `_SUCCESS`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from dream.errors import DreamError
from jobs.common.errors import JobError, Refused
from jobs.common.files import write_atomically
from jobs.fill.config import JobRecord
from jobs.fill.identity import FileRows, RowIndex
from jobs.fill.ledger import CommitLog, JobFolder
from jobs.fill.partfile import Counts, count_rows

__all__ = ["Manifest", "PartEntry", "file_sha256", "finalize", "incomplete", "read_manifest"]


class PartEntry(BaseModel):
    """One part as it was when the job ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    num_rows: int
    num_bytes: int
    sha256: str
    min_row_hash: int
    max_row_hash: int


class Manifest(BaseModel):
    """`_dream/manifest.json`: the parts that count, and what they add up to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    fingerprint: str
    finished_at: str
    attempts: int
    num_rows_in: int
    num_rows_out: int
    statuses: dict[str, int]
    totals: dict[str, int]
    parts: list[PartEntry]


def finalize(folder: JobFolder, record: JobRecord) -> Manifest:
    """Drop what was never committed, prove the rest complete, write the manifest, then _SUCCESS."""
    log = CommitLog(folder)
    for part in log.drop_uncommitted():
        folder.log("dropped_uncommitted_part", part=part.name)
    parts = sorted(part for parts in log.parts().values() for part in parts)
    counts = [count_rows(part) for part in parts]
    everything = Counts.of_all(counts)
    if problems := incomplete(folder, record, everything.hashes):
        raise JobError("the output is not complete: " + "; ".join(problems))
    entries = [_entry(part, count.hashes) for part, count in zip(parts, counts, strict=True)]
    manifest = _manifest(record, everything, entries, log.attempt)
    write_atomically(folder.manifest, manifest.model_dump_json(indent=1) + "\n")
    write_atomically(folder.success, "")
    return manifest


def read_manifest(folder: JobFolder) -> Manifest:
    """The manifest of a finished job."""
    try:
        return Manifest.model_validate_json(folder.manifest.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise Refused(f"{folder.manifest} is not readable: {error}") from error


def incomplete(folder: JobFolder, record: JobRecord, hashes: NDArray[np.uint64]) -> list[str]:
    """What keeps these hashes from being every wanted row once; N distinct wanted ones of N are."""
    problems: list[str] = []
    distinct = np.unique(hashes)
    if len(distinct) < len(hashes):
        problems.append(f"{len(hashes) - len(distinct)} rows are there more than once")
    if len(distinct) != record.num_rows:
        problems.append(f"{len(distinct)} of {record.num_rows} rows are there")
    try:
        files = _input_rows(folder)
        place = RowIndex(files).locate(distinct)
    except DreamError as error:
        return [*problems, str(error)]
    offsets = np.cumsum([0, *(file.num_rows for file in files)])
    unwanted = int(np.sum(offsets[place.files] + place.rows >= record.num_rows))
    return [*problems, f"{unwanted} rows are beyond the limit"] if unwanted else problems


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(
    record: JobRecord, counts: Counts, entries: Sequence[PartEntry], attempts: int
) -> Manifest:
    return Manifest(
        job_id=record.job_id,
        fingerprint=record.fingerprint,
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        attempts=attempts,
        num_rows_in=record.num_rows,
        num_rows_out=len(counts.hashes),
        statuses=counts.statuses,
        totals=counts.totals,
        parts=list(entries),
    )


def _entry(part: Path, hashes: NDArray[np.uint64]) -> PartEntry:
    return PartEntry(
        name=part.name,
        num_rows=len(hashes),
        num_bytes=part.stat().st_size,
        sha256=file_sha256(part),
        min_row_hash=int(hashes.min()),
        max_row_hash=int(hashes.max()),
    )


def _input_rows(folder: JobFolder) -> list[FileRows]:
    path = folder.meta / "inputs.parquet"
    try:
        listed = pq.read_table(path, columns=["path", "num_rows"], partitioning=None)
        paths = listed.column("path").cast(pa.string()).to_pylist()
        sizes = listed.column("num_rows").cast(pa.uint32()).to_pylist()
    except (OSError, KeyError, UnicodeDecodeError, pa.ArrowException) as error:
        raise JobError(f"{path} is not readable: {error}") from error
    if None in paths or None in sizes:
        raise JobError(f"{path} is not readable: it holds nulls")
    return [FileRows(path=name, num_rows=size) for name, size in zip(paths, sizes, strict=True)]
