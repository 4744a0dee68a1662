"""Writes the generated parts of the pages under docs/: `python -m benchmarks.pages`.

Tables of options come from their declarations, the list of modules from their docstrings, and
tables of results from benchmarks/results. A test compares the pages with what is written here.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.capacity_page import capacity_sections
from benchmarks.deadlines_report import deadline_sections
from benchmarks.fairness_report import fairness_sections
from benchmarks.markdown import Sections, filled
from benchmarks.metric_tables import metric_sections
from benchmarks.module_list import module_sections
from benchmarks.option_tables import option_sections
from benchmarks.performance_page import performance_sections
from benchmarks.preset_table import preset_sections
from benchmarks.reliability_table import reliability_sections
from benchmarks.scaling_report import scaling_sections
from dream import EngineConfig, SamplingParams

__all__ = ["DOCS", "PAGES", "main"]

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES: dict[str, Sections] = {
    "capacity.md": capacity_sections(),
    "deadlines.md": deadline_sections(ROOT / "benchmarks/results"),
    "decoding.md": option_sections(SamplingParams),
    "engine-settings.md": option_sections(EngineConfig),
    "fairness.md": fairness_sections(ROOT / "benchmarks/results"),
    "metrics.md": metric_sections(),
    "performance.md": performance_sections(ROOT / "benchmarks/results"),
    "presets.md": preset_sections(),
    "reliability.md": reliability_sections(ROOT / "benchmarks/results"),
    "scaling.md": scaling_sections(ROOT / "benchmarks/results"),
    "structure.md": module_sections(ROOT),
}
"""The generated sections of each page."""


def main() -> None:
    """Write every section of every page."""
    for name, sections in PAGES.items():
        page = DOCS / name
        page.write_text(filled(page.read_text(encoding="utf-8"), sections), encoding="utf-8")


if __name__ == "__main__":
    main()
