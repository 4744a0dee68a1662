"""Runs the phases in processes, and writes down how each process that failed came to its end.

Phases that share a process run in it one after the other. When one fails, hangs or kills the
process, that is recorded with what it told, and a new process runs those behind it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import IO

from benchmarks.gpu.log import Log
from benchmarks.gpu.record import Record
from benchmarks.gpu.registry import START_S, Phase

__all__ = ["Setup", "limits", "run"]

LONGEST_START_S = 60.0
GRACE_S = 3.0
"""A process that is over its time ends itself and tells where it was; later it is ended."""
LOOK_S = 0.1
TOLD = 3000
"""Characters kept of what a failed process wrote last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What runs, where, and into which file. registry: the module that has PHASES."""

    registry: str
    phases: Mapping[str, Phase]
    device: str
    size: str
    degree: int
    log: Log


def limits(phases: Mapping[str, Phase], minutes: float | None) -> dict[str, float]:
    """Seconds of each phase: its own, or its share of so many minutes."""
    own = {name: phase.seconds for name, phase in phases.items()}
    if minutes is None:
        return own
    processes = [phase.process for phase in phases.values()]
    starts = sum(a != b for a, b in zip(["", *processes], processes, strict=False))
    usable_s = max(0.2 * 60 * minutes, 60 * minutes - START_S * starts)
    return {name: seconds * usable_s / sum(own.values()) for name, seconds in own.items()}


def run(setup: Setup, seconds: Mapping[str, float], total_s: float) -> None:
    """Run the phases of `seconds` in order; those for which no time is left are named as such."""
    left, end = list(seconds), time.monotonic() + total_s
    while left and time.monotonic() < end:
        done = _run_group(setup, {name: seconds[name] for name in _group(setup, left)}, end)
        left = left[done:]
    for name in left:
        _fail(setup, name, None, "not begun: no time left")


def _group(setup: Setup, left: Sequence[str]) -> list[str]:
    """The first phases, as far as they share a process."""
    process = setup.phases[left[0]].process
    return list(takewhile(lambda name: setup.phases[name].process == process, left))


def _run_group(setup: Setup, seconds: Mapping[str, float], end: float) -> int:
    """Run phases in one process; how many of them are over, at least one."""
    offset = setup.log.size
    words = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.gpu.worker", setup.registry]
    words += [str(setup.log.path), setup.device, setup.size, str(setup.degree)]
    words += [f"{name}={limit}" for name, limit in seconds.items()]
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(words, stderr=stderr, start_new_session=True)
        try:
            reason = _Watch(setup, seconds, offset).until_ended(process, end)
        except KeyboardInterrupt:
            _kill(process)
            for name in _running(setup.log.record(offset)):
                _fail(setup, name, None, "interrupted")
            raise
        finally:
            _kill(process)
        return _settle(setup, seconds, offset, process.returncode, reason, _text(stderr))


class _Watch:
    """Sees from the file which phase runs, and since when."""

    def __init__(self, setup: Setup, seconds: Mapping[str, float], offset: int) -> None:
        self._setup, self._seconds, self._offset = setup, seconds, offset
        self.current = ""
        self._since = time.monotonic()
        self._size = offset

    def until_ended(self, process: subprocess.Popen[bytes], end: float) -> str:
        """Wait for the end of the process; why it has to be ended, or nothing."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_S)
                return ""
            self._look()
            limit = self._seconds.get(self.current, LONGEST_START_S)
            if time.monotonic() - self._since > limit + GRACE_S:
                return f"ended after {limit:.0f} s"
            if time.monotonic() > end:
                return "ended: the time of the whole run is over"

    def _look(self) -> None:
        """Read the file where it has grown."""
        log = self._setup.log
        if log.size == self._size:
            return
        self._size = log.size
        running = _running(log.record(self._offset))
        if running and running[-1] != self.current:
            self.current, self._since = running[-1], time.monotonic()


def _settle(
    setup: Setup,
    seconds: Mapping[str, float],
    offset: int,
    status: int,
    reason: str,
    told: str,
) -> int:
    """Record a failure; how many phases are over."""
    record = setup.log.record(offset)
    begun, running = record.phases, _running(record)
    if not begun or running:
        name = running[-1] if running else next(iter(seconds))
        _fail(setup, name, told, reason or _why(status, told))
    elif status:
        print(f"a process ended with status {status} behind its last phase:\n{told}", flush=True)
    return max(1, len(begun))


def _running(record: Record) -> list[str]:
    return [name for name, attempt in record.phases.items() if attempt.is_open]


def _why(status: int, told: str) -> str:
    """The signal, the end of the time, or the exception's own line."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    if "\nTimeout (" in f"\n{told}":
        return "took longer than its time"
    _, found, behind = told.rpartition("Traceback (most recent call last):\n")
    lines = [line for line in behind.splitlines() if line[:1].strip()]
    return lines[0] if found and lines else f"ended with status {status}"


def _fail(setup: Setup, name: str, told: str | None, error: str) -> None:
    setup.log.end(name, None, error, (told or "")[-TOLD:])
    print(f"{name} failed: {error}", flush=True)


def _text(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    return stderr.read().decode(errors="replace").strip()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
