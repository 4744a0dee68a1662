"""Verify proves from the files alone that every row is there once and the manifest is true."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.common.errors import Refused
from jobs.fill.manifest import finalize
from jobs.fill.verify import verify
from tests.jobs.fill.jobfolder import begin, commit


@pytest.fixture
def finished(tmp_path):
    folder, record = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, 3)
    commit(folder, "part-a-00000001", 3, 6, statuses=["ok", "error", "ok"])
    finalize(folder, record)
    return folder


def edit(folder, change):
    values = json.loads(folder.manifest.read_text())
    change(values)
    folder.manifest.write_text(json.dumps(values))


def test_an_output_as_it_was_finished_has_no_problem(finished):
    assert verify(finished) == []
    assert verify(finished, deep=True) == []


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


@pytest.mark.parametrize("name", ["zz.parquet", "sub/part-x.parquet", "part-a-9.txt", ".hidden"])
def test_verify_names_whatever_else_lies_under_data(finished, name):
    stray = finished.data / name
    stray.parent.mkdir(exist_ok=True)
    shutil.copy(finished.parts()[0], stray)

    assert verify(finished) == [f"{name}: is not in the manifest"]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 50])
def test_verify_names_a_part_that_is_no_parquet_any_more(finished, content, deep):
    part = finished.parts()[0]
    part.write_bytes(content)

    assert any(problem.startswith(part.name) for problem in verify(finished, deep=deep))


def test_verify_names_a_part_without_its_columns(finished):
    part = finished.parts()[0]
    footer = {"dream.fingerprint": finished.read_record().fingerprint}
    pq.write_table(pa.table({"x": [1, 2, 3]}).replace_schema_metadata(footer), part)
    edit(finished, lambda values: values["parts"][0].update(num_bytes=part.stat().st_size))

    assert f"{part.name}: has no single column row_hash" in verify(finished)


@pytest.mark.parametrize(
    "changed",
    [
        {"statuses": {"ok": 6}},
        {"totals": {}},
        {"num_rows_out": 7},
        {"num_rows_in": 7},
    ],
)
def test_verify_sees_a_manifest_that_tells_another_sum(finished, changed):
    edit(finished, lambda values: values.update(changed))

    (problem,) = verify(finished)

    assert problem.startswith(f"manifest.json: {next(iter(changed))} is ")


@pytest.mark.parametrize("name", ["min_row_hash", "max_row_hash"])
def test_verify_sees_a_manifest_with_another_range_of_rows(finished, name):
    edit(finished, lambda values: values["parts"][1].update({name: 5}))

    (problem,) = verify(finished)

    assert "least and greatest row_hash" in problem


@pytest.mark.parametrize("name", ["inputs.parquet", "fingerprint"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_record_that_is_lost_or_corrupt_is_a_problem(finished, name, content):
    path = finished.meta / name
    path.unlink() if content is None else path.write_bytes(content)

    assert verify(finished)


def test_inputs_of_other_columns_are_a_problem(finished):
    pq.write_table(pa.table({"path": [1], "num_rows": ["a"]}), finished.meta / "inputs.parquet")

    assert any("inputs.parquet is not readable" in problem for problem in verify(finished))


@pytest.mark.parametrize("name", ["job.json", "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 9000])
def test_a_job_or_manifest_that_is_corrupt_is_refused(finished, name, content):
    (finished.meta / name).write_bytes(content)

    with pytest.raises(Refused, match=name):
        verify(finished)
