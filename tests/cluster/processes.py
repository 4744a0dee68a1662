"""What is left of processes and placement groups, for tests that end them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from ray.util import placement_group_table

PATIENCE_S = 30


def eventually(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether it holds, now or within a while."""
    end = time.monotonic() + patience_s
    while not (is_so := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return is_so


def gone(pids: Collection[int]) -> bool:
    """Whether none of these processes runs any more; a zombie runs no more."""
    return eventually(lambda: not any(map(_runs, pids)))


def groups_here() -> int:
    """Placement groups that hold or wait for resources."""
    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


def actors_here(name: str) -> list[int]:
    """Process ids of the actors of a class, of the Ray that this process has started."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if _is_pid(path)}
    return sorted(
        pid
        for pid in parents
        if _text(Path(f"/proc/{pid}/cmdline")).startswith(f"ray::{name}")
        and os.getpid() in _ancestors(pid, parents)
    )


def _is_pid(path: Path) -> bool:
    return path.name.isdigit()


def _parent(path: Path) -> int:
    """Of a folder of /proc; 0 where the process has ended meanwhile."""
    fields = _text(path / "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid := parents.get(pid, 0):
        yield pid


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(fields) and fields[0] != "Z"
