"""Input files are scanned before anything starts, and what cannot work is refused by name."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.common.errors import Refused
from jobs.fill.config import JobSpec
from jobs.fill.inputs import scan


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_folder_is_read_in_order_and_hidden_names_are_skipped(tmp_path):
    write(tmp_path / "b.parquet", prompt=["1", "2"])
    write(tmp_path / "a" / "x.parquet", prompt=["3"])
    write(tmp_path / "_dream" / "y.parquet", prompt=["4"])
    write(tmp_path / ".hidden.parquet", prompt=["5"])
    (tmp_path / "notes.txt").write_text("no")

    inputs = scan([str(tmp_path)])

    assert [os.path.relpath(file.path, tmp_path) for file in inputs.files] == [
        "a/x.parquet",
        "b.parquet",
    ]
    assert inputs.num_rows == 3


def test_globs_and_files_may_be_mixed(tmp_path):
    one = write(tmp_path / "one.parquet", prompt=["1"])
    write(tmp_path / "more" / "p1.parquet", prompt=["2"])
    write(tmp_path / "more" / "p2.parquet", prompt=["3"])

    inputs = scan([one, str(tmp_path / "more" / "p*.parquet")])

    assert [os.path.basename(file.path) for file in inputs.files] == [
        "one.parquet",
        "p1.parquet",
        "p2.parquet",
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_file_that_is_not_parquet_is_named(tmp_path, damage):
    for index in range(5):
        write(tmp_path / f"good{index}.parquet", prompt=["1"])
    bad = tmp_path / "bad.parquet"
    whole = (tmp_path / "good0.parquet").read_bytes()
    bad.write_bytes({"truncated": whole[:-20], "empty": b"", "text": b"hello" * 100}[damage])

    with pytest.raises(Refused, match=r"bad\.parquet: not readable as Parquet"):
        scan([str(tmp_path)])


def test_paths_that_lead_nowhere_are_refused(tmp_path):
    with pytest.raises(Refused, match="no such file"):
        scan([str(tmp_path / "nothing*.parquet")])
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(Refused, match=r"end in \.parquet"):
        scan([str(tmp_path / "rows.jsonl")])


def test_types_that_fit_are_widened_and_others_refused_by_file(tmp_path):
    write(tmp_path / "a.parquet", prompt=["1"], n=pa.array([1], pa.int32()))
    write(tmp_path / "b.parquet", prompt=pa.array(["1"], pa.large_string()), n=[2])
    write(tmp_path / "c.parquet", prompt=pa.nulls(1), extra=[1.0])

    schema = scan([str(tmp_path)]).schema

    assert schema.field("prompt").type == pa.large_string()
    assert schema.field("n").type == pa.int64()
    write(tmp_path / "d.parquet", prompt=[1.5])
    with pytest.raises(Refused, match=r"d\.parquet: its columns do not fit"):
        scan([str(tmp_path)])


def test_the_digest_changes_when_a_file_is_touched_added_or_reordered(tmp_path):
    first = write(tmp_path / "a.parquet", prompt=["1"])
    second = write(tmp_path / "b.parquet", prompt=["1"])
    digests = {scan([first, second]).sha256, scan([second, first]).sha256, scan([first]).sha256}
    os.utime(first, ns=(1, 1))

    digests.add(scan([first, second]).sha256)

    assert len(digests) == 4
    assert scan([first, second]).sha256 in digests


def test_only_the_files_that_hold_the_first_rows_are_taken(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.parquet", prompt=["1", "2", "3"])
    inputs = scan([str(tmp_path)])

    assert len(inputs.first_rows(None)) == 3
    assert len(inputs.first_rows(3)) == 1
    assert len(inputs.first_rows(4)) == 2


@pytest.mark.parametrize("letter", "%#?;")
def test_paths_that_ray_would_misread_are_refused(tmp_path, letter):
    path = write(tmp_path / f"a{letter}b.parquet", prompt=["1"])

    with pytest.raises(Refused, match="a path without"):
        scan([path])
    with pytest.raises(ValueError, match="a path without"):
        JobSpec(input=["/in"], output=f"/o{letter}", task="generate", model="embedded")
