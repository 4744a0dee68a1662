"""The figure of `benchmarks.load`: cost of a token-forward, and latency, by offered load."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.load_report import Load
from jobs.evaluate.plots import COLORS

__all__ = ["draw"]


def draw(found: Sequence[Load], hardware: str) -> bytes:
    """SVG with two panels over the offered loads; the same numbers give the same bytes."""
    offered = [load for load in found if load.offered is not None]
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
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        cost, latency = figure.subplots(1, 2)
        _lines(cost, offered, {"busy us a token-forward": "cost_us"})
        cost.set_ylim(0, 1.25 * max(load.cost_us for load in offered))
        _lines(latency, offered, {"p50": "p50_s", "p99": "p99_s"})
        latency.set_yscale("log")
        cost.set_title("cost", fontsize=10, loc="left")
        cost.set_ylabel("busy microseconds a token-forward")
        latency.set_title("latency", fontsize=10, loc="left")
        latency.set_ylabel("seconds from arrival to answer")
        figure.suptitle(f"Load: {offered[0].requests} requests each, {hardware}", fontsize=12)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _lines(axes: Axes, offered: Sequence[Load], names: dict[str, str]) -> None:
    x = [load.offered for load in offered if load.offered is not None]
    for (label, name), color in zip(names.items(), COLORS, strict=False):
        y = [getattr(load, name) for load in offered]
        axes.plot(x, y, color=color, marker="o", markersize=5, linewidth=1.6, label=label)
    axes.axvline(1, color="#BBBBBB", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel("offered load, of the rate at saturation")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    if len(names) > 1:
        axes.legend(frameon=False)
