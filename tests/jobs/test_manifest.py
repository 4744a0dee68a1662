"""Finalize proves that every row is there once; verify proves it again from the files."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest

from jobs.errors import JobError
from jobs.manifest import finalize, read_manifest, verify
from tests.jobs.jobfolder import begin, commit


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
    assert verify(finished, deep=True) == []


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


def test_verify_names_a_deleted_part(finished):
    gone = finished.parts()[0]
    gone.unlink()

    problems = verify(finished)

    assert any(gone.name in problem for problem in problems)
    assert "3 of 6 rows are there" in problems


def test_verify_names_a_part_that_was_added(finished):
    part = finished.parts()[0]
    shutil.copy(part, part.with_name("part-copy-00000000-0.parquet"))

    assert verify(finished) == ["part-copy-00000000-0.parquet: is not in the manifest"]


def test_verify_sees_a_part_in_the_place_of_another(finished):
    one, other = finished.parts()
    shutil.copy(one, other)

    problems = verify(finished)

    assert "3 of 6 rows are there" in problems
    assert any(other.name in problem for problem in problems)


def test_verify_sees_a_part_of_another_job(finished):
    part = finished.parts()[0]
    table = pq.read_table(part, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"dream.fingerprint": "other"}), part)

    assert any("another fingerprint" in problem for problem in verify(finished))


def test_deep_verify_sees_one_changed_byte(finished):
    part = finished.parts()[0]
    bytes_then = bytearray(part.read_bytes())
    bytes_then[20] ^= 1
    part.write_bytes(bytes(bytes_then))

    assert any(part.name in problem for problem in verify(finished, deep=True))


def test_only_the_first_rows_are_wanted_under_a_limit(tmp_path):
    folder, record = begin(tmp_path / "out", 4, limit=4)
    commit(folder, "part-a-00000000", 1, 5)
    inputs = pq.read_table(folder.meta / "inputs.parquet")
    pq.write_table(inputs.set_column(1, "num_rows", [[9]]), folder.meta / "inputs.parquet")

    with pytest.raises(JobError, match="1 rows are beyond the limit"):
        finalize(folder, record)
