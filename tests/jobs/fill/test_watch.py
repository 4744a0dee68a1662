"""The watch beside the work counts, and stops the work when something is wrong."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from jobs.common.errors import RowsFailed, Stopped
from jobs.fill.report import Tally
from jobs.fill.watch import watched
from tests.jobs.fill.jobfolder import begin, commit


class Silent:
    def __init__(self):
        self.rows = []
        self.is_closed = False

    def show(self, tally, pace):
        self.rows.append(tally.num_rows)

    def close(self):
        self.is_closed = True


@pytest.fixture
def folder(tmp_path):
    return begin(tmp_path / "out", 4)[0]


def test_the_last_commit_is_counted_even_if_the_work_ends_at_once(folder):
    shown, tally = Silent(), Tally(folder)

    with watched(folder, tally, shown, lambda: None):
        commit(folder, "part-a-00000000", 0, 4)

    assert tally.num_rows == 4
    assert (shown.rows[-1], shown.is_closed) == (4, True)


def test_a_failed_check_interrupts_the_work_and_is_the_reason(folder):
    def check():
        raise RowsFailed("one row failed")

    with (
        pytest.raises(RowsFailed, match="one row failed"),
        watched(folder, Tally(folder), Silent(), check),
    ):
        time.sleep(30)


def test_a_terminated_driver_says_how_to_go_on(folder):
    before = signal.getsignal(signal.SIGTERM)
    pause = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    pause.start()

    with (
        pytest.raises(Stopped, match="python -m jobs resume -o"),
        watched(folder, Tally(folder), Silent(), lambda: None),
    ):
        time.sleep(30)

    assert signal.getsignal(signal.SIGTERM) is before
    assert '"stopped"' in (folder.meta / "events.jsonl").read_text()


def test_an_error_of_the_work_is_told_as_it_is(folder):
    with (
        pytest.raises(ValueError, match="mine"),
        watched(folder, Tally(folder), Silent(), lambda: None),
    ):
        raise ValueError("mine")
