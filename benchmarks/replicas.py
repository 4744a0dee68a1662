"""How serving scales with replicas: work for each processor second, and latency against load.

Through HTTP, with the embedded model on this machine. The closed run has all requests in flight at
a bounded concurrency; it gives the rate at saturation. Each load then sends the same requests at
Poisson times at a share of that rate. Replicas share the processor here, so wall time cannot scale:
efficiency is token-forwards for each processor second of the replicas, against one replica.

`python -m benchmarks.replicas --record NAME` also writes results/replicas_NAME_yyyymm.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.hardware import describe
from benchmarks.markdown import table
from benchmarks.serving.measure import measure
from benchmarks.serving.server import served
from benchmarks.serving.settings import Settings
from benchmarks.serving.summary import Summary
from deployments.replica import DreamReplica

__all__ = ["Scaled", "efficiencies", "main", "scaled_table"]

RESULTS = Path(__file__).parent / "results"
LOADS = (0.25, 0.5, 0.75, 0.9)
SETTINGS = Settings(input_len=32, output_len=32, steps=32, ignore_eos=True, stream=False)
IN_FLIGHT = 8
"""Requests at a time in the closed run, for each replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """One run. offered: share of the rate at saturation; None in the closed run.

    replica_cpu_s, server_cpu_s: processor seconds of the replicas, and of proxy and ingress.
    """

    replicas: int
    offered: float | None
    requests: int
    requests_per_s: float
    token_forwards: int
    p50_ms: float
    p99_ms: float
    replica_cpu_s: float
    server_cpu_s: float

    @property
    def work_per_cpu_s(self) -> float:
        """Token-forwards for each processor second of the replicas."""
        return self.token_forwards / self.replica_cpu_s


def runs(replicas: int, settings: Settings, loads: Sequence[float]) -> Iterator[Scaled]:
    """The closed run and every load against so many replicas."""
    with served(DreamReplica, num_replicas=replicas) as url:
        closed = replace(settings, base_url=url, max_concurrency=IN_FLIGHT * replicas)
        measure(replace(closed, num_prompts=IN_FLIGHT * replicas))
        found = _scaled(replicas, None, measure(closed))
        yield found
        for load in loads:
            rate = load * found.requests_per_s
            opened = replace(settings, base_url=url, request_rate=rate)
            yield _scaled(replicas, load, measure(opened))


def efficiencies(found: Sequence[Scaled]) -> Mapping[int, float]:
    """Work for each processor second at saturation, against that of the fewest replicas."""
    closed = {one.replicas: one.work_per_cpu_s for one in found if one.offered is None}
    fewest = closed[min(closed)]
    return {replicas: work / fewest for replicas, work in closed.items()}


def scaled_table(found: Sequence[Scaled]) -> str:
    """The runs as Markdown."""
    compared = efficiencies(found)
    rows = []
    for one in found:
        offered = "all at once" if one.offered is None else f"{one.offered:g}"
        efficiency = f"{compared[one.replicas]:.0%}" if one.offered is None else ""
        cells = [f"{one.replicas}", offered, f"{one.requests}", f"{one.requests_per_s:.1f}"]
        cells += [f"{one.p50_ms:.0f}", f"{one.p99_ms:.0f}", f"{one.work_per_cpu_s:,.0f}"]
        cells += [f"{1000 * one.server_cpu_s / one.requests:.1f}", efficiency]
        rows.append(cells)
    heads = ["replicas", "offered", "requests", "requests/s", "p50 ms", "p99 ms"]
    heads += ["token-forwards a CPU s", "proxy and ingress, CPU ms a request", "efficiency"]
    return table(heads, rows, num_numbers=len(heads))


def main(words: Sequence[str] | None = None, results: Path = RESULTS) -> None:
    """Run everything and print the table; with --record write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--replicas", type=int, nargs="+", default=(1, 2, 4))
    parser.add_argument("--loads", type=float, nargs="*", default=LOADS)
    parser.add_argument("-n", type=int, default=100, help="requests of each run")
    parser.add_argument("--record", metavar="NAME", help="write the results")
    args = parser.parse_args(words)
    settings = replace(SETTINGS, num_prompts=args.n)
    found: list[Scaled] = []
    for replicas in args.replicas:
        for one in runs(replicas, settings, args.loads):
            found.append(one)
            print(one, flush=True)
    print(f"\n{scaled_table(found)}")
    if args.record:
        command = f"python -m benchmarks.replicas -n {args.n} --record {args.record}"
        command += f" --replicas {' '.join(map(str, args.replicas))}"
        command += f" --loads {' '.join(map(str, args.loads))}"
        print(_write(args.record, describe(command), found, results))


def _scaled(replicas: int, offered: float | None, done: Summary) -> Scaled:
    """AssertionError where a request failed: such a run says nothing."""
    assert not done.failed, done.errors
    latency = done.metrics["e2el"]
    assert latency is not None
    cpu_s = {role: ms * done.successful / 1000 for role, ms in done.cpu_ms.items()}
    return Scaled(
        replicas=replicas,
        offered=offered,
        requests=done.successful,
        requests_per_s=done.request_rate,
        token_forwards=done.token_forwards,
        p50_ms=latency.median,
        p99_ms=latency.percentiles["99"],
        replica_cpu_s=cpu_s["replica"],
        server_cpu_s=cpu_s["proxy"] + cpu_s["ingress"],
    )


def _write(name: str, about: Mapping[str, str], found: Sequence[Scaled], results: Path) -> Path:
    stem = results / f"replicas_{name}_{about['date'][:7].replace('-', '')}"
    results.mkdir(parents=True, exist_ok=True)
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    text = f"# Serving with several replicas\n\n{facts}\n\n{scaled_table(found)}\n"
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    values = {"about": dict(about), "rows": [asdict(one) for one in found]}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return stem


if __name__ == "__main__":
    main()
