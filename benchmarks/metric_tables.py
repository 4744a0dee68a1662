"""Tables of docs/metrics.md: every metric as it is declared, and what is left out."""

from __future__ import annotations

from functools import partial

from benchmarks.markdown import Sections, table
from deployments.metrics import LEFT_OUT, METRICS, Group

__all__ = ["metric_sections"]

TITLES: dict[Group, str] = {
    "requests": "requests",
    "load": "load",
    "engine": "engine",
    "waste": "waste",
    "budget": "budget",
    "safety": "safety",
    "start": "start and memory",
}


def metric_sections() -> Sections:
    """A table for each group of metrics, and one of what is left out."""
    groups = {f"metrics: {title}": partial(_table, group) for group, title in TITLES.items()}
    return {**groups, "metrics: left out": _left_out}


def _table(group: Group) -> str:
    rows = [
        [f"`ray_{one.name}`", one.kind, ", ".join(f"`{name}`" for name in one.labels), one.about]
        for one in METRICS.values()
        if one.group == group
    ]
    return table(["name", "kind", "labels", "what it is"], rows)


def _left_out() -> str:
    rows = [
        [name if " " in name or "," in name else f"`{name}`", why] for name, why in LEFT_OUT.items()
    ]
    return table(["not there", "why"], rows)
