"""Accuracy of a small checkpoint on held-out 4x4 Sudoku, against denoising steps.

Each point runs the same held-out puzzles through `Engine`, as infilling: clues are given, every
blank is a hole. The score is validity of the completed grid, not equality with a reference.
Tokens are the most probable ones, but with 0 givens, where all puzzles are the same empty grid:
there they are drawn at temperature 1, with a seed for each row.
`--write` stores the curve in the checkpoint's card.json.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.hardware import describe
from dream import Engine, Request, SamplingParams, Template
from dream.model.loader import resolve, weights_sha256
from dream.params import Order
from jobs.tasks import sudoku

GIVENS = (0, 2, 4, 6, 8, 10)
STEPS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Solved share of `n` puzzles, with its Wilson 95 % interval and mean cost of a puzzle."""

    givens: int
    steps: int
    order: Order
    temperature: float
    n: int
    solved: float
    wilson_low: float
    wilson_high: float
    forward_passes: float
    token_forwards: float


def measure(
    engine: Engine, *, givens: int, steps: int, n: int, seed: int = 0, order: Order = "confidence"
) -> Point:
    """Fill `n` held-out puzzles with `givens` clues at this many steps."""
    puzzles = sudoku.draw_puzzles(np.random.default_rng(seed), n, givens)[0].tolist()
    assert engine.tokenizer is not None
    temperature = 0.0 if givens else 1.0
    requests = []
    for index, puzzle in enumerate(puzzles):
        ids = [
            engine.mask_token_id if character == "_" else engine.tokenizer.encode(character)[0]
            for character in sudoku.infill_text(puzzle)
        ]
        params = SamplingParams(steps=steps, order=order, temperature=temperature, seed=index)
        template = Template.from_masked(ids, engine.mask_token_id)
        requests.append(Request(id=str(index), template=template, params=params))
    done = engine.generate(requests)
    texts = [engine.tokenizer.decode(completion.token_ids) for completion in done]
    solved = sum(sudoku.is_solved(p, text) for p, text in zip(puzzles, texts, strict=True))
    low, high = wilson(solved, n)
    return Point(
        givens=givens,
        steps=steps,
        order=order,
        temperature=temperature,
        n=n,
        solved=solved / n,
        wilson_low=round(low, 4),
        wilson_high=round(high, 4),
        forward_passes=sum(c.usage.forward_passes for c in done) / n,
        token_forwards=sum(c.usage.token_forwards for c in done) / n,
    )


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a proportion (Wilson, 1927)."""
    p, zz = successes / n, z * z / n
    centre = (p + zz / 2) / (1 + zz)
    half = z / (1 + zz) * math.sqrt(p * (1 - p) / n + zz / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def main() -> None:
    """Measure the whole grid of givens and steps, print it, and store it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="store the curve in card.json")
    args = parser.parse_args()
    engine = Engine.from_pretrained(args.model)
    points = []
    print("| givens | order | " + " | ".join(f"{steps} steps" for steps in STEPS) + " |")
    print("|--:|---|" + "--:|" * len(STEPS))
    rows: list[tuple[int, Order]] = [(givens, "confidence") for givens in GIVENS]
    for givens, order in [*rows, (8, "random")]:
        row = [
            measure(engine, givens=givens, steps=steps, n=args.n, order=order) for steps in STEPS
        ]
        points += row
        print(f"| {givens} | {order} | " + " | ".join(f"{p.solved:.3f}" for p in row) + " |")
    if args.write:
        folder = resolve(args.model)
        path = Path(folder) / "card.json"
        card = json.loads(path.read_text(encoding="utf-8"))
        about = describe(f"python -m benchmarks.embedded --model {args.model} -n {args.n}")
        card["measured"] = {"about": about, "points": [asdict(point) for point in points]}
        card["weights_sha256"] = weights_sha256(folder)
        path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
