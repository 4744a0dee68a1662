"""What fair turns gave: the record, its page, and its part of docs/fairness.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.markdown import Sections, table

__all__ = ["Behind", "Beside", "Fairness", "fairness_sections", "record", "text"]

GOAL = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Latencies of the polite key in one run. lost: requests without an answer."""

    requests: int
    lost: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Seconds until one token is answered, alone and behind so many large requests."""

    requests: int
    alone_s: float
    behind_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """What was measured at one size of a step. requests_per_s: of the polite key.

    load_average, load_average_after: of the machine. This load alone is about 2.
    """

    max_num_batched_tokens: int
    load_average: float
    load_average_after: float
    requests_per_s: float
    alone: Beside
    beside: Beside
    behind: Behind

    @property
    def ratio(self) -> float:
        """p99 of the polite key beside the greedy one, against its p99 alone."""
        return self.beside.p99_ms / self.alone.p99_ms


def text(about: Mapping[str, str], found: Sequence[Fairness]) -> str:
    """A page of its own."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    return f"# Little work beside much\n\n{facts}\n\n{_body(found)}\n"


def record(name: str, about: Mapping[str, str], found: Sequence[Fairness], results: Path) -> Path:
    """Write the page and the numbers; their path without ending."""
    stem = results / f"fairness_{name}_{about['date'][:7].replace('-', '')}"
    results.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text(about, found), encoding="utf-8")
    values = {"about": dict(about), "rows": [asdict(one) for one in found]}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return stem


def fairness_sections(results: Path) -> Sections:
    """The part of docs/fairness.md that comes from the latest record."""
    return {"fairness": partial(_latest, results)}


def _latest(results: Path) -> str:
    if not (paths := sorted(results.glob("fairness_*.json"))):
        return "`python -m benchmarks.fairness --record NAME` writes this table; none is recorded."
    values = json.loads(paths[-1].read_text(encoding="utf-8"))
    found = TypeAdapter(list[Fairness]).validate_python(values["rows"])
    about = values["about"]
    origin = f"`{about['command']}`, {about['date']}, {about['processor']}, {about['cores']} cores."
    return f"{origin}\n\n{_body(found)}"


def _body(found: Sequence[Fairness]) -> str:
    heads = [
        "`max_num_batched_tokens`",
        "polite requests/s",
        "p50 ms alone",
        "beside",
        "p99 ms alone",
    ]
    heads += ["beside", "p99 ratio", "lost", "one token, s alone", "behind large", "load average"]
    rows = []
    for one in found:
        cells = [f"{one.max_num_batched_tokens}", f"{one.requests_per_s:.2f}"]
        cells += [f"{one.alone.p50_ms:,.0f}", f"{one.beside.p50_ms:,.0f}"]
        cells += [f"{one.alone.p99_ms:,.0f}", f"{one.beside.p99_ms:,.0f}", f"{one.ratio:.2f}"]
        cells += [f"{one.alone.lost + one.beside.lost}", f"{one.behind.alone_s:.2f}"]
        cells += [
            f"{one.behind.behind_s:.2f}",
            f"{one.load_average:.1f} to {one.load_average_after:.1f}",
        ]
        rows.append(cells)
    return f"{table(heads, rows, len(heads))}\n\n{_verdict(found)}"


def _verdict(found: Sequence[Fairness]) -> str:
    best = min(found, key=lambda one: one.ratio)
    said = "met" if best.ratio <= GOAL else "not met"
    return (
        f"The polite key's p99 beside the greedy key is {best.ratio:.2f} times its p99 alone at "
        f"steps of at most {best.max_num_batched_tokens} tokens (goal {GOAL:g}: {said})."
    )
