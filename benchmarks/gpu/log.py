"""The file of findings, and the page of them: both are whole after every finding."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.gpu.page import page
from benchmarks.gpu.record import Finding, Kind, Record, as_line, read

__all__ = ["Log"]


class Log:
    """Appends lines to `path` and writes the page beside it anew; one process writes at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.page_path = path.with_suffix(".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n"):
            self._append("\n")  # the last line of a run that was cut off

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def record(self, offset: int = 0) -> Record:
        """What the lines from this byte on say."""
        return read(self.path, offset)

    def run(self, about: dict[str, str]) -> None:
        """A run begins."""
        self._write("run", about=about)

    def begin(self, phase: str, doc: str) -> None:
        """A phase begins: what it found before counts no more."""
        self._write("begin", phase=phase, doc=doc)

    def add(self, phase: str, finding: Finding) -> None:
        """A phase has found something."""
        self._write("finding", phase=phase, finding=finding)

    def end(self, phase: str, seconds: float | None, error: str = "", log: str = "") -> None:
        """A phase has ended, with an error or well."""
        self._write("end", phase=phase, seconds=seconds, error=error, log=log)

    def _write(self, kind: Kind, **values: object) -> None:
        self._append(as_line(kind, **values))
        new = self.page_path.with_suffix(".new")
        new.write_text(page(self.record()), encoding="utf-8")
        new.replace(self.page_path)

    def _append(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
