"""What the phases found, as a file of JSON lines holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["Attempt", "Finding", "Kind", "Record", "as_line", "read", "skipped"]

Kind = Literal["run", "begin", "finding", "end"]
"""Kinds of lines: a run began, with what it ran on; a phase began, found something, ended."""

Table = Literal["", "stages", "products", "kernels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measured number; `goal` is what it has to reach, or under `is_cost` to stay below.

    value: None where nothing was measured; `note` says why. mode: how the engine ran, where that
    was varied. detail: further numbers by name, shown in the table of this name.
    """

    what: str
    value: float | None = None
    unit: str = ""
    mode: str = ""
    goal: float | None = None
    is_cost: bool = False
    note: str = ""
    table: Table = ""
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None where there is none, or no value."""
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.is_cost else self.value >= self.goal


def skipped(what: str, why: str, mode: str = "") -> Finding:
    """What was not measured, and the reason."""
    return Finding(what=what, mode=mode, note=why)


@dataclass(slots=True)
class Attempt:
    """The newest run of a phase. error: empty where it ended well; seconds: None where it did not.

    log: the end of what the process of a failed phase wrote to stderr.
    """

    doc: str = ""
    findings: list[Finding] = field(default_factory=list)
    seconds: float | None = None
    error: str = ""
    log: str = ""

    @property
    def is_open(self) -> bool:
        """Whether nothing has been written about its end."""
        return self.seconds is None and not self.error


@dataclass(slots=True)
class Record:
    """What the newest run ran on, and the newest attempt of each phase, in the order begun."""

    about: dict[str, str] = field(default_factory=dict)
    phases: dict[str, Attempt] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """All findings, phase by phase."""
        return [finding for attempt in self.phases.values() for finding in attempt.findings]

    def value(self, what: str, mode: str = "") -> float | None:
        """What was found under this name; None where it was not."""
        found = [one.value for one in self.findings if (one.what, one.mode) == (what, mode)]
        return found[-1] if found else None


def read(path: Path, offset: int = 0) -> Record:
    """The record of a file from this byte on; a line that was cut off is left out."""
    record = Record()
    for line in _lines(path, offset):
        kind, name = line["kind"], str(line.get("phase", ""))
        if kind == "run":
            record.about = line["about"]  # type: ignore[assignment]
        elif kind == "begin":
            record.phases.pop(name, None)
            record.phases[name] = Attempt(doc=str(line["doc"]))
        elif kind == "finding":
            record.phases[name].findings.append(Finding(**line["finding"]))  # type: ignore[arg-type]
        else:
            attempt = record.phases.setdefault(name, Attempt())
            attempt.seconds = line["seconds"]  # type: ignore[assignment]
            attempt.error, attempt.log = str(line["error"]), str(line["log"])
    return record


def as_line(kind: Kind, **values: object) -> str:
    """One line of the file."""
    told = {
        name: asdict(value) if isinstance(value, Finding) else value
        for name, value in values.items()
    }
    return json.dumps({"kind": kind, **told}) + "\n"


def _lines(path: Path, offset: int) -> Iterator[dict[str, object]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            yield line
