"""The recorded scenarios as rows and tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from benchmarks.markdown import table

__all__ = ["STAGES", "Row", "Stage", "medians", "rows_table", "stages_of", "stages_table"]

STAGES = {
    "ingress": "proxy, and its call to the ingress",
    "body": "body, asked of the proxy",
    "call": "reading the request",
    "replica": "handle call to the replica",
    "encoded": "tokens, checks",
    "admitted": "waiting for the running step",
    "stepped": "its own step",
    "filled": "delivery, text",
    "answered": "result, back through the handle",
    "responded": "writing the response",
    "received": "response, back through the proxy",
}
"""What happens until each stage is reached; the first is counted from the sending."""

TOTAL = "all of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario on one engine: medians of its repeats.

    tokens_per_s: masks filled. proxy_ms, ingress_ms, replica_ms: of the processor, a request.
    cpu_us, alone_us: of the processor, a token: all three together, and the engine without HTTP.
    """

    engine: str
    scenario: str
    requests: int
    p50_ms: float
    p99_ms: float
    requests_per_s: float
    tokens_per_s: float
    events_per_s: float
    proxy_ms: float
    ingress_ms: float
    replica_ms: float
    cpu_us: float
    alone_us: float | None
    load_average: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Milliseconds of one stage; beside: long requests that ran at the same time."""

    beside: int
    stage: str
    p50_ms: float
    p90_ms: float


def medians(found: Sequence[Row]) -> Row:
    """The median of every number, each for itself."""
    names = [field.name for field in fields(Row) if str(field.type).startswith("float")]
    middle: dict[str, float] = {}
    for name in names:
        values = [value for row in found if (value := getattr(row, name)) is not None]
        if values:
            middle[name] = statistics.median(values)
    return replace(found[0], **middle)  # type: ignore[arg-type]


def stages_of(times: Mapping[str, Sequence[float]], beside: int) -> list[Stage]:
    """From the times at which each probe was `sent` and reached each stage; last their sum."""
    spans = {b: np.subtract(times[b], times[a]) for a, b in pairwise(["sent", *STAGES])}
    spans[TOTAL] = np.subtract(times["received"], times["sent"])
    return [
        Stage(
            beside=beside,
            stage=STAGES.get(name, name),
            p50_ms=1000 * float(np.quantile(seconds, 0.5)),
            p90_ms=1000 * float(np.quantile(seconds, 0.9)),
        )
        for name, seconds in spans.items()
    ]


def rows_table(rows: Sequence[Row]) -> str:
    """Every scenario as Markdown."""
    heads = ["engine", "scenario", "p50 ms", "p99 ms", "requests/s", "tokens/s", "events/s"]
    heads += ["proxy ms", "ingress ms", "replica ms", "us a token", "engine alone", "load"]
    lines = []
    for row in rows:
        numbers = [row.p50_ms, row.p99_ms, row.requests_per_s, row.tokens_per_s, row.events_per_s]
        numbers += [row.proxy_ms, row.ingress_ms, row.replica_ms, row.cpu_us]
        cells = [_number(one) for one in (*numbers, row.alone_us, row.load_average)]
        lines.append([row.engine, row.scenario, *cells])
    return table(heads, lines, len(heads) - 2)


def stages_table(stages: Sequence[Stage]) -> str:
    """Milliseconds of each stage, p50 and p90, for each number of long requests beside it."""
    columns = sorted({one.beside for one in stages})
    found = {(one.stage, one.beside): one for one in stages}
    heads = ["until the next stage"]
    heads += [f"{_beside(n)}, {share}" for n in columns for share in ("p50", "p90")]
    lines = []
    for stage in dict.fromkeys(one.stage for one in stages):
        here = [found[stage, n] for n in columns]
        lines.append([stage, *(f"{ms:.1f}" for one in here for ms in (one.p50_ms, one.p90_ms))])
    return table(heads, lines, len(heads) - 1)


def _beside(number: int) -> str:
    return f"beside {number}" if number else "alone"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
