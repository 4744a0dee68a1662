"""What a load with deadlines gave: the record, its page, and its part of docs/deadlines.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.markdown import Sections, table

__all__ = ["Deadlined", "Setting", "deadline_sections", "record", "text"]

GOAL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was offered. offered, floor_load: shares of the rate at saturation.

    floor_load: if every request runs its fewest steps. multiple: deadline, in times alone.
    saturation_after_per_s: measured again at the end. load_average: of the machine before the load.
    """

    max_num_batched_tokens: int
    saturation_per_s: float
    saturation_after_per_s: float
    offered: float
    floor_load: float
    seconds: float
    multiple: float
    alone_ms: Mapping[str, float]
    load_average: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlined:
    """One run. in_time: answered within the deadline, as the client saw it, and by the server.

    lost: neither answered nor refused because of the deadline. steps: run, of those asked for.
    """

    has_deadlines: bool
    requests: int
    in_time: int
    in_time_by_server: int
    refused: int
    lost: int
    steps: float
    p50_ms: float
    p99_ms: float
    seconds: float
    replica_cpu_s: float
    server_cpu_s: float
    client_cpu_s: float

    @property
    def met(self) -> float:
        """Share of the deadlines that were met; a refused request has missed its."""
        return self.in_time / max(1, self.requests)


def text(about: Mapping[str, str], setting: Setting, found: Sequence[Deadlined]) -> str:
    """A page of its own."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    return f"# Deadlines under overload\n\n{facts}\n\n{_body(setting, found)}\n"


def record(
    name: str,
    about: Mapping[str, str],
    setting: Setting,
    found: Sequence[Deadlined],
    results: Path,
) -> Path:
    """Write the page and the numbers; their path without ending."""
    stem = results / f"deadlines_{name}_{about['date'][:7].replace('-', '')}"
    results.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text(about, setting, found), encoding="utf-8")
    rows = [asdict(one) for one in found]
    values = {"about": dict(about), "setting": asdict(setting), "rows": rows}
    stem.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return stem


def deadline_sections(results: Path) -> Sections:
    """The part of docs/deadlines.md that comes from the latest record."""
    return {"deadlines": partial(_latest, results)}


def _latest(results: Path) -> str:
    values = json.loads(max(results.glob("deadlines_*.json")).read_text(encoding="utf-8"))
    setting = TypeAdapter(Setting).validate_python(values["setting"])
    found = TypeAdapter(list[Deadlined]).validate_python(values["rows"])
    about = values["about"]
    origin = f"`{about['command']}`, {about['date']}, {about['processor']}, {about['cores']} cores."
    return f"{origin}\n\n{_body(setting, found)}"


def _body(setting: Setting, found: Sequence[Deadlined]) -> str:
    heads = ["requests", "number", "in time", "refused", "lost", "steps run", "p50 ms", "p99 ms"]
    heads += ["replica, CPU s", "proxy and ingress", "client", "s"]
    rows = []
    for one in found:
        name = "with `deadline_ms`" if one.has_deadlines else "plain"
        cells = [name, f"{one.requests}", f"{one.met:.1%}", f"{one.refused}", f"{one.lost}"]
        cells += [f"{one.steps:.0%}", f"{one.p50_ms:,.0f}", f"{one.p99_ms:,.0f}"]
        cells += [f"{one.replica_cpu_s:.1f}", f"{one.server_cpu_s:.1f}"]
        cells += [f"{one.client_cpu_s:.1f}", f"{one.seconds:.0f}"]
        rows.append(cells)
    return f"{_setting(setting)}\n\n{table(heads, rows, len(heads) - 1)}\n\n{_verdict(found)}"


def _setting(one: Setting) -> str:
    alone = ", ".join(f"{size} in {ms:,.0f}" for size, ms in one.alone_ms.items())
    return (
        f"Saturation: {one.saturation_per_s:.2f} requests/s at steps of at most "
        f"{one.max_num_batched_tokens} tokens ({one.saturation_after_per_s:.2f} measured again at "
        f"the end). Offered: {one.offered:g} of that for "
        f"{one.seconds:g} s, each request due within {one.multiple:g} times its time alone; all at "
        f"their fewest steps are {one.floor_load:g} of saturation. Alone, tokens in ms: {alone}. "
        f"Load average before: {one.load_average:.1f}."
    )


def _verdict(found: Sequence[Deadlined]) -> str:
    met = next(one.met for one in found if one.has_deadlines)
    said = "met" if met >= GOAL else "not met"
    lost = sum(one.lost for one in found)
    return f"Deadlines met: {met:.1%} (goal {GOAL:.0%}: {said}). Lost requests: {lost}."
