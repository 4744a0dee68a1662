"""Plots of quality with its intervals: against denoising steps, and against token-forwards.

Plain data in, PNG and SVG out. The same data give the same SVG, to the byte.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

__all__ = ["Line", "Panel", "Picture", "Point", "draw", "spread"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A00")
"""Okabe and Ito (2008), which people with colour-blind eyes tell apart; its yellow is darkened."""

MARKERS = "os^Dv<>pX"
Y_LIMITS = (-0.02, 1.12)
"""Shares lie between 0 and 1; notes stand above."""

GAP = 0.052
"""Least distance of two labels, in heights of a panel."""


class Point(NamedTuple):
    """A measured quality and its interval; `note` is written above it."""

    x: float
    quality: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points that belong together, and what they are called."""

    label: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines that are compared with each other."""

    title: str
    lines: Sequence[Line]


class Picture(NamedTuple):
    """One plot in both file formats."""

    png: bytes
    svg: bytes


def draw(
    panels: Sequence[Panel], *, title: str, x_label: str, y_label: str, x_base: Literal[2, 10] = 2
) -> Picture:
    """The panels side by side on common axes, each line named at its end; x is logarithmic.

    Ticks of x stand at powers of 2, or with base 10 at 1, 2 and 5 times powers of 10.
    """
    with rc_context(
        {
            "svg.hashsalt": "dream-cluster",
            "svg.fonttype": "path",
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(5.6 * columns + 0.8, 3.9 * rows + 0.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        places = [axes for row in grid for axes in row]
        for axes, panel in zip(places, panels, strict=False):
            _draw_panel(axes, panel, x_label, y_label)
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        lines = [line for panel in panels for line in panel.lines]
        if xs := [point.x for line in lines for point in line.points]:
            _set_ticks(places[0], xs, x_base)
        figure.suptitle(title, fontsize=12)
        return Picture(_as_bytes(figure, "png"), _as_bytes(figure, "svg"))


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1] moved as little as a simple sweep can, until all are `gap` apart."""
    order = sorted(range(len(heights)), key=lambda place: (heights[place], place))
    moved = list(heights)
    floor = 0.0
    for place in order:
        moved[place] = max(moved[place], floor)
        floor = moved[place] + gap
    ceiling = 1.0
    for place in reversed(order):
        moved[place] = min(moved[place], ceiling)
        ceiling = moved[place] - gap
    return moved


def _draw_panel(axes: Axes, panel: Panel, x_label: str, y_label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_ylim(*Y_LIMITS)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    for number, line in enumerate(panel.lines):
        _draw_line(axes, line, COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)])
    _label_ends(axes, panel.lines)
    axes.label_outer()


def _draw_line(axes: Axes, line: Line, color: str, marker: str) -> None:
    quality = [point.quality for point in line.points]
    axes.errorbar(
        [point.x for point in line.points],
        quality,
        yerr=[
            [max(0.0, point.quality - point.low) for point in line.points],
            [max(0.0, point.high - point.quality) for point in line.points],
        ],
        color=color,
        marker=marker,
        markersize=5,
        linewidth=1.6,
        elinewidth=1.1,
        capsize=2.5,
    )
    for point in line.points:
        if point.note:
            axes.axvline(point.x, color="#BBBBBB", linewidth=0.8, linestyle=":", zorder=0)
            axes.text(point.x, 1.05, point.note, ha="center", color="#555555", fontsize=8)


def _label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Each line's name in its colour right of the panel, with a thin leader to its last point."""
    ends = [line.points[-1] for line in lines]
    means = [sum(point.quality for point in line.points) / len(line.points) for line in lines]
    bottom, top = Y_LIMITS
    heights = spread(
        # Of lines that end alike, the one that was higher on the way is named higher.
        [
            (end.quality + mean * 1e-6 - bottom) / (top - bottom)
            for end, mean in zip(ends, means, strict=True)
        ],
        min(GAP, 1 / max(1, len(lines))),
    )
    for number, (line, end, height) in enumerate(zip(lines, ends, heights, strict=True)):
        color = COLORS[number % len(COLORS)]
        axes.annotate(
            line.label,
            (end.x, end.quality),
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            color=color,
            fontsize=9,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "relpos": (0, 0.5)},
        )


def _set_ticks(axes: Axes, xs: Sequence[float], base: Literal[2, 10]) -> None:
    """Ticks at round steps of the base as plain numbers; panels share them."""
    multiples = (1,) if base == 2 else (1, 2, 5)
    round_xs = [float(multiple * base**power) for power in range(24) for multiple in multiples]
    inside = [x for x in round_xs if min(xs) / 1.2 <= x <= max(xs) * 1.2]
    axes.xaxis.set_major_locator(FixedLocator(inside if len(inside) > 1 else sorted(set(xs))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def _as_bytes(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=150, metadata=metadata)
    return file.getvalue()
