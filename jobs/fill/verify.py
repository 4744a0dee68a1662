"""`verify`: prove again, from the files alone, that rows in = rows out and the manifest is true."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dream.errors import DreamError
from jobs.fill.config import JobRecord
from jobs.fill.ledger import JobFolder
from jobs.fill.manifest import Manifest, PartEntry, file_sha256, incomplete, read_manifest
from jobs.fill.partfile import Counts, count_rows

__all__ = ["verify"]

FINGERPRINT_KEY = b"dream.fingerprint"


def verify(folder: JobFolder, *, deep: bool = False) -> list[str]:
    """All that is wrong with a finished output; empty when every row is there exactly once."""
    record = folder.read_record()
    manifest = read_manifest(folder)
    problems = [*_other_jobs(folder, record, manifest), *_strays(folder, manifest)]
    counts: list[Counts] = []
    schemas: set[str] = set()
    for entry in manifest.parts:
        try:
            schemas.add(_check_file(folder.data / entry.name, entry, record, deep=deep))
            counts.append(count_rows(folder.data / entry.name))
        except (OSError, pa.ArrowException, DreamError) as error:
            problems.append(f"{entry.name}: {str(error).removeprefix(f'{entry.name}: ')}")
            continue
        problems += _untrue_of_part(entry, counts[-1])
    if len(schemas) > 1:
        problems.append("parts have different schemas")
    everything = Counts.of_all(counts)
    if len(counts) == len(manifest.parts):  # else they differ because a part is missing
        problems += _untrue_of_all(manifest, record, everything)
    return problems + incomplete(folder, record, everything.hashes)


def _other_jobs(folder: JobFolder, record: JobRecord, manifest: Manifest) -> list[str]:
    """Whether the three files that name the job name the same one."""
    try:
        noted = (folder.meta / "fingerprint").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        return [f"fingerprint: is not readable: {error}"]
    if {manifest.fingerprint, record.fingerprint} != {noted} or manifest.job_id != record.job_id:
        return ["job.json, manifest.json and fingerprint belong to different jobs"]
    return []


def _strays(folder: JobFolder, manifest: Manifest) -> list[str]:
    """Whatever else lies under data/, where a reader of Parquet would find it."""
    expected = {entry.name for entry in manifest.parts}
    paths = [path for path in folder.data.rglob("*") if path.is_symlink() or not path.is_dir()]
    found = sorted(path.relative_to(folder.data).as_posix() for path in paths)
    return [f"{name}: is not in the manifest" for name in found if name not in expected]


def _check_file(part: Path, entry: PartEntry, record: JobRecord, *, deep: bool) -> str:
    """The schema of a part, once its footer and size are what they were."""
    with pq.ParquetFile(part, page_checksum_verification=True) as file:
        schema, num_rows = file.schema_arrow, file.metadata.num_rows
        if deep:
            file.read()
    if (schema.metadata or {}).get(FINGERPRINT_KEY) != record.fingerprint.encode():
        raise DreamError("its footer names another fingerprint")
    if (num_rows, part.stat().st_size) != (entry.num_rows, entry.num_bytes):
        raise DreamError(f"has {num_rows} rows, and another size than in the manifest")
    if deep and file_sha256(part) != entry.sha256:
        raise DreamError("its bytes are not those of the manifest")
    return str(schema.remove_metadata())


def _untrue_of_part(entry: PartEntry, counts: Counts) -> list[str]:
    noted = (entry.min_row_hash, entry.max_row_hash)
    if len(counts.hashes) and noted != (int(counts.hashes.min()), int(counts.hashes.max())):
        return [f"{entry.name}: its least and greatest row_hash are not those of the manifest"]
    return []


def _untrue_of_all(manifest: Manifest, record: JobRecord, counts: Counts) -> list[str]:
    told = {
        "num_rows_in": (manifest.num_rows_in, record.num_rows),
        "num_rows_out": (manifest.num_rows_out, len(counts.hashes)),
        "statuses": (manifest.statuses, counts.statuses),
        "totals": (manifest.totals, counts.totals),
    }
    return [
        f"manifest.json: {name} is {noted}, and the files hold {found}"
        for name, (noted, found) in told.items()
        if noted != found
    ]
