"""How far a job is: counted from what is committed, shown live and by `status`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from jobs.common.errors import JobError, RowsFailed
from jobs.common.lock import heartbeat_age, read_owner
from jobs.fill.ledger import CommitLog, JobFolder
from jobs.fill.partfile import read_columns

__all__ = ["Display", "Pace", "Status", "Tally", "as_lines", "display", "read_status"]
__all__ += ["raise_if_all_failed"]

LINE_EVERY_S = 10.0
"""Between two plain lines of progress, and between two progress events."""


class Tally:
    """Running counts over committed parts; each part is read once."""

    def __init__(self, folder: JobFolder) -> None:
        self._log = CommitLog(folder)
        self._data = folder.data
        self._seen: set[str] = set()
        self.statuses: Counter[str] = Counter()
        self.token_forwards = 0
        self.damaged: list[str] = []

    @property
    def num_rows(self) -> int:
        """Rows committed so far."""
        return self.statuses.total()

    @property
    def num_failed(self) -> int:
        """Rows whose status is not ok."""
        return self.num_rows - self.statuses["ok"]

    def update(self) -> None:
        """Count the batches committed since the last call."""
        new = set(self._log.committed()) - self._seen
        if not new:
            return
        for name, parts in self._log.parts().items():
            if name in new:
                for part in parts:
                    self._count(part)
        self._seen |= new

    def _count(self, part: Path) -> None:
        try:
            columns = read_columns(part, ("status", "token_forwards"))
        except JobError as error:
            self.damaged.append(str(error))
            return
        self.statuses.update(columns["status"].to_pylist())
        self.token_forwards += sum(filter(None, columns["token_forwards"].to_pylist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What `status` tells; the same fields as `--json`."""

    job_id: str
    output: str
    state: str
    rows_total: int
    rows_committed: int
    statuses: dict[str, int]
    token_forwards: int
    attempt: int
    fingerprint: str
    owner: str | None
    heartbeat_age_s: float | None
    damaged: list[str]


def read_status(folder: JobFolder) -> Status:
    """The state of a job from its files alone: no Ray, no lock."""
    record = folder.read_record()
    tally = Tally(folder)
    tally.update()
    owner = read_owner(folder.lock)
    is_running = owner is not None and not owner.is_dead
    state = "running" if is_running else "stopped"
    return Status(
        job_id=record.job_id,
        output=str(folder.out),
        state="finished" if folder.success.exists() else state,
        rows_total=record.num_rows,
        rows_committed=tally.num_rows,
        statuses=dict(sorted(tally.statuses.items())),
        token_forwards=tally.token_forwards,
        attempt=CommitLog(folder).attempt,
        fingerprint=record.fingerprint,
        owner=str(owner) if is_running else None,
        heartbeat_age_s=round(heartbeat_age(folder.lock), 1) if is_running else None,
        damaged=tally.damaged,
    )


def raise_if_all_failed(status: Status) -> None:
    """The output is complete and verifies, but a command that filled no row did not succeed."""
    if status.rows_committed and not status.statuses.get("ok"):
        raise RowsFailed(
            f"all {status.rows_committed:,} rows failed; the column error_message of "
            f"{status.output}/data says why"
        )


def as_lines(status: Status, *, as_json: bool) -> str:
    """A status as one JSON object or as one screen of text."""
    if as_json:
        return json.dumps(asdict(status))
    counts = ", ".join(f"{count:,} {name}" for name, count in status.statuses.items())
    lines = [
        f"job      {status.job_id}  (attempt {status.attempt})",
        f"output   {status.output}",
        f"state    {status.state}",
        f"rows     {status.rows_committed:,} of {status.rows_total:,}  {counts}".rstrip(),
        f"cost     {status.token_forwards:,} token-forwards",
    ]
    if status.rows_committed and not status.statuses.get("ok"):
        lines.append("no row is ok: the column error_message of the output says why")
    lines += [f"damaged  {line}" for line in status.damaged]
    if status.owner:
        lines.append(f"driver   {status.owner}, heartbeat {status.heartbeat_age_s} s ago")
    if status.state == "stopped":
        lines.append(f"go on    python -m jobs resume -o {status.output}")
    return "\n".join(lines)


class Pace:
    """Rows per second of this attempt, smoothed, and the time that is left at that pace."""

    def __init__(self, rows: int, clock: Callable[[], float], *, memory_s: float = 60.0) -> None:
        self._clock = clock
        self._memory_s = memory_s
        self._at, self._rows = clock(), rows
        self.rows_per_s: float | None = None

    def update(self, rows: int) -> None:
        """Take note of the rows committed now; pauses between commits count as time."""
        if rows == self._rows:
            return
        now = self._clock()
        elapsed = max(now - self._at, 1e-6)
        latest = (rows - self._rows) / elapsed
        weight = 1.0 if self.rows_per_s is None else min(1.0, elapsed / self._memory_s)
        self.rows_per_s = weight * latest + (1 - weight) * (self.rows_per_s or 0.0)
        self._at, self._rows = now, rows

    def eta_s(self, rows_left: int) -> float | None:
        """Seconds until `rows_left` more rows are done; None before the first commit."""
        return None if not self.rows_per_s else rows_left / self.rows_per_s


class Display(Protocol):
    """Where progress is shown."""

    def show(self, tally: Tally, pace: Pace) -> None:
        """Show the present state."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def display(total: int, stream: TextIO) -> Display:
    """A bar on a terminal, plain lines elsewhere."""
    return _Bar(total, stream) if stream.isatty() else _Lines(total, stream)


class _Bar:
    def __init__(self, total: int, stream: TextIO) -> None:
        columns = (
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows {task.description}"),
        )
        self._progress = Progress(*columns, console=Console(file=stream))
        self._task: TaskID = self._progress.add_task("", total=total)
        self._total = total
        self._progress.start()

    def show(self, tally: Tally, pace: Pace) -> None:
        text = _rates(tally, pace, self._total)
        self._progress.update(self._task, completed=tally.num_rows, description=text)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream = total, stream
        self._shown_at = float("-inf")
        self._line = ""

    def show(self, tally: Tally, pace: Pace) -> None:
        rates = _rates(tally, pace, self._total)
        self._line = f"{tally.num_rows:,} of {self._total:,} rows {rates}".rstrip()
        if time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            print(self._line, file=self._stream, flush=True)

    def close(self) -> None:
        if self._line:
            print(self._line, file=self._stream, flush=True)


def _rates(tally: Tally, pace: Pace, total: int) -> str:
    failed = f", {tally.num_failed:,} failed" if tally.num_failed else ""
    eta = pace.eta_s(total - tally.num_rows)
    if eta is None or pace.rows_per_s is None:
        return f"{failed}".lstrip(", ")
    minutes, seconds = divmod(round(eta), 60)
    hours, minutes = divmod(minutes, 60)
    return f"at {pace.rows_per_s:.2f} rows/s, {hours}:{minutes:02d}:{seconds:02d} left{failed}"
