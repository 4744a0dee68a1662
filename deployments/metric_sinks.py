"""Where measurements go: to Ray Serve's metrics, or into plain numbers where there is no Serve."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.metrics import METRICS, Metric

__all__ = ["MetricSink", "PlainSink", "ServeSink", "sink_here"]


class MetricSink(Protocol):
    """Takes measurements of declared metrics, each with all of its labels."""

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Let a counter grow; nothing happens at 0."""

    def set(self, name: str, value: float, **labels: str) -> None:
        """The present value of a gauge."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram."""


class PlainSink:
    """Sums and latest values in memory, by name and label values; a histogram has two sums."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = defaultdict(float)

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Let a counter grow."""
        if amount:
            self.values[_key(name, "counter", labels)] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """The present value of a gauge."""
        self.values[_key(name, "gauge", labels)] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram."""
        _, *given = _key(name, "histogram", labels)
        self.values[(f"{name}_count", *given)] += 1
        self.values[(f"{name}_sum", *given)] += value


class ServeSink:
    """Ray Serve's metrics of this replica; each is made when it is first used."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Let a counter grow."""
        if not amount:
            return  # Ray refuses 0
        if name not in self._counters:
            one = METRICS[name]
            self._counters[name] = Counter(name, one.about, one.labels)  # type: ignore[arg-type]
        self._counters[name].inc(amount, labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """The present value of a gauge."""
        if name not in self._gauges:
            one = METRICS[name]
            self._gauges[name] = Gauge(name, one.about, one.labels)  # type: ignore[arg-type]
        self._gauges[name].set(value, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One more value of a histogram."""
        if name not in self._histograms:
            one = METRICS[name]
            self._histograms[name] = Histogram(name, one.about, list(one.buckets), one.labels)  # type: ignore[arg-type]
        self._histograms[name].observe(value, labels)


def sink_here() -> MetricSink:
    """Serve's metrics inside a replica of Serve, plain numbers elsewhere."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return PlainSink()
    return ServeSink()


def _key(name: str, kind: str, labels: dict[str, str]) -> tuple[str, ...]:
    metric: Metric = METRICS[name]
    assert (metric.kind, set(metric.labels)) == (kind, set(labels)), f"{name}: {kind} {labels}"
    return (name, *(labels[label] for label in metric.labels))
