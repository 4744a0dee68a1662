"""The recorded scenarios: what HTTP and Serve cost, and where the time of a short request goes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.hardware import describe
from benchmarks.serving.measure import measure
from benchmarks.serving.probes import probe_stages
from benchmarks.serving.report import Row, Stage, medians, rows_table, stages_table
from benchmarks.serving.server import REPLICAS, served
from benchmarks.serving.settings import Settings
from benchmarks.serving.summary import Summary

__all__ = ["record", "row_of", "write"]

ONE_STEP = Settings(
    num_prompts=200, input_len=16, output_len=1, steps=1, stream=False, ignore_eos=True
)
LONG = Settings(
    num_prompts=32, output_len=64, steps=64, ignore_eos=True, max_concurrency=8, engine_alone=True
)
SCENARIOS: dict[str, Settings] = {
    "one step, one at a time": replace(ONE_STEP, max_concurrency=1),
    "one step, 8 at a time": replace(ONE_STEP, max_concurrency=8),
    "64 steps, 8 at a time": replace(LONG, stream=False),
    "64 steps, 8 streams of text": LONG,
    "64 steps, 8 streams of steps": replace(LONG, view="steps"),
}
NULL_TIMES = 4
"""So many times the requests, where they cost so little that fewer end before they are counted."""

BESIDE = (0, 1, 8)
NUM_PROBES = 200


def record(name: str, repeats: int, results: Path) -> str:
    """Run everything and write `serve_NAME_yyyymm`; the path without its ending."""
    rows: list[Row] = []
    for engine in ("null", "embedded"):
        with served(REPLICAS[engine]) as url:
            for scenario, plain in SCENARIOS.items():
                number = plain.num_prompts * (NULL_TIMES if engine == "null" else 1)
                settings = replace(plain, base_url=url, serve=engine, num_prompts=number)
                found = [row_of(scenario, settings, measure(settings)) for _ in range(repeats)]
                rows.append(medians(found))
                print(rows[-1], flush=True)
    stages = probe_stages(BESIDE, NUM_PROBES)
    about = describe(f"python -m benchmarks.bench_serve --record {name} --repeats {repeats}")
    return write(name, about, rows, stages, results)


def write(
    name: str,
    about: Mapping[str, str],
    rows: Sequence[Row],
    stages: Sequence[Stage],
    results: Path,
) -> str:
    """Tables and numbers; the path of both without its ending."""
    stem = results / f"serve_{name}_{about['date'][:7].replace('-', '')}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    parts = ["# The server over HTTP", facts, rows_table(rows), stages_table(stages)]
    stem.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    values = {
        "about": dict(about),
        "rows": list(map(asdict, rows)),
        "stages": list(map(asdict, stages)),
    }
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return str(stem)


def row_of(scenario: str, settings: Settings, found: Summary) -> Row:
    """One repeat. AssertionError where a request failed: such a run says nothing."""
    assert not found.failed, found.errors
    latency, cpu_us = found.metrics["e2el"], found.cpu_us_per_token
    assert latency is not None
    assert cpu_us is not None
    return Row(
        engine=settings.serve or "",
        scenario=scenario,
        requests=found.successful,
        p50_ms=latency.median,
        p99_ms=latency.percentiles["99"],
        requests_per_s=found.request_rate,
        tokens_per_s=found.request_rate * settings.output_len,
        events_per_s=found.event_rate,
        proxy_ms=found.cpu_ms["proxy"],
        ingress_ms=found.cpu_ms["ingress"],
        replica_ms=found.cpu_ms["replica"],
        cpu_us=cpu_us,
        alone_us=found.alone_us_per_token,
        load_average=os.getloadavg()[0],
    )
