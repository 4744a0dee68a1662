"""How an engine bears load: Poisson arrivals of mixed requests, from light to beyond saturation.

A closed run, in which all requests wait from the start, gives the rate at saturation. Each load
then offers the same requests at a share of that rate, at times that are the arrivals of a Poisson
process given their number: uniform ones in order. Cost is busy seconds (those inside
`Engine.step`) for each token-forward; the goal is that it stays within 15 % up to saturation.

`python -m benchmarks.load --record NAME` also writes results/load_NAME_yyyymm and the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu.model import SIZES, body_17m, random_model
from benchmarks.hardware import describe
from benchmarks.load_report import Load, row, spread, table, verdict
from dream import (
    AsyncEngine,
    Completion,
    Engine,
    EngineConfig,
    Fixed,
    Hole,
    Request,
    SamplingParams,
    StepEvent,
    Template,
)
from dream.engine.warm import made_apart
from dream.memory import DType
from dream.model.config import DreamConfig

ROOT = Path(__file__).parent.parent
LOADS = (0.25, 0.5, 0.75, 1.0, 1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Requests of prompts and holes between two lengths (inclusive), drawn by a seed.

    Steps are as many as masks, half or a quarter of that.
    """

    prompt: tuple[int, int]
    hole: tuple[int, int]
    top_id: int

    def draw(self, number: int, seed: int) -> list[Request]:
        """So many requests."""
        random = np.random.default_rng(seed)
        return [self._one(index, random) for index in range(number)]

    def _one(self, index: int, random: np.random.Generator) -> Request:
        prompt, hole = (
            int(random.integers(low, high + 1)) for low, high in (self.prompt, self.hole)
        )
        steps = max(1, hole // int(random.choice([1, 2, 4])))
        given = Fixed(random.integers(0, self.top_id, prompt).tolist())
        params = SamplingParams(steps=steps, early_exit=False, seed=index)
        return Request(id=str(index), template=Template([given, Hole(hole)]), params=params)


class TimedEngine(Engine):
    """An engine that knows how long it was inside its steps, and the processor time of that."""

    busy_s = 0.0
    cpu_s = 0.0

    def step(self) -> list[StepEvent]:
        """As `Engine.step`; it ends when the tokens are on the host."""
        start, cpu_start = time.perf_counter(), time.process_time()
        events = super().step()
        self.busy_s += time.perf_counter() - start
        self.cpu_s += time.process_time() - cpu_start
        return events


async def offer(
    engine: AsyncEngine, wanted: Sequence[Request], arrivals_s: Sequence[float]
) -> list[float]:
    """Latency of each request from the moment it was due, whenever its sending came about."""
    start = time.perf_counter()

    async def send(request: Request, due_s: float) -> float:
        await asyncio.sleep(max(0.0, start + due_s - time.perf_counter()))
        async for item in engine.generate(request):
            if isinstance(item, Completion):
                return time.perf_counter() - start - due_s
        raise AssertionError("generate ends with a completion")

    pairs = zip(wanted, arrivals_s, strict=True)
    return list(await asyncio.gather(*(send(*pair) for pair in pairs)))


async def run_load(
    engine: TimedEngine,
    lane: AsyncEngine,
    wanted: Sequence[Request],
    arrivals_s: Sequence[float],
    offered: float | None,
) -> Load:
    """Offer the requests at these times, and count what happened until the last was answered."""
    before, busy_s, cpu_s = asdict(engine.stats), engine.busy_s, engine.cpu_s
    start = time.perf_counter()
    latencies = await offer(lane, wanted, arrivals_s)
    seconds, busy_s = time.perf_counter() - start, engine.busy_s - busy_s
    done = {name: value - before[name] for name, value in asdict(engine.stats).items()}
    return Load(
        offered=offered,
        requests=len(wanted),
        seconds=seconds,
        tokens_per_s=done["committed_tokens"] / seconds,
        token_forwards_per_s=done["token_forwards"] / seconds,
        p50_s=float(np.quantile(latencies, 0.5)),
        p99_s=float(np.quantile(latencies, 0.99)),
        rows_per_step=done["token_forwards"] / done["steps"],
        busy_share=busy_s / seconds,
        cost_us=1e6 * busy_s / done["token_forwards"],
        cpu_us=1e6 * (engine.cpu_s - cpu_s) / done["token_forwards"],
    )


async def measure(
    engine: TimedEngine, mix: Mix, *, number: int, loads: Sequence[float], seed: int
) -> list[Load]:
    """The closed run, and every load with the same requests and arrivals to scale."""
    lane = AsyncEngine(engine)
    try:
        wanted = mix.draw(number, seed)
        uniform = np.sort(np.random.default_rng(seed + 1).random(number))
        await offer(lane, mix.draw(min(4, number), seed + 2), [0.0] * min(4, number))
        found = [await run_load(engine, lane, wanted, [0.0] * number, None)]
        print(row(found[0]), flush=True)
        for load in loads:
            arrivals_s = uniform * found[0].seconds / load
            found.append(await run_load(engine, lane, wanted, arrivals_s.tolist(), load))
            print(row(found[-1]), flush=True)
    finally:
        lane.shutdown()
    return found


def record(name: str, about: dict[str, str], found: Sequence[Load], root: Path = ROOT) -> Path:
    """Write the table, the numbers and the figure; the path of the first two without ending."""
    from benchmarks.load_figure import draw  # needs matplotlib, which a GPU machine may lack

    stem = root / "benchmarks/results" / f"load_{name}_{about['date'][:7].replace('-', '')}"
    figure = root / "docs/figures" / f"load_{name}.svg"
    for folder in (stem.parent, figure.parent):
        folder.mkdir(parents=True, exist_ok=True)
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    text = f"# An engine under load\n\n{facts}\n\n{table(found)}\n\n{verdict(found)}\n"
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    values = {"about": about, "spread": spread(found), "rows": [asdict(load) for load in found]}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    figure.write_bytes(draw(found, about.get("device", about["processor"])))
    return stem


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> None:
    """Calibrate, run every load, print the table, and with --record write it and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=list(SETTINGS), default="17m")
    parser.add_argument("--rows", type=int, default=1024, help="max_num_batched_tokens")
    parser.add_argument("-n", type=int, default=20, help="requests of each load")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="NAME", help="write results and figure")
    args = parser.parse_args(words)
    shape, dtype, mix = SETTINGS[args.size]
    config = EngineConfig(device=args.device, dtype=dtype, max_num_batched_tokens=args.rows)

    def make() -> TimedEngine:
        return TimedEngine(random_model(shape, dtype, args.device), None, config)

    engine = made_apart(make)
    found = asyncio.run(measure(engine, mix, number=args.n, loads=args.loads, seed=args.seed))
    print(f"\n{table(found)}\n\n{verdict(found)}")
    if args.record:
        command = f"python -m benchmarks.load --device {args.device} --size {args.size}"
        command += f" --rows {args.rows} -n {args.n} --seed {args.seed} --record {args.record}"
        command += f" --loads {' '.join(map(str, args.loads))}"
        print(record(args.record, describe(command, args.device), found, root))


SETTINGS: dict[str, tuple[DreamConfig, DType, Mix]] = {
    "17m": (body_17m(8192), "float32", Mix(prompt=(128, 384), hole=(32, 64), top_id=8000)),
    "17m-short": (body_17m(8192), "float32", Mix(prompt=(64, 160), hole=(8, 24), top_id=8000)),
    "7b": (SIZES["7b"].shape, "bfloat16", Mix(prompt=(64, 512), hole=(32, 128), top_id=150_000)),
    "tiny": (SIZES["tiny"].shape, "float32", Mix(prompt=(4, 16), hole=(4, 12), top_id=500)),
}
"""Network with random weights, its precision, and the requests that suit it."""


if __name__ == "__main__":
    main()
