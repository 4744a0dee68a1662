"""Which lines the plots and the table of an evaluation show."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from jobs.evaluate.config import Variant
from jobs.evaluate.plots import Line, Panel, Picture, Point, draw
from jobs.evaluate.results import Entry, tokens_per_second
from jobs.evaluate.stats import wilson

__all__ = ["as_table", "pictures"]

Y_LABEL = "share right, Wilson 95 % interval"


def pictures(entries: Sequence[Entry], model: str) -> dict[str, Picture]:
    """Quality against steps, a panel for each variant; and against cost, a panel for each suite."""
    suites = list(dict.fromkeys(entry.suite.name for entry in entries))
    variants = list(dict.fromkeys(entry.variant for entry in entries))
    by_variant = [
        Panel(title=v.title, lines=_lines_of_variant([e for e in entries if e.variant == v]))
        for v in variants
    ]
    by_suite = [
        Panel(title=name, lines=_lines_of_suite([e for e in entries if e.suite.name == name]))
        for name in suites
    ]
    about = f"{', '.join(suites)} by {model}"
    points = [(entry, bucket) for entry in entries for bucket in _groups(entries, entry)]
    each = _range([len(entry.solved(bucket)) for entry, bucket in points])
    whole = _range([len(entry.samples) for entry in entries])
    return {
        "quality_steps": draw(
            by_variant, title=f"{about}, n = {each}", x_label="denoising steps", y_label=Y_LABEL
        ),
        "quality_cost": draw(
            by_suite,
            title=f"{about}, n = {whole}",
            x_label="token-forwards of a row",
            y_label=Y_LABEL,
        ),
    }


def as_table(entries: Sequence[Entry]) -> Table:
    """One row for each entry: its score, what it cost, and how left to right it was filled."""
    table = Table("suite", "steps", "algorithm, order", "right", "95 % interval")
    for name in ("passes", "token-forwards", "tokens/s", "NTP@1", "FMS@1", "errors"):
        table.add_column(name, justify="right")
    for entry in entries:
        table.add_row(
            entry.suite.name,
            entry.steps_asked,
            entry.variant.title,
            *_score(entry),
            _number(entry.mean(lambda row: row["forward_passes"]), 1),
            _number(entry.mean(lambda row: row["token_forwards"]), 0),
            _number(tokens_per_second(entry), 0),
            _number(entry.order_mean("ntp@1"), 3),
            _number(entry.order_mean("fms@1"), 3),
            str(entry.num_errors),
        )
    return table


def _score(entry: Entry) -> tuple[str, str]:
    """The share right and its interval; of rows that all failed there is neither."""
    if not entry.is_measured():
        return "no row", ""
    solved = entry.solved()
    low, high = wilson(sum(solved), len(solved))
    return f"{sum(solved) / len(solved):.3f}", f"{low:.3f} to {high:.3f}"


def _lines_of_variant(entries: Sequence[Entry]) -> list[Line]:
    """A line for each suite; of a single suite, one for each bucket."""
    lines: dict[str, list[Point]] = {}
    for entry in entries:
        for bucket in _groups(entries, entry):
            x = entry.mean(lambda row: row["steps"], bucket)
            if x is not None and entry.is_measured(bucket):
                label = entry.suite.name if bucket is None else bucket
                lines.setdefault(label, []).append(_point(entry.solved(bucket), x))
    return [_sorted(label, points) for label, points in lines.items()]


def _lines_of_suite(entries: Sequence[Entry]) -> list[Line]:
    """A line for each variant; the first one's points say how many steps they are."""
    lines: dict[Variant, list[Point]] = {}
    for entry in entries:
        x = entry.mean(lambda row: row["token_forwards"])
        if x is not None and entry.is_measured():
            note = _steps(entry) if entry.variant == entries[0].variant else ""
            lines.setdefault(entry.variant, []).append(_point(entry.solved(), x, note))
    return [_sorted(variant.title, points) for variant, points in lines.items()]


def _steps(entry: Entry) -> str:
    words = {"1": "1 step", "full": "full"}
    return words.get(entry.steps_asked, f"{entry.steps_asked} steps")


def _groups(entries: Sequence[Entry], entry: Entry) -> list[str] | list[None]:
    """What a point is of: the buckets of a single suite, else all of an entry."""
    is_single = len({other.suite.name for other in entries}) == 1
    return entry.buckets if is_single and len(entry.buckets) > 1 else [None]


def _point(solved: Sequence[bool], x: float, note: str = "") -> Point:
    low, high = wilson(sum(solved), len(solved))
    return Point(x, sum(solved) / len(solved), low, high, note)


def _sorted(label: str, points: Sequence[Point]) -> Line:
    return Line(label=label, points=sorted(points))


def _range(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
