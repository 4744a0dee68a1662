"""Heartbeat and progress beside the work; what goes wrong there stops the work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pyarrow as pa

from dream.errors import DreamError
from jobs.common.errors import Stopped
from jobs.fill.ledger import JobFolder
from jobs.fill.report import LINE_EVERY_S, Display, Pace, Tally

__all__ = ["watched"]

POLL_S = 0.5


@contextmanager
def watched(
    folder: JobFolder, tally: Tally, shown: Display, checks: Callable[[], None]
) -> Iterator[None]:
    """Count and show what is committed while the body runs; `checks` may stop it by raising."""
    watch = _Watch(folder, tally, shown, checks)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    watch.start()
    try:
        try:
            yield
        finally:
            watch.stop()
    except KeyboardInterrupt as interrupt:
        reason = watch.reason or Stopped(
            f"stopped; go on with: python -m jobs resume -o {folder.out}"
        )
        folder.log("stopped", reason=str(reason))
        raise reason from interrupt
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Watch(threading.Thread):
    """Owns the tally while it runs; interrupts the main thread when `reason` is set."""

    def __init__(
        self, folder: JobFolder, tally: Tally, shown: Display, checks: Callable[[], None]
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.reason: DreamError | None = None
        self._folder, self._tally, self._shown, self._checks = folder, tally, shown, checks
        self._pace = Pace(tally.num_rows, time.monotonic)
        self._ended = threading.Event()

    def run(self) -> None:
        logged_at = time.monotonic()
        while not self._ended.wait(POLL_S):
            try:
                self._look()
            except DreamError as error:
                self.reason = error
            except (OSError, pa.ArrowException) as error:
                self.reason = DreamError(f"{self._folder.out}: {error}")
            if self.reason is not None:
                os.kill(os.getpid(), signal.SIGTERM)  # unlike interrupt_main, it ends a wait
                return
            if time.monotonic() - logged_at >= LINE_EVERY_S:
                logged_at = time.monotonic()
                self._folder.log("progress", rows_committed=self._tally.num_rows)

    def stop(self) -> None:
        """End the watch and count once more; the tally is the caller's again."""
        self._ended.set()
        self.join()
        self._tally.update()
        self._pace.update(self._tally.num_rows)
        self._shown.show(self._tally, self._pace)
        self._shown.close()

    def _look(self) -> None:
        self._tally.update()
        self._pace.update(self._tally.num_rows)
        self._shown.show(self._tally, self._pace)
        self._checks()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
