"""Which modules make a task, and the digest of their code: other code draws other problems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

__all__ = ["source_sha256", "task_modules"]

BUILT_ON = {
    "jobs.tasks.countdown_planning": ("jobs.tasks.countdown",),
    "jobs.tasks.sudoku": ("jobs.tasks.sudoku_grids",),
}
"""What task modules use beside `base`."""


def task_modules(task: str) -> tuple[str, ...]:
    """Names of the modules that draw, write and score the problems of a task module."""
    return ("jobs.tasks.base", *BUILT_ON.get(task, ()), task)


def source_sha256(modules: Iterable[str]) -> str:
    """Digest of the names and files of these modules, none of which is imported for it."""
    digest = hashlib.sha256()
    for name in sorted(set(modules)):
        spec = find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        digest.update(name.encode() + hashlib.sha256(Path(spec.origin).read_bytes()).digest())
    return digest.hexdigest()
