"""From the last checkpoint of a run to a folder in Dream's official layout, and its card."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from jobs.common.files import move_into_place, write_atomically
from jobs.common.fingerprint import Json
from jobs.train.checkpoint import final_weights, read_progress
from jobs.train.config import TrainSpec
from jobs.train.corpus import rows_sha256
from jobs.train.metrics import read_metrics
from jobs.train.model import CARD, STARTED_FROM, VOCABULARY_FILES
from jobs.train.record import TrainRecord

__all__ = ["SEEN", "export"]

SEEN = (
    "No problem of the held-out split was shown as a prompt, or as the visible part of a text that "
    "is filled in place. The visible part of an answer behind a prompt was not checked."
)
"""Of a checkpoint of generated rows: what its held-out split means."""

INDEX = "model.safetensors.index.json"
LINES_OF_CARD = 100
LARGEST_FILE = "5GB"


def export(checkpoint: Path, base: Path, output: Path, record: TrainRecord) -> None:
    """Weights in bfloat16, config.json, tokenizer files, and the training half of card.json."""
    weights = {name: t.to(torch.bfloat16) for name, t in final_weights(checkpoint)}
    new = base.parent / "export"
    new.mkdir(exist_ok=True)
    _write_weights(weights, new)
    for name in ("config.json", *VOCABULARY_FILES):
        (new / name).write_bytes((base / name).read_bytes())
    parameters = sum(tensor.numel() for tensor in weights.values())
    tokens = read_progress(checkpoint).tokens
    card = {
        "data": _data(record),
        "started_from": _started_from(base, record),
        "recipe": {k: value for k, value in record.spec.items() if k not in ("output", "from")},
        "parameters": parameters,
        "tokens": tokens,
        "flops": 6 * parameters * tokens,
        "log": _thinned(output),
    }
    for path in sorted(new.iterdir()):
        move_into_place(path, output / path.name)
    write_atomically(output / CARD, json.dumps(card, indent=1) + "\n")
    new.rmdir()


def _write_weights(weights: dict[str, Tensor], folder: Path) -> None:
    split = split_torch_state_dict_into_shards(weights, max_shard_size=LARGEST_FILE)
    for file, names in split.filename_to_tensors.items():
        tensors = {name: weights[name] for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _data(record: TrainRecord) -> dict[str, Json]:
    """What it was trained on, as far as it can be told from outside."""
    about = {name: v for name, v in record.identity.items() if name == "data_sha256"}
    mix, batch_size, seed = (record.spec[name] for name in ("mix", "batch_size", "seed"))
    if isinstance(mix, dict) and isinstance(batch_size, int) and isinstance(seed, int):
        return about | {
            "generator": "jobs/train/corpus.py",
            "rows_sha256": rows_sha256(mix, batch_size, seed),
            "seen": SEEN,
        }
    return about | {
        "generator_sha256": record.identity["generator_sha256"],
        "files": record.spec["parquet"],
        "rows": record.rows,
        "rows_dropped": record.rows_dropped,
    }


def _started_from(base: Path, record: TrainRecord) -> dict[str, Json] | None:
    """What the card of the checkpoint says that the run continued; None for a fresh model."""
    place = TrainSpec.model_validate(record.spec).from_place
    if place is None:
        return None
    path = base / STARTED_FROM
    card: dict[str, Json] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept = ("data", "started_from", "recipe", "parameters", "tokens", "flops")
    digest = record.identity["from_sha256"]
    return {"weights_sha256": digest} | {name: card[name] for name in kept if name in card}


def _thinned(output: Path) -> list[dict[str, float]]:
    lines = read_metrics(output)
    every = -(-len(lines) // LINES_OF_CARD) or 1
    return list(islice(reversed(lines), 0, None, every))[::-1]
