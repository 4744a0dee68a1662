"""The frontier as a figure: quality over token-forwards, a panel a suite, the front numbered."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.frontier_report import Outcome, front
from jobs.evaluate.plots import COLORS, MARKERS, Picture

__all__ = ["draw"]

BOTTOM = 0.9
"""Inches below the panels, for the legend."""


def draw(outcomes: Sequence[Outcome], title: str) -> Picture:
    """One panel a suite; families keep their colour and marker, approximate ones are hollow."""
    suites = list(dict.fromkeys(outcome.suite for outcome in outcomes))
    families = list(dict.fromkeys(outcome.family for outcome in outcomes))
    columns = min(len(suites), 2)
    rows = -(-len(suites) // columns)
    with rc_context({"svg.hashsalt": "dream-cluster", "svg.fonttype": "path", "font.size": 10}):
        height = 4.6 * rows + BOTTOM + 0.5
        figure = Figure(figsize=(7.8 * columns, height), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        places = [axes for row in grid for axes in row]
        for axes, suite in zip(places, suites, strict=False):
            _draw_panel(axes, [o for o in outcomes if o.suite == suite], families)
        for axes in places[len(suites) :]:
            axes.set_visible(False)
        figure.suptitle(title, fontsize=13)
        handles = {text: line for axes in places for line, text in zip(*_legend(axes), strict=True)}
        handles["front"] = handles.pop("front")  # last
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
        return Picture(_as_bytes(figure, "png"), _as_bytes(figure, "svg"))


def _draw_panel(axes: Axes, outcomes: Sequence[Outcome], families: Sequence[str]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_ylim(-0.03, 1.08)
    axes.set_title(f"{outcomes[0].suite}, n = {outcomes[0].n:,}", loc="left", fontsize=11)
    axes.set_xlabel("token-forwards per request")
    axes.set_ylabel("share right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    for number, family in enumerate(families):
        _draw_family(axes, [o for o in outcomes if o.family == family], number)
    _draw_front(axes, front(outcomes))
    _set_ticks(axes, [outcome.token_forwards for outcome in outcomes])


def _draw_family(axes: Axes, outcomes: Sequence[Outcome], number: int) -> None:
    """Rules are lines from the cheapest on; approximate settings and other loops are dots."""
    if not outcomes:
        return
    ordered = sorted(outcomes, key=lambda outcome: outcome.token_forwards)
    color = COLORS[number % len(COLORS)]
    is_hollow = any(outcome.loss is not None for outcome in outcomes)
    axes.plot(
        [outcome.token_forwards for outcome in ordered],
        [outcome.quality for outcome in ordered],
        color=color,
        marker=MARKERS[number % len(MARKERS)],
        markersize=5.5,
        markerfacecolor="none" if is_hollow else color,
        linestyle="none" if is_hollow else "-",
        linewidth=1,
        alpha=0.85,
        label=outcomes[0].family,
    )


def _draw_front(axes: Axes, best: Sequence[Outcome]) -> None:
    """A black staircase with a number at each step, and the key to them beside the panel."""
    xs = [outcome.token_forwards for outcome in best]
    ys = [outcome.quality for outcome in best]
    axes.step(xs, ys, where="post", color="black", linewidth=1.3, zorder=1.5, label="front")
    axes.plot(xs, ys, "o", color="black", markersize=11, markerfacecolor="none", zorder=3)
    for number, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
        offset = (-7, 7) if number % 2 else (7, -13)
        axes.annotate(
            str(number), (x, y), offset, textcoords="offset points", fontsize=8, weight="bold"
        )
    key = "\n".join(
        f"{number:>2}  {outcome.setting}: {outcome.quality:.3f} at {outcome.token_forwards:,.0f}"
        for number, outcome in enumerate(best, 1)
    )
    axes.annotate(
        "front\n" + key,
        (1.01, 0.99),
        xycoords="axes fraction",
        va="top",
        fontsize=8,
        annotation_clip=False,
    )


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles), list(labels)


def _set_ticks(axes: Axes, xs: Sequence[float]) -> None:
    """Ticks at powers of two, as plain numbers."""
    powers = [2.0**power for power in range(24)]
    inside = [x for x in powers if min(xs) / 1.3 <= x <= max(xs) * 1.3]
    axes.xaxis.set_major_locator(FixedLocator(inside))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def _as_bytes(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=130, metadata=metadata)
    return file.getvalue()
