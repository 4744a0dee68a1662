"""Puts the recorded results into docs/performance.md: `python -m benchmarks.performance_page`."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import bench_engine, load
from benchmarks.frontier_report import Loss, Outcome, front
from benchmarks.gpu_model import SIZES
from benchmarks.roofline import Rates, block_ceiling, exact_ceiling

__all__ = ["PAGE", "filled"]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/performance.md"
RESULTS = ROOT / "benchmarks/results"
H200 = Rates(flop_per_s=790e12, bytes_per_s=4.3e12)


def filled(page: str) -> str:
    """The page with what the records say between each pair of marks."""
    for name, section in SECTIONS.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        parts = f"{start}\n\n{section()}\n\n{end}"
        page = re.sub(f"{start}.*?{end}", lambda _, parts=parts: parts, page, flags=re.S)
    return page


def engine() -> str:
    """The table of `benchmarks.bench_engine`."""
    told = _record("engine_x86_2core_*.json")
    rows = [bench_engine.Row(**row) for row in told["rows"]]
    return f"{_where(told)}\n\n{bench_engine.table(rows)}"


def under_load() -> str:
    """The table of `benchmarks.load`, and its verdict."""
    told = _record("load_x86_2core_*.json")
    rows = [load.Load(**row) for row in told["rows"]]
    return f"{_where(told)}\n\n{load.table(rows)}\n\n{load.verdict(rows)}"


def frontier() -> str:
    """Of each suite what is on the front, beside the timetable with a step for each token."""
    lines = _table(["suite", "setting", "right", "token-forwards", "passes"], 3)
    told = _record("frontier_embedded_*.json")
    outcomes = _outcomes(told)
    for suite in dict.fromkeys(outcome.suite for outcome in outcomes):
        of_suite = [outcome for outcome in outcomes if outcome.suite == suite]
        full = next(o for o in of_suite if o.family == "entropy" and "full" in o.setting)
        best = front(of_suite)
        lines += [_outcome(outcome) for outcome in (best if full in best else [full, *best])]
    return f"{_where(told)} {outcomes[0].n} questions of each suite.\n\n" + "\n".join(lines)


def approximate() -> str:
    """Loss and cost of each approximate mode, over the suites it ran on."""
    lines = _table(["setting", "suites", "loss, mean", "loss, worst", "token-forwards"], 4)
    outcomes = _outcomes(_record("frontier_embedded_*.json"))
    twins = {(o.suite, o.setting): o for o in outcomes}
    approximate = [o for o in outcomes if o.approximation is not None and o.loss is not None]
    for setting in dict.fromkeys(o.setting for o in approximate):
        same = [(o, o.loss) for o in approximate if o.setting == setting and o.loss is not None]
        losses = [loss.mean for _, loss in same]
        shares = [o.token_forwards / twins[o.suite, loss.exact].token_forwards for o, loss in same]
        cells = [setting, str(len(same)), f"{statistics.mean(losses):.3f}", f"{max(losses):.3f}"]
        lines.append("| " + " | ".join([*cells, f"x {statistics.mean(shares):.2f}"]) + " |")
    return "\n".join(lines)


def roofline() -> str:
    """Ceilings of one request of Dream 7B in bfloat16, canvas 256, one token a step."""
    lines = _table(["prompt", "exact, tokens/s", "blocks of 32, tokens/s"], 3)
    for prompt in (128, 512, 1024):
        shape = {"prompt": prompt, "canvas": 256, "itemsize": 2}
        exact = exact_ceiling(SIZES["7b"].shape, H200, **shape)
        block = block_ceiling(SIZES["7b"].shape, H200, block=32, **shape)
        lines.append(f"| {prompt:,} | {exact:.0f} | {block:.0f} |")
    return "\n".join(lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "engine": engine,
    "load": under_load,
    "frontier": frontier,
    "approximate": approximate,
    "roofline": roofline,
}


def _record(pattern: str) -> dict[str, list[dict[str, object]]]:
    """The latest record of a name."""
    told: dict[str, list[dict[str, object]]] = json.loads(
        max(RESULTS.glob(pattern)).read_text(encoding="utf-8")
    )
    return told


def _where(told: dict[str, list[dict[str, object]]]) -> str:
    about = dict(told["about"])
    return (
        f"`{about['command']}`, {about['date']}, {about['cores']} cores of {about['processor']}, "
        f"torch {about['torch']}."
    )


def _outcomes(told: dict[str, list[dict[str, object]]]) -> list[Outcome]:
    rows = [dict(row) for row in told["rows"]]
    losses = [Loss(**row.pop("loss")) if row.get("loss") else row.pop("loss") for row in rows]
    return [Outcome(**row, loss=loss) for row, loss in zip(rows, losses, strict=True)]


def _outcome(outcome: Outcome) -> str:
    cells = [outcome.suite, outcome.setting, f"{outcome.quality:.3f}"]
    cells += [f"{outcome.token_forwards:,.0f}", f"{outcome.forward_passes:.1f}"]
    return "| " + " | ".join(cells) + " |"


def _table(names: Sequence[str], num_numbers: int) -> list[str]:
    aligned = ["---"] * (len(names) - num_numbers) + ["--:"] * num_numbers
    return ["| " + " | ".join(names) + " |", "|" + "|".join(aligned) + "|"]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
