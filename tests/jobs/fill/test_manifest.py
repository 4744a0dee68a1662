"""Finalize proves that every row is there once."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from jobs.common.errors import JobError
from jobs.fill.manifest import finalize, read_manifest
from tests.jobs.fill.jobfolder import begin, commit


@pytest.fixture
def finished(tmp_path):
    folder, record = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, 3)
    commit(folder, "part-a-00000001", 3, 6, statuses=["ok", "error", "ok"])
    finalize(folder, record)
    return folder


def test_a_complete_output_gets_a_manifest_and_success(finished):
    manifest = read_manifest(finished)

    assert finished.success.exists()
    assert (manifest.num_rows_in, manifest.num_rows_out) == (6, 6)
    assert manifest.statuses == {"error": 1, "ok": 5}
    assert manifest.totals["token_forwards"] == 12
    assert [part.num_rows for part in manifest.parts] == [3, 3]


@pytest.mark.parametrize(("stop", "message"), [(5, "5 of 6 rows"), (8, "8 of 6 rows")])
def test_an_output_that_is_not_every_row_once_is_not_finished(tmp_path, stop, message):
    folder, record = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, stop)

    with pytest.raises(JobError, match=message):
        finalize(folder, record)

    assert not folder.success.exists()


def test_rows_committed_twice_are_noticed(tmp_path):
    folder, record = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, 4)
    commit(folder, "part-b-00000000", 3, 6)

    with pytest.raises(JobError, match="1 rows are there more than once"):
        finalize(folder, record)


def test_parts_that_were_never_committed_do_not_count(tmp_path):
    folder, record = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, 6)
    stray = commit(folder, "part-b-00000000", 0, 6, ledger=False)

    manifest = finalize(folder, record)

    assert manifest.num_rows_out == 6
    assert not stray.exists()
    assert "dropped_uncommitted_part" in (folder.meta / "events.jsonl").read_text()


def test_only_the_first_rows_are_wanted_under_a_limit(tmp_path):
    folder, record = begin(tmp_path / "out", 4, limit=4)
    commit(folder, "part-a-00000000", 1, 5)
    inputs = pq.read_table(folder.meta / "inputs.parquet")
    pq.write_table(inputs.set_column(1, "num_rows", [[9]]), folder.meta / "inputs.parquet")

    with pytest.raises(JobError, match="1 rows are beyond the limit"):
        finalize(folder, record)


def test_inputs_that_cannot_be_read_any_more_are_named(tmp_path):
    folder, record = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, 6)
    (folder.meta / "inputs.parquet").write_bytes(b"PAR1")

    with pytest.raises(JobError, match=r"inputs\.parquet is not readable"):
        finalize(folder, record)

    assert not folder.success.exists()
