"""A tiny training run for tests, and the same loop in this process without Ray."""

from __future__ import annotations

from pathlib import Path

import torch

from jobs.train.config import TrainSpec
from jobs.train.loop import new_state, run_updates
from jobs.train.model import prepare
from jobs.train.worker import source_of

TINY = {
    "mix": {"sudoku": 2, "lists": 1, "prose": 1},
    "updates": 8,
    "batch_size": 12,
    "seed": 3,
    "learning_rate": 3e-3,
    "warmup": 3,
    "ema": 0.9,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "log_every": 1,
}


def spec_of(output: Path | str = "out", **changes) -> TrainSpec:
    """The tiny run with some settings changed; None takes one away."""
    values = {"output": str(output), **TINY, **changes}
    return TrainSpec.model_validate({k: v for k, v in values.items() if v is not None})


def fresh(spec: TrainSpec, work: Path):
    """The state before the first update, its source of batches, and the mask id."""
    config = prepare(spec, work / "base")
    source = source_of(spec, work)
    state = new_state(spec, config, len(source.variant_names), torch.device("cpu"))
    return state, source, config.mask_token_id


def train_here(spec: TrainSpec, work: Path, *, save=lambda state: None):
    """Every update of the run in this process; gives the state and the lines of the metrics."""
    state, source, mask_id = fresh(spec, work)
    lines: list[dict] = []
    torch.set_num_threads(1)
    run_updates(
        state,
        (source.share(update, 0, 1) for update in range(spec.updates)),
        spec,
        mask_id=mask_id,
        variant_names=source.variant_names,
        last=spec.updates,
        tell=lines.append,
        save=lambda: save(state),
    )
    return state, lines
