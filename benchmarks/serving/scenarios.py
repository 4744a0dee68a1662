"""The recorded scenarios: what HTTP and Serve cost, and where the time of a short request goes."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from benchmarks.hardware import describe
from benchmarks.markdown import table
from benchmarks.serving.measure import measure
from benchmarks.serving.probes import Stage, probe_stages
from benchmarks.serving.server import REPLICAS, served
from benchmarks.serving.settings import Settings
from benchmarks.serving.summary import Spread, Summary

__all__ = ["Row", "medians", "record", "row_of", "rows_table", "stages_table"]

ONE_STEP = Settings(
    num_prompts=200, input_len=16, output_len=1, steps=1, stream=False, ignore_eos=True
)
LONG = Settings(num_prompts=64, output_len=64, steps=64, ignore_eos=True, engine_alone=True)
SCENARIOS: dict[str, Settings] = {
    "one step, one at a time": replace(ONE_STEP, max_concurrency=1),
    "one step, 8 at a time": replace(ONE_STEP, max_concurrency=8),
    "64 steps, 8 at a time": replace(LONG, max_concurrency=8, stream=False),
    "64 steps, 8 streams of text": replace(LONG, max_concurrency=8),
    "64 steps, 8 streams of steps": replace(LONG, max_concurrency=8, view="steps"),
}
BESIDE = (0, 1, 8)
NUM_PROBES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One scenario on one engine: medians of its repeats. NaN stands for what was not measured.

    cpu_us, alone_us: processor microseconds a token, over HTTP and of the engine without it.
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
    alone_us: float
    load_average: float


def record(name: str, repeats: int, results: Path) -> str:
    """Run everything and write `serve_NAME_yyyymm`; the path without its ending."""
    rows: list[Row] = []
    for engine in ("null", "embedded"):
        with served(REPLICAS[engine]) as url:
            for scenario, plain in SCENARIOS.items():
                settings = replace(plain, base_url=url, serve=engine)
                found = [row_of(engine, scenario, measure(settings)) for _ in range(repeats)]
                rows.append(medians(found))
                print(rows[-1], flush=True)
    stages = probe_stages(BESIDE, NUM_PROBES)
    command = f"python -m benchmarks.bench_serve --record {name} --repeats {repeats}"
    about = describe(command)
    stem = results / f"serve_{name}_{about['date'][:7].replace('-', '')}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    parts = ["# The server over HTTP", facts, rows_table(rows), stages_table(stages)]
    stem.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    values = {"about": about, "rows": list(map(asdict, rows)), "stages": list(map(asdict, stages))}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return str(stem)


def row_of(engine: str, scenario: str, found: Summary) -> Row:
    """One repeat. AssertionError where a request failed: such a run says nothing."""
    assert not found.failed, found.errors
    latency = found.metrics["e2el"]
    assert isinstance(latency, Spread)
    nothing = float("nan")
    return Row(
        engine=engine,
        scenario=scenario,
        requests=found.successful,
        p50_ms=latency.median,
        p99_ms=latency.percentiles["99"],
        requests_per_s=found.request_rate,
        tokens_per_s=found.output_rate,
        events_per_s=found.event_rate,
        proxy_ms=found.cpu_ms.get("proxy", nothing),
        ingress_ms=found.cpu_ms.get("ingress", nothing),
        replica_ms=found.cpu_ms.get("replica", nothing),
        cpu_us=found.cpu_us_per_token or nothing,
        alone_us=found.alone_us_per_token or nothing,
        load_average=os.getloadavg()[0],
    )


def medians(found: Sequence[Row]) -> Row:
    """The median of every number, each for itself."""
    numbers = [field.name for field in fields(Row) if field.type == "float"]
    return replace(
        found[0],
        **{name: statistics.median(getattr(row, name) for row in found) for name in numbers},
    )


def rows_table(rows: Sequence[Row]) -> str:
    """Every scenario as Markdown."""
    heads = ["engine", "scenario", "p50 ms", "p99 ms", "requests/s", "tokens/s", "events/s"]
    heads += ["proxy", "ingress", "replica", "us a token", "engine alone", "load"]
    lines = []
    for row in rows:
        numbers = [row.p50_ms, row.p99_ms, row.requests_per_s, row.tokens_per_s, row.events_per_s]
        numbers += [row.proxy_ms, row.ingress_ms, row.replica_ms, row.cpu_us, row.alone_us]
        cells = [_number(one) for one in (*numbers, row.load_average)]
        lines.append([row.engine, row.scenario, *cells])
    return table(heads, lines, len(heads) - 2)


def stages_table(stages: Sequence[Stage]) -> str:
    """Median milliseconds of each stage as Markdown, a column for each number of long requests."""
    columns = sorted({one.beside for one in stages})
    found = {(one.stage, one.beside): one for one in stages}
    heads = ["stage", *(f"beside {n}: p50" for n in columns), *(f"p90 beside {n}" for n in columns)]
    lines = []
    for stage in dict.fromkeys(one.stage for one in stages):
        halves = [f"{found[stage, n].p50_ms:.1f}" for n in columns]
        lines.append([stage, *halves, *(f"{found[stage, n].p90_ms:.1f}" for n in columns)])
    return table(heads, lines, 2 * len(columns))


def _number(value: float) -> str:
    if value != value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
