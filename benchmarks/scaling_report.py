"""What a load and its end brought about on a cluster: the record and its table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.markdown import Sections, table

__all__ = ["Event", "Reaction", "record", "scaling_sections", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What came to pass, how many seconds after the load began or ended."""

    what: str
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What happened after the load came on and went off, and how many answers had which status."""

    num_nodes: int
    num_clients: int
    up: Sequence[Event]
    down: Sequence[Event]
    answers: dict[str, int]
    slowest_s: float


def text(about: dict[str, str], found: Reaction) -> str:
    """A page of its own."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    return f"# Nodes and replicas that follow the load\n\n{facts}\n\n{_body(found)}\n"


def record(name: str, about: dict[str, str], found: Reaction, root: Path) -> Path:
    """Write the page and the numbers; their path without ending."""
    stem = root / "benchmarks/results" / f"scaling_{name}_{about['date'][:7].replace('-', '')}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text(about, found), encoding="utf-8")
    values = {"about": about, "found": asdict(found)}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return stem


def scaling_sections(results: Path) -> Sections:
    """The part of docs/scaling.md that comes from the latest record."""
    return {"scaling": partial(_latest, results)}


def _latest(results: Path) -> str:
    path = max(results.glob("scaling_*.json"))
    values = json.loads(path.read_text(encoding="utf-8"))
    about, found = values["about"], TypeAdapter(Reaction).validate_python(values["found"])
    return f"`{about['command']}`, {about['date']}, {about['processor']}.\n\n{_body(found)}"


def _body(found: Reaction) -> str:
    rows = [("load on", event.what, f"{event.after_s:.1f}") for event in found.up]
    rows += [("load off", event.what, f"{event.after_s:.1f}") for event in found.down]
    answers = ", ".join(f"{count} x {code}" for code, count in sorted(found.answers.items()))
    return (
        f"{found.num_nodes} nodes of one logical GPU each at most, and {found.num_clients} "
        "clients, each of which asks again when it is answered.\n\n"
        f"{table(['after', 'there is', 's'], rows, num_numbers=1)}\n\n"
        f"Answers: {answers}. The slowest took {found.slowest_s:.1f} s, with the wait for a node "
        "and a replica."
    )
