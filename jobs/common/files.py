"""Files that are seen whole or not at all, also after a crash of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["move_into_place", "replacing", "write_atomically", "write_if_changed"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what lies there takes the place of `path` when the body ends well."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        move_into_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def move_into_place(whole: Path, path: Path) -> None:
    """Rename a finished file of the same disk to `path`; file and name are on the disk then."""
    _sync(whole)
    os.replace(whole, path)
    _sync(path.parent)


def write_atomically(path: Path, content: str | bytes) -> None:
    """The file holds all of `content` or what it held before."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_if_changed(path: Path, content: bytes) -> bool:
    """Write `content` unless the file holds it already; then it is left alone, time and all."""
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return True


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
