"""The README tells the truth: its commands exist, its numbers are the recorded ones."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_after(words: str) -> list[list[str]]:
    """Cells of the first Markdown table behind these words, without its head."""
    block = re.search(r"(?:^\|.+\|$\n)+", README[README.index(words) :], re.M)
    assert block is not None
    rows = block[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_benchmark_table_is_of_the_record():
    record = json.loads((ROOT / "benchmarks/results/engine_x86_2core_202611.json").read_text())
    shape = {"batch": 8, "prompt": 32, "vocabulary": 152_064, "dtype": "float32"}
    keys = ("setting", "canvas", "steps", "loop_tokens_per_s", "engine_tokens_per_s", "ratio")

    rows = [row for row in record["rows"] if shape.items() <= row.items()]

    assert len(rows) >= 4
    assert table_after("The engine against a plain") == [
        [str(row[key]) for key in keys] for row in rows
    ]


def test_the_quality_table_is_of_the_card():
    card = json.loads((ROOT / "dream/embedded/card.json").read_text())
    places = {
        "Sudoku, 4 givens": ("sudoku4", "4 givens"),
        "Countdown, 3 numbers": ("countdown3-mini", "all"),
        "equations": ("infill-eq", "all"),
        "sentences, JSON": ("infill-text", "all"),
    }
    points = {
        (p["suite"], p["bucket"], "one" if p["threshold"] else p["steps"]): p["acc"]
        for p in card["measured"]["points"]
        if p["order"] == "confidence" and p["entropy_bound"] is None
    }

    rows = table_after("Held-out problems filled")

    assert [task for task, *_ in rows] == list(places)
    for task, *cells in rows:
        last = "16" if task.startswith("Sudoku") else "full"
        for steps, cell in zip(("1", "2", "4", last, "one"), cells, strict=True):
            share = points.get((*places[task], steps))
            assert cell == ("" if share is None else f"{share:.3f}")


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))

    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.M))
    assert {"demo", "test", "bench", "serve"} <= named <= targets


def test_every_linked_file_exists():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_cluster_command_runs():
    for line in re.findall(r"^python -m cluster ([^#&\n]+)", README, re.M):
        arguments = [word for word in shlex.split(line) if word not in ("--output", "cluster.yaml")]
        done = subprocess.run(
            [sys.executable, "-m", "cluster", *arguments],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_every_jobs_command_parses():
    import typer.main

    from jobs.__main__ import app

    commands = typer.main.get_command(app).commands
    found = re.findall(r"^python -m jobs (\w+) (.+)", README, re.M)
    assert len(found) >= 3
    for name, rest in found:
        assert commands[name].make_context(name, shlex.split(rest, comments=True)).params["output"]


@pytest.mark.slow
@pytest.mark.ray
def test_the_demo_solves_its_puzzles_and_stops_what_it_started():
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "a valid solution" in done.stdout
    assert "NOT" not in done.stdout
    rows = re.findall(r"│ (1|16)\s+│ ([\d.]+)%", done.stdout)
    assert float(dict(rows)["16"]) >= 95
    assert float(dict(rows)["1"]) <= float(dict(rows)["16"]) - 30
