"""The ledger says which commit batches count, and a new attempt cuts older writers off."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from jobs.common.errors import Refused
from jobs.fill.ledger import CommitLog, JobFolder
from tests.jobs.fill.jobfolder import begin, commit


def test_a_job_is_read_back_as_it_was_begun(tmp_path):
    folder, record = begin(tmp_path / "out", 5, steps=3)

    assert folder.read_record() == record
    assert (folder.meta / "fingerprint").read_text().strip() == record.fingerprint
    assert pq.read_table(folder.meta / "inputs.parquet").num_rows == 1


def test_a_folder_without_a_job_is_refused(tmp_path):
    with pytest.raises(Refused, match="holds no job"):
        JobFolder(tmp_path).read_record()
    (tmp_path / "_dream").mkdir()
    (tmp_path / "_dream" / "job.json").write_text("{}")
    with pytest.raises(Refused, match=r"is not a job of this version \(job_id is required"):
        JobFolder(tmp_path).read_record()


def test_a_job_of_an_older_version_is_refused_by_the_setting_that_is_gone(tmp_path):
    folder, record = begin(tmp_path / "out", 5)
    old = record.model_dump()
    old["spec"]["granule"] = old["spec"].pop("commit_rows")
    (folder.meta / "job.json").write_text(json.dumps(old))

    with pytest.raises(
        Refused, match=r"version \(spec\.granule: no such setting.* begin again with --overwrite"
    ):
        folder.read_record()


def test_only_committed_batches_own_parts(tmp_path):
    folder, _ = begin(tmp_path / "out", 6)
    done = commit(folder, "part-a-00000000", 0, 3)
    commit(folder, "part-a-00000001", 3, 6, ledger=False)

    log = CommitLog(folder)

    assert list(log.committed()) == ["part-a-00000000"]
    assert log.parts() == {"part-a-00000000": [done]}


def test_a_pending_entry_commits_nothing_and_is_dropped_with_its_part(tmp_path):
    folder, _ = begin(tmp_path / "out", 6)
    kept = commit(folder, "part-a-00000000", 0, 3)
    stray = commit(folder, "part-a-00000001", 3, 6)
    log = CommitLog(folder)
    entry = log.path / "part-a-00000001.parquet"
    entry.rename(log.path / "part-a-00000001.pending.parquet")

    dropped = log.drop_uncommitted()

    assert dropped == [stray]
    assert folder.parts() == [kept]
    assert [path.name for path in log.path.iterdir()] == ["part-a-00000000.parquet"]


def test_a_new_attempt_keeps_what_is_committed_and_moves_the_ledger_away_from_old_writers(tmp_path):
    folder, _ = begin(tmp_path / "out", 6)
    commit(folder, "part-a-00000000", 0, 3)
    log = CommitLog(folder)
    before = log.path

    after = log.take_over()

    assert log.attempt == 2
    assert not before.exists()
    assert list(log.committed()) == ["part-a-00000000"]
    with pytest.raises(FileNotFoundError):
        pq.write_table(pq.read_table(after / "part-a-00000000.parquet"), before / "late.parquet")


def test_a_ledger_that_would_lose_rows_is_refused_with_the_remedy(tmp_path):
    folder, _ = begin(tmp_path / "out", 6)
    part = commit(folder, "part-a-00000000", 0, 3)
    entry = CommitLog(folder).path / "part-a-00000000.parquet"
    CommitLog(folder).check()
    whole = entry.read_bytes()

    entry.write_bytes(whole[:-8])
    with pytest.raises(Refused, match=f"not readable.*delete {entry} and resume"):
        CommitLog(folder).check()

    entry.write_bytes(whole)
    part.unlink()
    with pytest.raises(Refused, match="has 0 rows on disk, not 3; delete"):
        CommitLog(folder).check()
