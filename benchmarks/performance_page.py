"""The short tables of docs/performance.md; the whole ones stand in benchmarks/results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from benchmarks.bench_engine import Row
from benchmarks.frontier_report import Outcome, front
from benchmarks.gpu.model import SIZES
from benchmarks.load_report import Load, verdict
from benchmarks.markdown import Sections, table
from benchmarks.roofline import Rates, block_ceiling, exact_ceiling
from benchmarks.serving.report import Row as ServeRow
from benchmarks.serving.report import Stage, rows_table, stages_table

__all__ = ["performance_sections"]

H200 = Rates(flop_per_s=790e12, bytes_per_s=4.3e12)
SHOWN_MODES = (
    "dual, block 6",
    "dual, block 6, refresh 4",
    "dual, block 6, vicinity 4",
    "prefix, block 6",
    "prefix, block 6, refresh 4",
    "prefix, block 6, vicinity 4",
    "suffix 4, block 6",
    "suffix 16, block 6",
)
"""Of 36 approximate settings; blocks of 4 and 8 give much the same."""

SERVED = "serve_amd_2core_*.json"

Line = TypeVar("Line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Generic[Line]):
    """A file of benchmarks/results: what it ran on, and one line for each measurement."""

    about: dict[str, str]
    rows: tuple[Line, ...]

    @property
    def where(self) -> str:
        """Command, date and machine."""
        about = self.about
        return (
            f"`{about['command']}`, {about['date']}, {about['cores']} cores of "
            f"{about['processor']}, torch {about['torch']}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """The stages of a request of one step in a file of benchmarks/results."""

    stages: tuple[Stage, ...]


def performance_sections(results: Path) -> Sections:
    """Each table by its name."""
    return {
        "engine": partial(engine, results),
        "load": partial(under_load, results),
        "frontier": partial(frontier, results),
        "approximate": partial(approximate, results),
        "roofline": roofline,
        "serving": partial(serving, results),
        "stages": partial(stages, results),
    }


def engine(results: Path) -> str:
    """Batches of 8 with short prompts from `benchmarks.bench_engine`."""
    told = _latest(Record[Row], results, "engine_x86_2core_*.json")
    heads = ["setting", "dtype", "vocabulary", "canvas", "steps"]
    heads += ["loop tokens/s", "engine tokens/s", "engine / loop"]
    rows = [
        [
            row.setting,
            row.dtype,
            f"{row.vocabulary:,}",
            f"{row.canvas}",
            f"{row.steps}",
            f"{row.loop_tokens_per_s:.2f}",
            f"{row.engine_tokens_per_s:.2f}",
            f"{row.ratio:.1f}",
        ]
        for row in told.rows
        if (row.batch, row.prompt) == (8, 32)
    ]
    return f"{told.where}\n\n{table(heads, rows, 6)}"


def under_load(results: Path) -> str:
    """Rate, latency and cost at each load from `benchmarks.load`, and its verdict."""
    told = _latest(Record[Load], results, "load_x86_2core_*.json")
    heads = ["offered load", "tokens/s", "p50 s", "p99 s", "busy", "us a token-forward"]
    rows = [
        [
            "all at once" if row.offered is None else f"{row.offered:g}",
            f"{row.tokens_per_s:.1f}",
            f"{row.p50_s:.1f}",
            f"{row.p99_s:.1f}",
            f"{row.busy_share:.0%}",
            f"{row.cost_us:.0f}",
        ]
        for row in told.rows
    ]
    return f"{told.where}\n\n{table(heads, rows, 5)}\n\n{verdict(told.rows)}"


def frontier(results: Path) -> str:
    """Of each suite: one mask a step, the cheapest setting that is as good, and the best one."""
    told = _latest(Record[Outcome], results, "frontier_embedded_*.json")
    heads = ["suite", "which", "setting", "right", "token-forwards", "forward passes"]
    rows = []
    for suite in dict.fromkeys(outcome.suite for outcome in told.rows):
        of_suite = [outcome for outcome in told.rows if outcome.suite == suite]
        best = front(of_suite)
        full = next(o for o in of_suite if o.setting == "entropy full")
        as_good = next(o for o in best if o.quality >= full.quality)
        shown = {"one mask a step": full, "cheapest as good": as_good, "best": best[-1]}
        if as_good is best[-1]:
            shown = {"one mask a step": full, "cheapest as good, and best": as_good}
        rows += [[suite, which, *_cells(outcome)] for which, outcome in shown.items()]
    text = f"{told.where} {told.rows[0].n} questions of each suite."
    return f"{text}\n\n{table(heads, rows, 3)}"


def approximate(results: Path) -> str:
    """Loss and cost of approximate modes in blocks of 6, over the suites they ran on."""
    outcomes = _latest(Record[Outcome], results, "frontier_embedded_*.json").rows
    exact = {(o.suite, o.setting): o for o in outcomes}
    rows = []
    for setting in SHOWN_MODES:
        same = [(o, o.loss) for o in outcomes if o.setting == setting and o.loss is not None]
        losses = [loss.mean for _, loss in same]
        shares = [o.token_forwards / exact[o.suite, loss.exact].token_forwards for o, loss in same]
        mean, worst = statistics.mean(losses), max(losses)
        rows.append([setting, f"{mean:.3f}", f"{worst:.3f}", f"x {statistics.mean(shares):.2f}"])
    return table(["setting", "mean loss", "worst loss", "token-forwards"], rows, 3)


def serving(results: Path) -> str:
    """What HTTP and Serve cost, from `benchmarks.bench_serve`."""
    told = _latest(Record[ServeRow], results, SERVED)
    return f"{told.where}\n\n{rows_table(told.rows)}"


def stages(results: Path) -> str:
    """Where the time of a request of one step goes, alone and beside long ones."""
    path = max(results.glob(SERVED))
    return stages_table(TypeAdapter(StageRecord).validate_json(path.read_bytes()).stages)


def roofline() -> str:
    """Ceilings of one request of Dream 7B in bfloat16, canvas 256, one token a step."""
    rows = []
    for prompt in (128, 512, 1024):
        exact = exact_ceiling(SIZES["7b"].shape, H200, prompt=prompt, canvas=256, itemsize=2)
        block = block_ceiling(
            SIZES["7b"].shape, H200, prompt=prompt, canvas=256, itemsize=2, block=32
        )
        rows.append([f"{prompt:,}", f"{exact:.0f}", f"{block:.0f}"])
    return table(["prompt", "exact, tokens/s", "blocks of 32, tokens/s"], rows, 3)


def _latest(record: type[Record[Line]], results: Path, pattern: str) -> Record[Line]:
    return TypeAdapter(record).validate_json(max(results.glob(pattern)).read_bytes())


def _cells(outcome: Outcome) -> Sequence[str]:
    cells = [outcome.setting, f"{outcome.quality:.3f}", f"{outcome.token_forwards:,.0f}"]
    return [*cells, f"{outcome.forward_passes:.1f}"]
