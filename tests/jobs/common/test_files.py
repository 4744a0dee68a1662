"""A file is seen whole or not at all, and is on the disk when a write returns."""

from __future__ import annotations

import os
import stat

import pytest

from jobs.common.files import move_into_place, replacing, write_atomically, write_if_changed


def fill_disk(path):
    path.write_text("half")
    raise OSError("disk full")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_atomic_write_leaves_no_other_file(tmp_path):
    write_atomically(tmp_path / "a.json", "1")
    write_atomically(tmp_path / "a.json", b"2")

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "2")]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    write_atomically(tmp_path / "a", "old")

    with pytest.raises(OSError, match="disk"), replacing(tmp_path / "a") as unfinished:
        fill_disk(unfinished)

    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


def test_bytes_and_name_are_on_the_disk_before_a_write_returns(tmp_path, monkeypatch):
    synced = []

    def note(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        synced.append((kind, names(tmp_path)))

    monkeypatch.setattr("jobs.common.files.os.fsync", note)
    (tmp_path / "new").write_text("1")
    move_into_place(tmp_path / "new", tmp_path / "a")

    assert synced == [("file", ["new"]), ("folder", ["a"])]


def test_a_file_that_holds_the_same_already_keeps_its_time(tmp_path):
    path = tmp_path / "new" / "file"
    assert write_if_changed(path, b"one")
    os.utime(path, ns=(1, 1))

    assert not write_if_changed(path, b"one")
    assert path.stat().st_mtime_ns == 1
    assert write_if_changed(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["file"]
