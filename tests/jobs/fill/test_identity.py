"""row_hash can be inverted, intervals that overlap are refused, and row seeds are independent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dream.errors import DreamError
from jobs.fill.identity import FileRows, RowIndex, file_key, row_hashes, row_seed

paths = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6, unique=True)


def test_row_hashes_are_those_of_ray_data():
    from ray.data._internal.datasource_v2.common.synthesized_columns import _compute_row_hashes

    ours = row_hashes("/data/a.parquet", 7, 100)

    assert ours.tolist() == _compute_row_hashes("/data/a.parquet", 7, 100).tolist()


@given(paths, st.lists(st.integers(1, 50), min_size=6, max_size=6))
def test_every_row_hash_leads_back_to_its_file_and_row(names, sizes):
    files = [FileRows(path=n, num_rows=r) for n, r in zip(names, sizes, strict=False)]
    hashes = np.concatenate([row_hashes(file.path, 0, file.num_rows) for file in files])

    place = RowIndex(files).locate(hashes)

    expected = [(i, row) for i, file in enumerate(files) for row in range(file.num_rows)]
    assert list(zip(place.files.tolist(), place.rows.tolist(), strict=True)) == expected
    assert len(np.unique(hashes)) == len(hashes)


def test_an_interval_that_wraps_round_the_ring_is_found(monkeypatch):
    monkeypatch.setattr("jobs.fill.identity.file_key", lambda path: 2**64 - 2)

    place = RowIndex([FileRows(path="a", num_rows=5)]).locate(row_hashes("a", 0, 5))

    assert place.rows.tolist() == [0, 1, 2, 3, 4]


def test_overlapping_intervals_are_refused_and_both_files_named(monkeypatch):
    keys = {"low": 100, "high": 109, "far": 2**63}
    monkeypatch.setattr("jobs.fill.identity.file_key", keys.__getitem__)
    files = [FileRows(path=path, num_rows=10) for path in ("far", "high", "low")]

    with pytest.raises(DreamError, match="low and high overlap"):
        RowIndex(files)
    RowIndex([FileRows(path="low", num_rows=9), FileRows(path="high", num_rows=9)])


def test_an_overlap_across_the_end_of_the_ring_is_refused(monkeypatch):
    keys = {"end": 2**64 - 3, "start": 1}
    monkeypatch.setattr("jobs.fill.identity.file_key", keys.__getitem__)

    with pytest.raises(DreamError, match="end and start overlap"):
        RowIndex([FileRows(path="start", num_rows=2), FileRows(path="end", num_rows=5)])


def test_the_same_file_twice_is_refused():
    with pytest.raises(DreamError, match="name each file once"):
        RowIndex([FileRows(path="a", num_rows=3)] * 2)


def test_a_hash_of_no_input_row_is_an_error():
    index = RowIndex([FileRows(path="a", num_rows=3)])

    with pytest.raises(DreamError, match="belongs to no input file"):
        index.locate(row_hashes("a", 3, 1))


def test_files_without_rows_take_no_part():
    index = RowIndex([FileRows(path="a", num_rows=0), FileRows(path="b", num_rows=1)])

    assert index.locate(row_hashes("b", 0, 1)).files.tolist() == [1]
    assert index.locate(np.array([], dtype=np.uint64)).rows.tolist() == []


def test_row_seeds_differ_between_rows_and_between_jobs():
    seeds = {row_seed(job, row) for job in range(20) for row in range(50)}

    assert len(seeds) == 1000
    assert file_key("a") != file_key("b")
