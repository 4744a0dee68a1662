"""Dream 7B's shape on one machine with a GPU: what the device does, and what the engine gets.

`python -m benchmarks.gpu` takes at most ten minutes, needs torch and transformers alone, and
makes its weights on the device at random: speed is that of the real ones, tokens are not. It
prints a table and writes results/gpu_DEVICE_yyyymm. A phase that fails is recorded as such, and
the others go on. `--device cpu --size tiny` runs all phases in seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.gpu_model import SIZES, Bench, Budget, Finding, random_model
from benchmarks.gpu_phases import PHASES
from benchmarks.hardware import describe, device_name
from dream.engine.memory import free_memory
from dream.errors import DreamError, InvalidRequest
from dream.memory import check, check_degree

FAILURES = (RuntimeError, ValueError, OSError, DreamError, subprocess.SubprocessError)
"""What a phase may end with: torch's errors (no memory, no kernel), the engine's, a process's."""

RESULTS = Path(__file__).parent / "results"


def measure(bench: Bench) -> tuple[list[Finding], dict[str, str]]:
    """What every phase found, and the error of each that failed."""
    found: list[Finding] = []
    errors: dict[str, str] = {}
    for name, (phase, seconds) in PHASES.items():
        started = time.perf_counter()
        try:
            for finding in phase(bench, Budget(seconds)):
                found.append(finding)
                print(_row(finding), flush=True)
        except FAILURES as error:
            errors[name] = f"{type(error).__name__}: {error}"
            print(f"{name} failed: {errors[name]}", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"[{name}: {time.perf_counter() - started:.1f} s]", flush=True)
    return found, errors


def table(found: Sequence[Finding]) -> str:
    """The findings as Markdown."""
    lines = ["| what | value | unit | goal | met |", "|---|--:|---|--:|---|"]
    return "\n".join([*lines, *map(_row, found)])


def record(
    folder: Path, about: dict[str, str], found: Sequence[Finding], errors: dict[str, str]
) -> Path:
    """Write the Markdown and the JSON; the path of both without its ending."""
    name = about.get("device", about["processor"])
    slug = "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    stem = folder / f"gpu_{slug}_{about['date'][:7].replace('-', '')}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Dream 7B's shape on a GPU", "", *(f"- {key}: {about[key]}" for key in about)]
    lines += ["", table(found), ""]
    lines += [f"- {phase} failed: {error}" for phase, error in errors.items()]
    lines += _stages(found)
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [asdict(finding) | {"is_met": finding.is_met} for finding in found]
    text = json.dumps({"about": about, "rows": rows, "errors": errors}, indent=1)
    stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return stem


def main(words: Sequence[str] | None = None) -> None:
    """Make the weights, run every phase, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=list(SIZES), default="7b")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--processes", type=int, help="default: as many GPUs as divide the heads")
    args = parser.parse_args(words)
    size = SIZES[args.size]
    bench = Bench(size=size, device=args.device, model=None)
    rows = max(size.step_rows)
    check(size.shape.sizes, bench.config(rows=rows), free_memory(args.device))
    bench.model = random_model(size.shape, size.dtype, args.device)
    bench.degree = args.processes or _degree(bench)
    print(f"{args.size} on {device_name(args.device)}", flush=True)
    found, errors = measure(bench)
    command = f"python -m benchmarks.gpu --device {args.device} --size {args.size}"
    print(f"\n{table(found)}\n")
    print(record(args.output, describe(command, args.device), found, errors))


def _degree(bench: Bench) -> int:
    """The largest number of GPUs that divides the heads; 1 on a host."""
    is_cuda = torch.device(bench.device).type == "cuda"
    for degree in range(torch.cuda.device_count() if is_cuda else 1, 1, -1):
        try:
            check_degree(bench.size.shape.sizes, degree)
        except InvalidRequest:
            continue
        return degree
    return 1


def _row(finding: Finding) -> str:
    met = {None: "", True: "yes", False: "no"}[finding.is_met]
    sign = "<=" if finding.is_cost else ">="
    goal = "" if finding.goal is None else f"{sign} {finding.goal:g}"
    return f"| {finding.what} | {finding.value:.4g} | {finding.unit} | {goal} | {met} |"


def _stages(found: Sequence[Finding]) -> list[str]:
    """Where the milliseconds of each step went."""
    steps = [finding for finding in found if "apply" in finding.detail]
    if not steps:
        return []
    names = list(steps[0].detail)
    lines = ["", "Milliseconds of a step by stage; the head is part of commit.", ""]
    lines += ["| what | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    for finding in steps:
        cells = (f"{finding.detail[name]:.3g}" for name in names)
        lines.append(f"| {finding.what} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
