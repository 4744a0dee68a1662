"""The main job in one run: infilling over HTTP, then a Parquet file of puzzles at two step counts.

A Sudoku, a sentence and a JSON object are filled around text that comes back byte for byte.

Everything runs on this machine with the embedded checkpoint, and is stopped at the end.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from jobs.tasks import sudoku

# Ray reads these when it is imported: one machine, loopback only, nothing sent anywhere.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray import serve

from deployments.app import AppArgs, build_app

NUM_PUZZLES = 500
GIVENS = 4
STEPS = (1, 16)
SENTENCE: Sequence[str | int] = ["It was ", 5, " in Oslo, so Mia took ", 14, "."]
JSON_OBJECT: Sequence[str | int] = ['{"name":"Ben","city":"', 8, '","country":"Japan"}']
"""Given text, and holes of so many tokens; what is longer than its answer ends early."""
OUT = Path("out/demo")

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a Parquet job at one step count did."""

    steps: int
    solved: float
    forward_passes: int
    token_forwards: int
    seconds: float
    folder: Path


def main() -> None:
    """Serve, ask, run the two jobs, and say where everything is."""
    started = time.monotonic()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # A short folder: Ray's sockets live in it and socket paths are limited.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as temp:
        ray.init(
            address="local",
            num_cpus=6,
            object_store_memory=300 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=temp,
        )
        try:
            show_http()
            show_parquet(ray.get_runtime_context().gcs_address)
        finally:
            ray.shutdown()  # the Ray of this run, and Serve in it
    say(f"\nDone in {time.monotonic() - started:.0f} s; all that was started is stopped.")
    say("To serve the real model, on a machine with a GPU of 24 GiB or more:")
    serve_command = os.path.relpath(Path(sys.executable).parent / "serve")
    say(f"  {serve_command} run deployments.app:build_app \\")
    say("    model=Dream-org/Dream-v0-Instruct-7B device=cuda dtype=bfloat16")


def show_http() -> None:
    """Serve the embedded checkpoint and fill a Sudoku, a sentence and a JSON object."""
    port = free_port()
    console.rule("1. HTTP: fill the holes, whatever stands before and behind them")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_app(AppArgs(model="embedded")), name="dream", route_prefix="/")
    url = f"http://127.0.0.1:{port}/v1/infill"
    show_sudoku(url)
    for pieces in (SENTENCE, JSON_OBJECT):
        show_text(url, pieces)
    serve.delete("dream")


def show_text(url: str, pieces: Sequence[str | int]) -> None:
    """Text with its holes, and the text that came back."""
    parts = [{"hole": piece} if isinstance(piece, int) else {"text": piece} for piece in pieces]
    choice = post(url, {"model": "embedded", "segments": parts})["choices"][0]
    holes = "".join("_" * piece if isinstance(piece, int) else piece for piece in pieces)
    is_exact = choice["text"].endswith(str(pieces[-1]))
    say(f"{holes}\n{choice['text']}")
    say("the given ending came back byte for byte\n" if is_exact else "NOT the given ending\n")


def show_sudoku(url: str) -> None:
    """One puzzle through POST /v1/infill."""
    puzzle = sudoku.draw_puzzles(np.random.default_rng(4), 1, GIVENS)[0][0].tolist()
    body = {
        "model": "embedded",
        "segments": segments(sudoku.infill_text(puzzle)),
        "diffusion": {"steps": 16},
    }
    answer = post(url, body)
    text = answer["choices"][0]["text"]
    cells = sudoku.read_grid(text) or [0] * 16
    console.print(Columns([grid("given", puzzle), grid("filled in", cells, puzzle)]))
    verdict = "a valid solution" if sudoku.is_solved(puzzle, text) else "NOT a valid solution"
    cost = answer["usage"]["diffusion"]
    say(f"POST /v1/infill -> {text}: {verdict}")
    say(f"{cost['forward_passes']} forward passes, {cost['token_forwards']} token-forwards\n")


def show_parquet(ray_address: str) -> None:
    """Run `python -m jobs run` over a file of puzzles at each step count, and score the output."""
    console.rule(f"2. Parquet: {NUM_PUZZLES} held-out puzzles with {GIVENS} givens")
    OUT.mkdir(parents=True, exist_ok=True)
    puzzles, _ = sudoku.draw_puzzles(np.random.default_rng(7), NUM_PUZZLES, GIVENS)
    source = OUT / "puzzles.parquet"
    rows = {
        "puzzle": puzzles.tolist(),
        "text_with_masks": [sudoku.infill_text(puzzle) for puzzle in puzzles.tolist()],
    }
    pq.write_table(pa.table(rows), source)
    outcomes = [run_job(source, steps, ray_address) for steps in STEPS]
    table = Table("steps", "solved", "forward passes", "token-forwards", "seconds, start included")
    for outcome in outcomes:
        table.add_row(
            str(outcome.steps),
            f"{outcome.solved:.1%}",
            f"{outcome.forward_passes:,}",
            f"{outcome.token_forwards:,}",
            f"{outcome.seconds:.0f}",
        )
    console.print(table)
    for outcome in outcomes:
        say(f"output of {outcome.steps:>2} steps: {outcome.folder / 'data'}")


def run_job(source: Path, steps: int, ray_address: str) -> Outcome:
    """One job as a user runs it, in a process of its own on the Ray that is up."""
    folder = OUT / f"steps-{steps}"
    command = [sys.executable, "-m", "jobs", "run", "--task", "infill", "--model", "embedded"]
    command += ["--input", str(source), "--output", str(folder), "--steps", str(steps)]
    command += ["--mask-token", "_", "--commit-rows", "125", "--overwrite"]
    say("$ " + " ".join(["python", *command[1:]]))
    # Ray's own pool of actors logs an error about how it passes constructor arguments.
    quiet = {"RAY_ADDRESS": ray_address, "RAY_BACKEND_LOG_LEVEL": "fatal"}
    started = time.monotonic()
    subprocess.run(command, check=True, env=os.environ | quiet)
    seconds = time.monotonic() - started
    done = pq.read_table(folder / "data").to_pylist()
    solved = sum(sudoku.is_solved(row["puzzle"], row["output"] or "") for row in done)
    return Outcome(
        steps=steps,
        solved=solved / len(done),
        forward_passes=sum(row["forward_passes"] for row in done),
        token_forwards=sum(row["token_forwards"] for row in done),
        seconds=seconds,
        folder=folder,
    )


def say(line: str) -> None:
    """A plain line, never wrapped, so that a command can be copied."""
    console.print(line, highlight=False, soft_wrap=True)


def segments(text: str) -> list[dict[str, str | int]]:
    """The wire form of a template: `_` is a hole of one token, everything else is given."""
    parts: list[dict[str, str | int]] = []
    for character in text:
        if character == "_":
            parts.append({"hole": 1})
        elif parts and "text" in parts[-1]:
            parts[-1] = {"text": f"{parts[-1]['text']}{character}"}
        else:
            parts.append({"text": character})
    return parts


def grid(title: str, cells: list[int], given: list[int] | None = None) -> Panel:
    """A 4x4 grid; given digits are bold."""
    lines = []
    for start in range(0, 16, 4):
        row = [
            f"[bold]{cell}[/]" if cell and (given is None or given[start + i]) else str(cell or "·")
            for i, cell in enumerate(cells[start : start + 4])
        ]
        lines.append(f" {row[0]} {row[1]} │ {row[2]} {row[3]} ")
    lines.insert(2, "─────┼─────")
    return Panel("\n".join(lines), title=title, expand=False)


def post(url: str, body: Mapping[str, object]) -> dict[str, Any]:
    """POST JSON, read JSON."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
