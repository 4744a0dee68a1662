"""What is left of processes and placement groups, for tests that end them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
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


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
