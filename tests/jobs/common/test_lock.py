"""One driver per output: the lock names its owner and is taken from the dead alone."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from jobs.common.errors import LockLost, Refused
from jobs.common.lock import Lock, process_start, read_owner


@pytest.fixture
def path(tmp_path):
    return tmp_path / "_dream" / "lock.json"


@pytest.fixture
def holder(path):
    """A living process that the lock names."""
    child = subprocess.Popen(["sleep", "600"])
    with Lock(path):
        owner = read_owner(path)
    assert owner is not None
    named = owner.model_copy(update={"pid": child.pid, "started": process_start(child.pid)})
    path.write_text(named.model_dump_json())
    yield child
    child.kill()
    child.wait()


def test_a_lock_is_there_while_it_is_held_and_gone_afterwards(path):
    with Lock(path) as lock:
        owner = read_owner(path)
        lock.beat()

        assert owner is not None
        assert (owner.pid, owner.is_dead) == (os.getpid(), False)
    assert list(path.parent.iterdir()) == []


def test_a_living_owner_is_not_disturbed(path, holder):
    with pytest.raises(
        Refused, match=f"is being written by process {holder.pid} on .*--break-lock"
    ):
        Lock(path).__enter__()

    owner = read_owner(path)
    assert owner is not None
    assert owner.pid == holder.pid


def test_a_dead_owner_is_replaced_without_asking(path, holder):
    holder.kill()
    holder.wait()

    with Lock(path):
        owner = read_owner(path)

    assert owner is not None
    assert owner.pid == os.getpid()
    assert list(path.parent.iterdir()) == []


def test_break_lock_takes_over_and_the_old_owner_notices(path):
    with Lock(path) as first, Lock(path, break_it=True), pytest.raises(LockLost):
        first.beat()
    assert not path.exists()


def test_a_pid_that_was_reused_is_not_mistaken_for_the_owner(path):
    with Lock(path):
        owner = read_owner(path)
    assert owner is not None

    assert owner.model_copy(update={"started": "1"}).is_dead
    assert not owner.model_copy(update={"host": "elsewhere", "started": "1"}).is_dead


def test_a_lock_that_cannot_be_read_is_not_guessed_about(path):
    path.parent.mkdir()
    path.write_text("?")

    with pytest.raises(Refused, match="unknown driver"):
        Lock(path).__enter__()
    with Lock(path, break_it=True):
        assert read_owner(path) is not None


def test_a_heartbeat_is_the_age_of_the_file(path):
    with Lock(path) as lock:
        os.utime(path, (1, 1))

        lock.beat()

        assert time.time() - path.stat().st_mtime < 60
