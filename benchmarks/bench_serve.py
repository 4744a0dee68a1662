"""Measures a running server over HTTP, with the flags and the table of `vllm bench serve`.

Prompts are random tokens of plain text. Inter-token latency is left out, because a diffusion model
fills tokens in any order and several at once; time per output token = denoise time / completion
tokens stands for it. Denoise time is what the server says in `server-timing`, and in a stream the
time from its first step (or text) to its end. Where the server runs on this machine, the processor
time of its proxy, ingress and replica is measured too.

`--serve null` and `--serve embedded` start a server; the null engine is a double without a network
(benchmarks/serving/null_engine.py), so that HTTP and Serve are what is left. `--record NAME` runs
the recorded scenarios (benchmarks/serving/scenarios.py). `benchmarks.load` measures an engine under
load without HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.hardware import describe
from benchmarks.serving.measure import measure
from benchmarks.serving.scenarios import record
from benchmarks.serving.server import REPLICAS, served
from benchmarks.serving.settings import Settings, parsed
from benchmarks.serving.summary import Summary, table

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"


def main(words: Sequence[str] | None = None, results: Path = RESULTS) -> None:
    """Measure once and print the table, or with --record every scenario."""
    settings = parsed(words, (__doc__ or "").partition("\n")[0])
    if settings.record is not None:
        print(record(settings.record, settings.repeats, results))
        return
    if settings.serve is None:
        summary = measure(settings)
    else:
        with served(REPLICAS[settings.serve]) as url:
            settings = replace(settings, base_url=url)
            summary = measure(settings)
    print(table(summary, settings))
    if settings.save_result:
        print(_save(summary, settings))


def _save(summary: Summary, settings: Settings) -> Path:
    now = datetime.now(UTC)
    name = settings.result_filename or f"serve_{now:%Y%m%d-%H%M%S}.json"
    path = Path(settings.result_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    about = describe("python -m benchmarks.bench_serve")
    told = {**asdict(settings), "request_rate": str(settings.request_rate)}
    values = {"about": about, "settings": told, "summary": asdict(summary)}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
