"""Who a row is: row_hash from (file, row) and back, and the seed that belongs to it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dream.errors import DreamError
from jobs.common.seeds import derive_seed

__all__ = ["FileRows", "Located", "RowIndex", "file_key", "row_hashes", "row_seed"]

UInt64s = NDArray[np.uint64]

# The splitmix64 finalizer (Steele, Lea, Flood 2014), which Ray Data applies to file key + row.
_MULTIPLY = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_RING = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRows:
    """An input file by its absolute path, and how many rows it holds."""

    path: str
    num_rows: int


class Located(NamedTuple):
    """For each hash: the index of its file, and the row within that file."""

    files: NDArray[np.int64]
    rows: NDArray[np.int64]


def file_key(path: str) -> int:
    """Where the rows of a file start on the ring of 2**64 keys."""
    return int.from_bytes(
        hashlib.md5(path.encode("utf-8"), usedforsecurity=False).digest()[:8], "little"
    )


def row_hashes(path: str, start: int, num_rows: int) -> UInt64s:
    """The row_hash of rows `start` to `start + num_rows` of a file."""
    first = np.uint64((file_key(path) + start) % _RING)
    return _mix(first + np.arange(num_rows, dtype=np.uint64))


def row_seed(job_seed: int, row_hash: int) -> int:
    """Seed of a row that brings none."""
    return derive_seed(job_seed, row_hash.to_bytes(8, "little"))


class RowIndex:
    """Finds the file and row of a row_hash; the files' key intervals must not overlap."""

    def __init__(self, files: Sequence[FileRows]) -> None:
        kept = [index for index, file in enumerate(files) if file.num_rows]
        kept.sort(key=lambda index: file_key(files[index].path))
        self._files = np.array(kept, dtype=np.int64)
        self._starts = np.array([file_key(files[i].path) for i in kept], dtype=np.uint64)
        self._sizes = np.array([files[i].num_rows for i in kept], dtype=np.uint64)
        self._refuse_overlap([files[i].path for i in kept])

    def locate(self, hashes: UInt64s) -> Located:
        """File index and row of every hash; a hash of no file is an error."""
        keys = _unmix(hashes)
        if not len(keys):
            return Located(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
        if not len(self._starts):
            raise DreamError("row_hash of no input file: the job has no rows")
        slot = np.searchsorted(self._starts, keys, side="right") - 1  # -1: the last one, wrapped
        rows = keys - self._starts[slot]
        outside = rows >= self._sizes[slot]
        if outside.any():
            raise DreamError(f"row_hash {int(hashes[outside][0])} belongs to no input file")
        return Located(self._files[slot], rows.astype(np.int64))

    def _refuse_overlap(self, paths: Sequence[str]) -> None:
        if len(paths) < 2:
            return
        gaps = np.roll(self._starts, -1) - self._starts  # unsigned: the last gap wraps round
        for index in np.flatnonzero(gaps < self._sizes):
            other = paths[(int(index) + 1) % len(paths)]
            raise DreamError(
                f"row_hash ranges of {paths[int(index)]} and {other} overlap: "
                "name each file once, or rename one of them"
            )


def _mix(keys: UInt64s) -> UInt64s:
    for shift, factor in zip(_SHIFTS, _MULTIPLY, strict=False):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(_SHIFTS[-1]))


def _unmix(hashes: UInt64s) -> UInt64s:
    keys = _unshift(hashes, _SHIFTS[-1])
    for shift, factor in reversed(list(zip(_SHIFTS, _MULTIPLY, strict=False))):
        keys = _unshift(keys * np.uint64(pow(factor, -1, _RING)), shift)
    return keys


def _unshift(values: UInt64s, shift: int) -> UInt64s:
    """Inverse of `v ^ (v >> shift)` for shifts over 64 / 3."""
    once: UInt64s = values ^ (values >> np.uint64(shift)) ^ (values >> np.uint64(2 * shift))
    return once
