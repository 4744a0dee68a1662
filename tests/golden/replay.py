"""The golden cases as engine requests, and the canvas a replay must show after each step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from dream import Request, SamplingParams, StepEvent, Template

DATA = Path(__file__).parent / "data"


def cases(*kinds: str) -> list[dict]:
    """Manifest entries of these kinds."""
    manifest = json.loads((DATA / "manifest.json").read_text())
    return [case for case in manifest["cases"] if case["kind"] in kinds]


def tensors(case: dict) -> dict[str, np.ndarray]:
    """The recorded arrays of a case."""
    return load_file(DATA / case["file"])


def mask_id(checkpoint: str) -> int:
    """Mask id of a checkpoint, from its config.json."""
    return json.loads((DATA / checkpoint / "config.json").read_text())["mask_token_id"]


@dataclass(frozen=True)
class Replay:
    """One row of a case: a request, its canvas before step 0, and after each step."""

    request: Request
    canvas: np.ndarray
    history: np.ndarray


def replays(case: dict) -> list[Replay]:
    """Every row of a case, without its left padding."""
    recorded, params = tensors(case), case["params"]
    mask = mask_id(case["checkpoint"])
    ids = recorded["input_ids"]
    keep = recorded.get("attention_mask", np.ones_like(ids)).astype(bool)
    rows: list[Replay] = []
    for b, row in enumerate(ids):
        pad = int((~keep[b]).sum())
        new = [mask] * params.get("max_new_tokens", 0)
        tail = recorded.get("tail", np.array([], ids.dtype))
        canvas = np.concatenate([row[keep[b]], new]).astype(np.int64)
        if len(tail):
            canvas[-len(tail) :] = tail
        for sample in range(params.get("num_return_sequences", 1)):
            index = b * params.get("num_return_sequences", 1) + sample
            history = recorded["history"][:, index, pad:]
            rows.append(Replay(_request(case, index, canvas, mask), canvas, history))
    return rows


def play(canvas: np.ndarray, events: list[StepEvent], steps: int) -> np.ndarray:
    """The canvas after each of `steps` steps, as the events tell it."""
    canvas = canvas.copy()
    by_step = {event.step: event for event in events}
    frames = []
    for step in range(steps):
        if step in by_step:
            canvas[list(by_step[step].positions)] = by_step[step].token_ids
        frames.append(canvas.copy())
    return np.array(frames)


def _request(case: dict, index: int, canvas: np.ndarray, mask: int) -> Request:
    params = case["params"]
    return Request(
        id=f"{case['case']}/{index}",
        template=Template.from_masked(canvas.tolist(), mask),
        params=SamplingParams(
            steps=params["steps"],
            alg=params["alg"],
            eps=params.get("eps", 1e-3),
            temperature=params.get("temperature", 0.0),
            top_p=params.get("top_p"),
            top_k=params.get("top_k"),
            alg_temp=params.get("alg_temp"),
            early_exit=False,
        ),
    )
