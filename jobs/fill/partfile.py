"""Reading the parts: what is counted in them, or in one sentence what is wrong with one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.common.errors import JobError

__all__ = ["TOTALS", "Counts", "count_rows", "read_columns"]

TOTALS = ("prompt_tokens", "completion_tokens", "forward_passes", "token_forwards")
"""Columns that the manifest adds up."""

_TYPES = {"row_hash": pa.uint64(), "status": pa.string(), **dict.fromkeys(TOTALS, pa.int64())}
_NEVER_NULL = frozenset({"row_hash", "status"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a part, or several together, add up to."""

    hashes: NDArray[np.uint64]
    statuses: dict[str, int]
    totals: dict[str, int]

    @classmethod
    def of_all(cls, counts: Sequence[Counts]) -> Counts:
        """All of them together."""
        statuses: Counter[str] = Counter()
        totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0))
        for one in counts:
            statuses.update(one.statuses)
            totals.update(one.totals)
        hashes = [np.array([], dtype=np.uint64), *(one.hashes for one in counts)]
        return cls(
            hashes=np.concatenate(hashes),
            statuses=dict(sorted(statuses.items())),
            totals=dict(totals),
        )


def count_rows(part: Path) -> Counts:
    """What one part adds up to."""
    columns = read_columns(part, tuple(_TYPES))
    return Counts(
        hashes=columns["row_hash"].to_numpy(),
        statuses=dict(Counter(columns["status"].to_pylist())),
        totals={name: sum(filter(None, columns[name].to_pylist())) for name in TOTALS},
    )


def read_columns(part: Path, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """These counted columns of a part; a part that does not hold them is named."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            for name in names:
                if file.schema_arrow.names.count(name) != 1:
                    raise JobError(f"{part.name}: has no single column {name}")
            table = file.read(columns=list(names))
        columns = {name: table.column(name).cast(_TYPES[name]) for name in names}
        for column in columns.values():
            column.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{part.name}: is not readable: {error}") from error
    for name in _NEVER_NULL.intersection(names):
        if columns[name].null_count:
            raise JobError(f"{part.name}: column {name} holds nulls")
    return columns
