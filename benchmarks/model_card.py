"""The card of a small checkpoint: its evaluations, card.json and docs/model-card.md.

Runs `python -m jobs evaluate` as a user does, on -n questions a point, into --out (a second call
goes on where the first ended), then writes what results.json says: the points into the
checkpoint's card.json; of the embedded checkpoint, or with --page, tables and plots into docs.
`--only NAME,...` measures these evaluations and keeps the other points of the card as they are.
Questions are held out, but for Sudoku with 0 givens, where there is one question, and for those of
`countdown-seen`.
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
    "sudoku": "-n {n} --suite sudoku4 --givens 4,8 --steps 1,2,4,8,16"
    " --order confidence,random,left_to_right",
    "sudoku-empty": "-n {n} --suite sudoku4 --givens 0 --temperature 1 --steps 1,2,4,8,16"
    " --order confidence,random",
    "countdown": "-n {n} --suite countdown3-mini --steps 1,2,4,8,full"
    " --order confidence,random,left_to_right",
    "infill": "-n {n} --suite infill-eq,infill-text,lists --steps 1,2,4,full"
    " --order confidence,random",
    "one-by-one": "-n {n} --suite countdown3-mini,infill-eq,infill-text --threshold 1"
    " --order confidence,random,left_to_right",
    "one-by-one-rest": "-n {n} --suite sudoku4,lists --givens 4,8 --threshold 1",
    "bound": "-n {n} --suite sudoku4,countdown3-mini,infill-eq,infill-text,lists --givens 4,8"
    " --entropy-bound 0.1",
    "countdown-held-out": "--suite countdown3-mini --draw every",
    "countdown-held-out-one": "--suite countdown3-mini --draw every --threshold 1",
    "countdown-held-out-bound": "--suite countdown3-mini --draw every --entropy-bound 0.1",
    "countdown-seen": "-n {n} --suite countdown3-mini --draw every --split train",
    "countdown-seen-one": "-n {n} --suite countdown3-mini --draw every --split train --threshold 1",
    "long-holes": "-n {n} --suite infill-text --slack 4",
    "long-holes-one": "-n {n} --suite infill-text --slack 4 --threshold 1",
    "long-holes-bound": "-n {n} --suite infill-text --slack 4 --entropy-bound 0.1",
}
"""Arguments of each evaluation. The empty grid is one problem, so its tokens are drawn.

Threshold 1 fills one mask a pass, or all that are certain, where Dream's timetable fills the last
two at once. `--draw every` asks every held-out problem once, where the others ask problems as
training draws them, some of which are drawn more often.
"""

RULES = ("temperature", "threshold", "entropy_bound")
"""Settings that tell points of one suite, order and number of steps from each other."""

ENDS = ("wilson_low", "wilson_high")
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model-card.md"
FIGURES = ROOT / "docs" / "figures"
START, END = "<!-- measured -->", "<!-- end of measured -->"
"""The part of the page that is written here lies between these."""


def main() -> None:
    """Evaluate, then write the card and the page."""
    args = parse()
    found: dict[str, list[dict[str, object]]] = {}
    for name in args.only:
        folder, words = args.out / name, EVALUATIONS[name].format(n=args.n).split()
        command = [sys.executable, "-m", "jobs", "evaluate", "--model", args.model, *words]
        subprocess.run([*command, "--out", str(folder)], check=True)
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        found[name] = [{"evaluation": name} | point for point in points_of(results)]
    card = _write_card(resolve(args.model), found, f"--model {args.model} -n {args.n}")
    if args.page:
        page = PAGE.read_text(encoding="utf-8")
        for name in args.only:
            if f"figures/{name}_" in page:
                _copy_plots(args.out / name / "plots", name)
        PAGE.write_text(with_tables(page, card["measured"]), encoding="utf-8")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; without --page only the embedded checkpoint has its page written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("out/card"))
    parser.add_argument("--page", action="store_true", help="write docs/model-card.md from it")
    parser.add_argument("--only", type=_names, default=list(EVALUATIONS), metavar="NAME,...")
    args = parser.parse_args(words)
    args.page = args.page or args.model == "embedded"
    return args


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(EVALUATIONS):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: not among {', '.join(EVALUATIONS)}"
        )
    return names


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
            **{rule: sampling[rule] for rule in RULES},
            "steps": sampling["steps"],
        }
        whole = {"n": scores["sample_len"], "acc": scores["acc,none"]}
        whole |= {end: scores[f"acc_{end}"] for end in ENDS} | {key: scores[key] for key in COSTS}
        is_split = config["task"].startswith("sudoku")
        for bucket, share in (scores["buckets"] if is_split else {_group(config): whole}).items():
            points.append(
                common
                | {"bucket": bucket, "n": share["n"], "acc": round(share["acc"], 4)}
                | {end: round(share[end], 4) for end in ENDS}
                | {key: round(share[key], 2) for key in COSTS}
            )
    return points


def _group(config: Mapping[str, Mapping[str, Any]]) -> str:
    """Which problems an entry asked, in words."""
    about = config["metadata"]
    if about.get("draw") == "every":
        return "every held-out problem" if about["split"] == "test" else "problems seen"
    return f"holes 0 to {about['slack']} too long" if about.get("slack") else "all"


def with_tables(page: str, measured: Mapping[str, Any]) -> str:
    """The page with its measured part replaced by tables of these points."""
    before, rest = page.split(START)
    after = rest.split(END)[1]
    points = measured["points"]
    tables = [_machines(measured["about"]), _summary(points)]
    for suite in dict.fromkeys(str(point["suite"]) for point in points):
        tables.append(_table(suite, [point for point in points if point["suite"] == suite]))
    return before + START + "\n\n" + "\n\n".join(tables) + "\n\n" + END + after


def _machines(about: Mapping[str, Mapping[str, str]]) -> str:
    """Where and when each evaluation ran."""
    machines: dict[str, list[str]] = {}
    for name, facts in about.items():
        machine = f"{facts['processor']}, {facts['cores']} cores, {facts['date'][:7]}"
        machines.setdefault(machine, []).append(name)
    return "\n".join(f"- {machine}: {', '.join(names)}" for machine, names in machines.items())


def _summary(points: Sequence[Mapping[str, object]]) -> str:
    """Each group by the rules that fill about one mask a pass, in order of confidence."""
    heads = {"timetable": None, "threshold 1": "threshold", "entropy_bound 0.1": "entropy_bound"}
    rows: dict[tuple[str, str, str], dict[str | None, str]] = {}
    for point in points:
        is_whole = point["steps"] in ("full", "16") and not point["temperature"]
        if point["order"] == "confidence" and is_whole:
            rule = next((r for r in ("threshold", "entropy_bound") if point[r] is not None), None)
            key = (str(point["suite"]), str(point["bucket"]), f"{point['n']:,}")
            rows.setdefault(key, {})[rule] = f"{point['acc']:.3f}, {point['forward_passes']:.1f}"
    lines = [_line(["suite", "group", "n", *heads]), _line(["---", "---", *["--:"] * 4])]
    for key, cells in rows.items():
        lines.append(_line([*key, *(cells.get(rule, "") for rule in heads.values())]))
    return "\n".join(lines)


def _table(suite: str, points: Sequence[Mapping[str, object]]) -> str:
    steps = list(dict.fromkeys(str(point["steps"]) for point in points))
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for point in points:
        rules = [f"{name} {point[name]:g}" for name in RULES if point[name]]
        order = ", ".join([str(point["order"]), *rules])
        interval = f"{point['wilson_low']:.3f} to {point['wilson_high']:.3f}"
        cells = rows.setdefault((str(point["bucket"]), order, f"{point['n']:,}"), {})
        cells[str(point["steps"])] = f"{point['acc']:.3f} ({interval})"
    head = ["group", "order", "n", *(f"{step} step" + "s" * (step != "1") for step in steps)]
    lines = [f"**{suite}**", "", _line(head)]
    lines.append(_line(["---", "---", *["--:"] * (len(steps) + 1)]))
    for labels, shares in rows.items():
        lines.append(_line([*labels, *(shares.get(step, "") for step in steps)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _copy_plots(plots: Path, name: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    for plot in ("quality_steps", "quality_cost"):
        shutil.copyfile(plots / f"{plot}.svg", FIGURES / f"{name}_{plot}.svg")


def _write_card(
    folder: Path, found: Mapping[str, Sequence[Mapping[str, object]]], arguments: str
) -> dict[str, Any]:
    """The card with these evaluations measured anew, in the order of `EVALUATIONS`."""
    path = folder / "card.json"
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    measured = card.get("measured", {"about": {}, "points": []})
    about = measured["about"] | {
        name: describe(f"python -m benchmarks.model_card {arguments} --only {name}")
        for name in found
    }
    kept = [point for point in measured["points"] if point["evaluation"] not in found]
    points = [*kept, *(point for points in found.values() for point in points)]
    names = list(EVALUATIONS)
    card["measured"] = {
        "about": {name: about[name] for name in names if name in about},
        "points": sorted(points, key=lambda point: names.index(point["evaluation"])),
    }
    card["weights_sha256"] = weights_sha256(folder)
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


if __name__ == "__main__":
    main()
