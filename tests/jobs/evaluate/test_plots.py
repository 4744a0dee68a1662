"""Plots: the same data give the same file, every line is named, labels do not overlap."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.evaluate.plots import Line, Panel, Point, draw, spread

LINES = [
    Line(
        label=f"line {name}",
        points=[Point(x, min(1, q * x), q * x / 2, min(1, 2 * q * x), f"{x} st") for x in (1, 4)],
    )
    for name, q in (("a", 0.2), ("b", 0.25), ("c", 0.01))
]
PANELS = [Panel(title=f"panel {n}", lines=LINES) for n in range(4)]
WORDS = {"title": "sudoku4 by embedded, n = 7", "x_label": "steps", "y_label": "share right"}
AGAIN = """
import hashlib
from tests.jobs.evaluate.test_plots import PANELS, WORDS
from jobs.evaluate.plots import draw
print(hashlib.sha256(draw(PANELS[:1], **WORDS).svg).hexdigest())
"""


def test_the_same_data_give_the_same_svg_in_another_process():
    here = hashlib.sha256(draw(PANELS[:1], **WORDS).svg).hexdigest()
    there = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True)

    assert there.stdout.strip() == here, there.stderr
    assert here != hashlib.sha256(draw(PANELS[:2], **WORDS).svg).hexdigest()


def test_png_opens_and_svg_tells_no_time_and_names_every_line():
    picture = draw(PANELS, **WORDS)

    with Image.open(io.BytesIO(picture.png)) as image:
        image.load()
        assert image.size[0] > 1000
    text = picture.svg.decode()
    assert "dc:date" not in text
    for words in ("line a", "line c", "panel 3", "4 st", *WORDS.values()):
        assert f"<!-- {words} -->" in text  # matplotlib puts the words beside their outlines


@pytest.mark.parametrize(
    "panels",
    [
        [Panel(title="one point", lines=[Line(label="a", points=[Point(1, 0.5, 0.4, 0.6)])])],
        [Panel(title="nothing measured", lines=[])],
        [Panel(title="many", lines=LINES * 9)],
    ],
)
def test_odd_panels_are_drawn_too(panels):
    assert draw(panels, **WORDS).png.startswith(b"\x89PNG")


@given(st.lists(st.floats(0, 1), max_size=12))
def test_labels_are_moved_apart_and_keep_their_order(heights):
    gap = 0.05

    moved = spread(heights, gap)

    order = sorted(range(len(heights)), key=lambda place: (heights[place], place))
    assert all(moved[b] - moved[a] >= gap - 1e-9 for a, b in pairwise(order))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in moved)
    if all(heights[b] - heights[a] >= gap for a, b in pairwise(order)):
        assert moved == pytest.approx(heights)
