"""What a replica adds to the metrics, once a second: differences of its engine's numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise

from deployments.metric_sinks import MetricSink
from deployments.metrics import tokens_bucket
from dream import AsyncEngine
from dream.engine.memory import used_memory
from dream.engine.step_times import SECONDS

__all__ = ["CanvasTally", "EngineMetrics"]

PERIOD_S = 1.0

COUNTERS: Mapping[str, str] = {
    "steps": "dream_forward_passes_total",
    "forward_passes": "dream_denoising_steps_total",
    "token_forwards": "dream_token_forwards_total",
    "canvas_positions": "dream_canvas_positions_total",
    "committed_tokens": "dream_committed_tokens_total",
}
"""Numbers of `EngineStats` by the metric that shows them."""

MIDDLES = (SECONDS[0] / 2, *((a + b) / 2 for a, b in pairwise(SECONDS)))
"""A value inside each bucket of a step's seconds, as only counts are known."""


@dataclass(slots=True)
class CanvasTally:
    """Canvases whose caller waits, and those of them that have had a step; of one event loop."""

    open: int = 0
    running: int = 0

    @contextmanager
    def canvas(self) -> Iterator[_Canvas]:
        """One canvas, from its admission to its end."""
        one = _Canvas(self)
        self.open += 1
        try:
            yield one
        finally:
            self.open -= 1
            self.running -= one.has_run


class _Canvas:
    def __init__(self, tally: CanvasTally) -> None:
        self.has_run = False
        self._tally = tally

    def step(self) -> None:
        """It has had a step."""
        self._tally.running += not self.has_run
        self.has_run = True


class EngineMetrics:
    """Exports an engine's numbers, from a thread of its own once it is started.

    max_num_batched_tokens: of the engine. load_s: how long it took to load.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        tally: CanvasTally,
        sink: MetricSink,
        *,
        device: str,
        max_num_batched_tokens: int,
        load_s: float,
    ) -> None:
        self._engine = engine
        self._tally = tally
        self._sink = sink
        self._device = device
        self._max_num_batched_tokens = max_num_batched_tokens
        self._load_s = load_s
        self._stats = asdict(engine.stats)  # what the warm-up did is not counted
        self._counts = [[0] * len(row) for row in engine.step_times.counts]
        self._busy_s = 0.0
        self._unclaimed = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dream-metrics", daemon=True)

    def start(self) -> None:
        """Export once a second from now on."""
        self._thread.start()

    def close(self) -> None:
        """Export no more."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def export(self) -> None:
        """Add what has happened since the last call, and show how things stand."""
        self._export_counters()
        self._export_steps()
        self._export_load()
        self._sink.set("dream_load_seconds", self._load_s)
        for kind, size in used_memory(self._device).items():
            self._sink.set("dream_device_memory_bytes", size, kind=kind)

    def _run(self) -> None:
        while not self._is_over.wait(PERIOD_S):
            self.export()

    def _export_counters(self) -> None:
        now = asdict(self._engine.stats)
        new = {name: value - self._stats[name] for name, value in now.items()}
        self._stats = now
        for name, metric in COUNTERS.items():
            self._sink.add(metric, new[name])
        if new["steps"] and new["token_forwards"]:
            room = new["steps"] * self._max_num_batched_tokens
            needed = new["logit_rows"] / new["token_forwards"]
            self._sink.set("dream_canvas_occupancy_ratio", new["token_forwards"] / room)
            self._sink.set("dream_masked_fraction", needed)

    def _export_steps(self) -> None:
        times = self._engine.step_times
        busy_s, counts = times.busy_s, [list(row) for row in times.counts]
        self._sink.add("dream_busy_seconds_total", busy_s - self._busy_s)
        for index, (row, before) in enumerate(zip(counts, self._counts, strict=True)):
            for middle, count, old in zip((*MIDDLES, 2 * SECONDS[-1]), row, before, strict=True):
                for _ in range(count - old):
                    bucket = tokens_bucket(index)
                    self._sink.observe("dream_step_seconds", middle, tokens_bucket=bucket)
        self._busy_s, self._counts = busy_s, counts

    def _export_load(self) -> None:
        tally, queued = self._tally, self._engine.queued_token_forwards
        self._sink.set("dream_requests_running", tally.running)
        self._sink.set("dream_requests_waiting", max(0, tally.open - tally.running))
        self._sink.set("dream_token_forwards_queued", queued)
        unclaimed = max(0, self._engine.num_requests - tally.open)
        self._sink.set("dream_canvas_leaks", min(unclaimed, self._unclaimed))
        self._unclaimed = unclaimed
