"""The table of docs/reliability.md: what was killed or stopped under load, and what was lost."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.markdown import Sections, table

__all__ = ["reliability_sections"]

NUMBERS = {
    "faults": "faults",
    "requests": "requests",
    "served": "served",
    "told": "ended with an error event",
    "lost": "lost",
}
"""What is counted, by its name in the records, with the head of its column."""


def reliability_sections(results: Path) -> Sections:
    """The table named `faults`: one row for each recorded fault, summed over its runs."""
    return {"faults": lambda: _table(results)}


def _table(results: Path) -> str:
    rows: list[list[str]] = []
    for path in sorted(results.glob("faults_*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        machine = path.stem.removeprefix("faults_").replace("_", " ")
        for fault in sorted({line["fault"] for line in lines}):
            mine = [line for line in lines if line["fault"] == fault]
            sums = [str(sum(line[name] for line in mine)) for name in NUMBERS]
            slowest = max(line["slowest_s"] for line in mine)
            rows.append([fault, machine, *sums, f"{slowest:.1f}"])
    heads = ["fault", "machine", *NUMBERS.values(), "slowest, s"]
    return table(heads, rows, num_numbers=len(NUMBERS) + 1)
