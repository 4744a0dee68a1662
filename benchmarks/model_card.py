"""The card of a small checkpoint: its evaluations, card.json and docs/model-card.md.

Runs `python -m jobs evaluate` as a user does, on -n questions a point, into --out (a second call
goes on where the first ended), then writes what results.json says: the points into the
checkpoint's card.json; of the embedded checkpoint, or with --page, tables and plots into docs.
Questions are held out, but for Sudoku with 0 givens, where there is one question.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.hardware import describe
from dream.model.loader import resolve, weights_sha256
from jobs.evaluate.results import COSTS

EVALUATIONS = {
    "sudoku": "--suite sudoku4 --givens 4,8 --steps 1,2,4,8,16"
    " --order confidence,random,left_to_right",
    "sudoku-empty": "--suite sudoku4 --givens 0 --temperature 1 --steps 1,2,4,8,16"
    " --order confidence,random",
    "countdown": "--suite countdown3-mini --steps 1,2,4,8,full"
    " --order confidence,random,left_to_right",
    "infill": "--suite infill-eq,infill-text,lists --steps 1,2,4,full --order confidence,random",
    "one-by-one": "--suite countdown3-mini,infill-eq,infill-text --threshold 1"
    " --order confidence,random,left_to_right",
}
"""Arguments of each evaluation. The empty grid is one problem, so its tokens are drawn.

Threshold 1 fills one mask a pass, or all that are certain, where Dream's timetable fills the last
two at once.
"""

ENDS = ("wilson_low", "wilson_high")
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model-card.md"
FIGURES = ROOT / "docs" / "figures"
START, END = "<!-- measured -->", "<!-- end of measured -->"
"""The part of the page that is written here lies between these."""


def main() -> None:
    """Evaluate, then write the card and the page."""
    args = parse()
    points: list[dict[str, object]] = []
    for name, words in EVALUATIONS.items():
        folder = args.out / name
        command = [sys.executable, "-m", "jobs", "evaluate", "--model", args.model, *words.split()]
        subprocess.run([*command, "-n", str(args.n), "--out", str(folder)], check=True)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        points += points_of(results)
    _write_card(resolve(args.model), points, f"--model {args.model} -n {args.n}")
    if args.page:
        for name in EVALUATIONS:
            _copy_plots(args.out / name / "plots", name)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_tables(page, points), encoding="utf-8")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; without --page only the embedded checkpoint has its page written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("out/card"))
    parser.add_argument("--page", action="store_true", help="write docs/model-card.md from it")
    args = parser.parse_args(words)
    args.page = args.page or args.model == "embedded"
    return args


def points_of(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, object]]:
    """One point for each suite, bucket, algorithm, order and number of steps."""
    points: list[dict[str, object]] = []
    for name, scores in results["results"].items():
        config = results["configs"][name]
        sampling = config["generation_kwargs"]
        common = {
            "suite": config["task"],
            "order": sampling["order"],
            "alg": sampling["alg"],
            "temperature": sampling["temperature"],
            "threshold": sampling["threshold"],
            "steps": sampling["steps"],
        }
        whole = {"n": scores["sample_len"], "acc": scores["acc,none"]}
        whole |= {end: scores[f"acc_{end}"] for end in ENDS} | {key: scores[key] for key in COSTS}
        is_split = config["task"].startswith("sudoku")
        for bucket, share in (scores["buckets"] if is_split else {"all": whole}).items():
            points.append(
                common
                | {"bucket": bucket, "n": share["n"], "acc": round(share["acc"], 4)}
                | {end: round(share[end], 4) for end in ENDS}
                | {key: round(share[key], 2) for key in COSTS}
            )
    return points


def with_tables(page: str, points: Sequence[Mapping[str, object]]) -> str:
    """The page with its measured part replaced by tables of these points."""
    before, rest = page.split(START)
    after = rest.split(END)[1]
    sizes = sorted({int(str(point["n"])) for point in points})
    asked = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    tables = [f"{asked} questions a point, share right with its Wilson 95 % interval."]
    for suite in dict.fromkeys(str(point["suite"]) for point in points):
        tables.append(_table(suite, [point for point in points if point["suite"] == suite]))
    return before + START + "\n\n" + "\n\n".join(tables) + "\n\n" + END + after


def _table(suite: str, points: Sequence[Mapping[str, object]]) -> str:
    steps = list(dict.fromkeys(str(point["steps"]) for point in points))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for point in points:
        notes = [f"{name} {point[name]:g}" for name in ("temperature", "threshold") if point[name]]
        key = (str(point["bucket"]), ", ".join([str(point["order"]), *notes]))
        interval = f"{point['wilson_low']:.3f} to {point['wilson_high']:.3f}"
        rows.setdefault(key, {})[str(point["steps"])] = f"{point['acc']:.3f} ({interval})"
    head = ["group", "order", *(f"{step} step" + "s" * (step != "1") for step in steps)]
    lines = [f"**{suite}**", "", _line(head), _line(["---", "---", *["--:"] * len(steps)])]
    for labels, cells in rows.items():
        lines.append(_line([*labels, *(cells.get(step, "") for step in steps)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _copy_plots(plots: Path, name: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    for plot in ("quality_steps", "quality_cost"):
        shutil.copyfile(plots / f"{plot}.svg", FIGURES / f"{name}_{plot}.svg")


def _write_card(folder: Path, points: Sequence[Mapping[str, object]], arguments: str) -> None:
    path = folder / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    about = describe(f"python -m benchmarks.model_card {arguments}")
    card["measured"] = {"about": about, "points": list(points)}
    card["weights_sha256"] = weights_sha256(folder)
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
