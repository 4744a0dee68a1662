"""The worked example of docs/capacity.md: every number of it is computed here."""

from __future__ import annotations

from benchmarks.markdown import Sections, table
from cluster.capacity import Answers, StepTime, min_steps_load, replicas_for, requests_per_s

__all__ = ["ANSWERS", "STEP", "capacity_sections"]

STEP = StepTime(floor_s=0.0035, base_s=0.001, token_s=22e-6)
"""Of the example: a GPU that reads all weights in 3.5 ms and computes a token in 22 us."""

ANSWERS = Answers(canvas_tokens=512, steps=128)

RATE = 10.0
DEADLINE_S = 4.0
MIN_STEPS = 32


def capacity_sections() -> Sections:
    """The tables of the example."""
    return {"capacity: batches": _batches, "capacity: questions": _questions}


def _batches() -> str:
    rows = []
    for batch in (1, 2, 4, 8, 16, 32):
        tokens = batch * ANSWERS.canvas_tokens
        cells = [f"{1000 * STEP.seconds(tokens):.1f}", f"{STEP.token_forwards_per_s(tokens):,.0f}"]
        cells += [
            f"{requests_per_s(ANSWERS, STEP, batch):.2f}",
            f"{ANSWERS.seconds(STEP, batch):.1f}",
        ]
        rows.append([f"{batch}", f"{tokens:,}", *cells])
    heads = ["canvases in a step", "tokens", "ms a step", "token-forwards/s", "requests/s"]
    return table([*heads, "s a request"], rows, num_numbers=6)


def _questions() -> str:
    batch = ANSWERS.batch_within(STEP, DEADLINE_S)
    replicas = replicas_for(RATE, ANSWERS, STEP, batch)
    at_once = requests_per_s(ANSWERS, STEP, batch, replicas)
    overload = 1.5 * at_once
    least = min_steps_load(overload, ANSWERS, MIN_STEPS, STEP, batch, replicas)
    fewer = ANSWERS.steps_within(STEP, DEADLINE_S / 2, batch)
    rows = [
        [f"most canvases in a step for an answer within {DEADLINE_S:g} s", f"{batch}"],
        [f"replicas for {RATE:g} requests/s, busy 70 % of the time", f"{replicas}"],
        ["requests/s of these at saturation", f"{at_once:.1f}"],
        [f"steps that fit into {DEADLINE_S / 2:g} s beside as many canvases", f"{fewer}"],
        [
            f"share of the capacity at 1.5 x saturation, all at min_steps {MIN_STEPS}",
            f"{least:.0%}",
        ],
    ]
    return table(["question", "answer"], rows, num_numbers=1)
