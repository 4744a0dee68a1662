"""What goes in: the input files, their footers, and the one schema of all."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.common.errors import JobError, Refused
from jobs.common.paths import odd_letters
from jobs.fill.identity import FileRows

__all__ = ["InputFile", "Inputs", "refuse_changed", "scan"]


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
