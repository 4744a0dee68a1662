"""The proof that rows in = rows out: manifest, `_SUCCESS`, and `verify`."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from dream.errors import DreamError
from jobs.config import JobRecord
from jobs.errors import JobError, Refused
from jobs.identity import FileRows, RowIndex
from jobs.ledger import CommitLog, JobFolder, write_atomically

__all__ = ["Manifest", "PartEntry", "finalize", "read_manifest", "verify"]

TOTALS = ("prompt_tokens", "completion_tokens", "forward_passes", "token_forwards")
FINGERPRINT_KEY = b"dream.fingerprint"


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
    parts = [part for parts in log.parts().values() for part in parts]
    manifest, hashes = _summarize(folder, record, sorted(parts), log.attempt)
    problems = _incomplete(folder, record, hashes)
    if problems:
        raise JobError("the output is not complete: " + "; ".join(problems))
    write_atomically(folder.manifest, manifest.model_dump_json(indent=1) + "\n")
    write_atomically(folder.success, "")
    return manifest


def read_manifest(folder: JobFolder) -> Manifest:
    """The manifest of a finished job."""
    try:
        return Manifest.model_validate_json(folder.manifest.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise Refused(f"{folder.manifest} is not readable: {error}") from error


def verify(folder: JobFolder, *, deep: bool = False) -> list[str]:
    """All that is wrong with a finished output; empty when every row is there exactly once."""
    record = folder.read_record()
    manifest = read_manifest(folder)
    problems: list[str] = []
    noted = (folder.meta / "fingerprint").read_text(encoding="utf-8").strip()
    if {manifest.fingerprint, record.fingerprint} != {noted}:
        problems.append("job.json, manifest.json and fingerprint belong to different jobs")
    expected = {entry.name for entry in manifest.parts}
    for part in folder.parts():
        if part.name not in expected:
            problems.append(f"{part.name}: is not in the manifest")
    hashes: list[NDArray[np.uint64]] = []
    schemas: set[str] = set()
    for entry in manifest.parts:
        try:
            hashes.append(_check_part(folder.data / entry.name, entry, record, schemas, deep))
        except (OSError, pa.ArrowException, DreamError) as error:
            problems.append(f"{entry.name}: {error}")
    if len(schemas) > 1:
        problems.append("parts have different schemas")
    return problems + _incomplete(folder, record, _concatenate(hashes))


def _summarize(
    folder: JobFolder, record: JobRecord, parts: Sequence[Path], attempts: int
) -> tuple[Manifest, NDArray[np.uint64]]:
    entries: list[PartEntry] = []
    hashes: list[NDArray[np.uint64]] = []
    statuses: Counter[str] = Counter()
    totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0))
    for part in parts:
        table = pq.read_table(part, columns=["row_hash", "status", *TOTALS], partitioning=None)
        hashes.append(table.column("row_hash").to_numpy())
        entries.append(_entry(part, hashes[-1]))
        statuses.update(table.column("status").to_pylist())
        for name in TOTALS:
            totals[name] += sum(filter(None, table.column(name).to_pylist()))
    everything = _concatenate(hashes)
    manifest = Manifest(
        job_id=record.job_id,
        fingerprint=record.fingerprint,
        finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        attempts=attempts,
        num_rows_in=record.num_rows,
        num_rows_out=len(everything),
        statuses=dict(sorted(statuses.items())),
        totals=dict(totals),
        parts=entries,
    )
    return manifest, everything


def _entry(part: Path, hashes: NDArray[np.uint64]) -> PartEntry:
    return PartEntry(
        name=part.name,
        num_rows=len(hashes),
        num_bytes=part.stat().st_size,
        sha256=_sha256(part),
        min_row_hash=int(hashes.min()),
        max_row_hash=int(hashes.max()),
    )


def _check_part(
    part: Path, entry: PartEntry, record: JobRecord, schemas: set[str], deep: bool
) -> NDArray[np.uint64]:
    with pq.ParquetFile(part, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        schemas.add(str(schema.remove_metadata()))
        if (schema.metadata or {}).get(FINGERPRINT_KEY) != record.fingerprint.encode():
            raise DreamError("its footer names another fingerprint")
        table = file.read(columns=None if deep else ["row_hash"])
    if (table.num_rows, part.stat().st_size) != (entry.num_rows, entry.num_bytes):
        raise DreamError(f"has {table.num_rows} rows, and another size than in the manifest")
    if deep and _sha256(part) != entry.sha256:
        raise DreamError("its bytes are not those of the manifest")
    hashes: NDArray[np.uint64] = table.column("row_hash").to_numpy()
    return hashes


def _incomplete(folder: JobFolder, record: JobRecord, hashes: NDArray[np.uint64]) -> list[str]:
    """What keeps these hashes from being every wanted row once; N distinct wanted ones of N are."""
    listed = pq.read_table(folder.meta / "inputs.parquet", columns=["path", "num_rows"])
    files = [FileRows(path=row["path"], num_rows=row["num_rows"]) for row in listed.to_pylist()]
    problems: list[str] = []
    distinct = np.unique(hashes)
    if len(distinct) < len(hashes):
        problems.append(f"{len(hashes) - len(distinct)} rows are there more than once")
    if len(distinct) != record.num_rows:
        problems.append(f"{len(distinct)} of {record.num_rows} rows are there")
    try:
        place = RowIndex(files).locate(distinct)
    except DreamError as error:
        return [*problems, str(error)]
    offsets = np.cumsum([0, *(file.num_rows for file in files)])
    unwanted = int(np.sum(offsets[place.files] + place.rows >= record.num_rows))
    return [*problems, f"{unwanted} rows are beyond the limit"] if unwanted else problems


def _concatenate(hashes: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate(hashes) if hashes else np.array([], dtype=np.uint64)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
