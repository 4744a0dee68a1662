"""The folder that `--output` names: whether a job may begin there, and how an old one is moved."""

from __future__ import annotations

import time
from pathlib import Path

from jobs.common.errors import Refused
from jobs.common.lock import read_owner

__all__ = ["refuse_foreign", "refuse_written", "set_aside"]


def refuse_foreign(out: Path, own: Path) -> None:
    """Refuse a folder that holds anything but `own`."""
    if out.is_file() or (out.is_dir() and any(path != own for path in out.iterdir())):
        raise Refused(f"{out} is there and holds no job: choose another --output")


def refuse_written(out: Path, lock: Path) -> None:
    """Refuse a folder while the owner of its lock may live."""
    owner = read_owner(lock)
    if owner is not None and not owner.is_dead:
        raise Refused(f"{out} is being written by {owner}; it is not moved away")


def set_aside(out: Path) -> None:
    """Rename a folder, so that its name is free."""
    out.rename(out.with_name(f"{out.name}.old-{time.time_ns()}"))
