"""Progress counts committed rows; status reads it all from the files."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.common.errors import RowsFailed
from jobs.common.lock import Lock
from jobs.fill.ledger import CommitLog
from jobs.fill.manifest import finalize
from jobs.fill.report import Pace, Tally, as_lines, display, raise_if_all_failed, read_status
from tests.jobs.fill.jobfolder import begin, commit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_tally_follows_the_commits(tmp_path):
    folder, _ = begin(tmp_path / "out", 6)
    tally = Tally(folder)
    tally.update()
    assert tally.num_rows == 0

    commit(folder, "part-a-00000000", 0, 2, statuses=["ok", "too_long"])
    commit(folder, "part-a-00000001", 2, 6, ledger=False)
    tally.update()
    tally.update()

    assert (tally.num_rows, tally.num_failed, tally.token_forwards) == (2, 1, 4)


def test_status_tells_running_stopped_and_finished_apart(tmp_path):
    folder, record = begin(tmp_path / "out", 3)
    assert read_status(folder).state == "stopped"

    with Lock(folder.lock):
        running = read_status(folder)
    commit(folder, "part-a-00000000", 0, 3)
    finalize(folder, record)
    finished = read_status(folder)

    assert running.state == "running"
    assert running.owner is not None
    assert (finished.state, finished.owner, finished.rows_committed) == ("finished", None, 3)


def test_a_job_of_which_every_row_failed_did_not_succeed_and_one_good_row_is_enough(tmp_path):
    folder, _ = begin(tmp_path / "out", 4)
    raise_if_all_failed(read_status(folder))
    commit(folder, "part-a-00000000", 0, 2, statuses=["error", "too_long"])

    with pytest.raises(RowsFailed, match="all 2 rows failed; the column error_message of") as end:
        raise_if_all_failed(read_status(folder))

    assert end.value.exit_code == 6
    commit(folder, "part-a-00000001", 2, 4, statuses=["ok", "error"])
    raise_if_all_failed(read_status(folder))


def test_status_names_parts_that_are_damaged_and_counts_the_others(tmp_path):
    folder, _ = begin(tmp_path / "out", 9)
    for index, ruin in enumerate((truncate, empty, without_columns, with_other_types)):
        ruin(commit(folder, f"part-a-{index:08d}", 2 * index, 2 * index + 2))
    commit(folder, "part-b-00000000", 8, 9)

    status = read_status(folder)

    assert (status.rows_committed, len(status.damaged)) == (1, 4)
    assert "damaged  part-a-00000002-0.parquet: has no" in as_lines(status, as_json=False)


def truncate(part):
    part.write_bytes(part.read_bytes()[:-10])


def empty(part):
    part.write_bytes(b"")


def without_columns(part):
    pq.write_table(pa.table({"x": [1, 2]}), part)


def with_other_types(part):
    pq.write_table(pa.table({"status": ["ok", "ok"], "token_forwards": ["a", "b"]}), part)


def test_json_carries_all_that_the_text_tells(tmp_path):
    folder, _ = begin(tmp_path / "out", 3)
    commit(folder, "part-a-00000000", 0, 2)
    CommitLog(folder).take_over()
    status = read_status(folder)

    text, values = as_lines(status, as_json=False), json.loads(as_lines(status, as_json=True))

    assert "rows     2 of 3  2 ok" in text
    assert f"python -m jobs resume -o {folder.out}" in text
    assert (values["rows_committed"], values["attempt"], values["state"]) == (2, 2, "stopped")


def test_pace_is_known_after_a_commit_and_counts_the_time_between(tmp_path):
    clock = Clock()
    pace = Pace(10, clock)
    assert pace.eta_s(100) is None

    clock.now = 5.0
    pace.update(10)
    clock.now = 10.0
    pace.update(30)

    assert pace.rows_per_s == 2.0
    assert pace.eta_s(100) == 50.0
    clock.now = 20.0
    pace.update(70)
    assert 2.0 < pace.rows_per_s < 4.0


def test_progress_is_plain_lines_off_a_terminal_and_a_bar_on_one(tmp_path):
    folder, _ = begin(tmp_path / "out", 4)
    commit(folder, "part-a-00000000", 0, 2, statuses=["ok", "error"])
    tally, clock = Tally(folder), Clock()
    pace = Pace(0, clock)
    clock.now = 1.0
    tally.update()
    pace.update(tally.num_rows)

    for stream, expected in (
        (io.StringIO(), "2 of 4 rows at 2.00 rows/s, 0:00:01 left, 1 failed\n"),
        (Terminal(), "2/4"),
    ):
        shown = display(4, stream)
        shown.show(tally, pace)
        shown.close()
        assert expected in stream.getvalue()
