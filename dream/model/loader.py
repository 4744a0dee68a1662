"""From a checkpoint folder to a model: official layout, safetensors only, everything checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dream.errors import CheckpointError
from dream.model.config import read_config
from dream.model.modeling import DreamModel
from dream.model.parallel import parallelize, part_of
from dream.model.quantize import check_quantizer, quantized_weight

__all__ = ["DTYPES", "EMBEDDED", "checkpoint_files", "load_model", "resolve", "weights_sha256"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What a checkpoint may be loaded in."""

EMBEDDED = Path(__file__).parent.parent / "embedded"
"""Folder of the small checkpoint that ships with the package."""

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
HUB_FILES = ["*.json", "*.safetensors", "merges.txt"]


def resolve(model: str | Path, revision: str | None = None) -> Path:
    """Folder of a checkpoint given as "embedded", a path, or a Hugging Face Hub id."""
    if model == "embedded":
        return EMBEDDED
    folder = Path(model)
    try:
        if folder.is_dir():
            return folder
    except OSError as error:  # a name that is too long to be one
        raise CheckpointError(f"no folder and no model: {error}") from error
    if isinstance(model, Path) or model.startswith((".", "/", "~")):
        raise CheckpointError(f"{folder}: no such folder")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{model!r} is neither 'embedded', nor a folder, nor a model the Hub gives: {error}"
        ) from error


def checkpoint_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in name order."""
    if (folder / INDEX).is_file():
        names = sorted(set(_read_index(folder / INDEX).values()))
        for name in names:
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder / name}: shard named in {INDEX} is missing")
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    pickles = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt*"))
    if pickles:
        raise CheckpointError(
            f"{pickles[0]}: pickled weights are never loaded; convert to safetensors"
        )
    raise CheckpointError(f"{folder}: holds neither {SINGLE} nor {INDEX}")


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: str,
    backend: str = "sdpa",
    tensor_parallel: int = 1,
    quantized: str | None = None,
) -> DreamModel:
    """The model of a folder in `dtype` on `device`; every tensor is there and has its shape.

    With `tensor_parallel` processes each keeps its part of the weights only. With `quantized` the
    weights of the blocks' layers are put in 8 bits one by one: the whole model is never there.
    """
    if quantized is not None:
        check_quantizer(quantized)
    config = read_config(folder)
    with torch.device("meta"):
        model = DreamModel(config, backend)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if tensor_parallel > 1:
        parallelize(model, tensor_parallel)
    state: dict[str, Tensor] = {}
    for path, name, tensor in _tensors(folder):
        _check_tensor(path, name, tensor, expected)
        whole = tensor.to(device=device, dtype=dtype)
        part = part_of(name, whole, tensor_parallel)
        state[name] = part if quantized is None else quantized_weight(name, part, quantized)
    for name in expected:
        if name not in state:
            raise CheckpointError(f"{folder}: tensor {name} is missing")
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)
    return model


def weights_sha256(folder: Path) -> str:
    """One digest over the names and contents of the weight files and the configuration."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *checkpoint_files(folder)]:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _tensors(folder: Path) -> Iterator[tuple[Path, str, Tensor]]:
    for path in checkpoint_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    yield path, name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not readable as safetensors: {error}") from error


def _check_tensor(
    path: Path, name: str, tensor: Tensor, expected: dict[str, tuple[int, ...]]
) -> None:
    if name not in expected:
        raise CheckpointError(f"{path}: unexpected tensor {name}")
    if tuple(tensor.shape) != expected[name]:
        raise CheckpointError(
            f"{path}: tensor {name} has shape {list(tensor.shape)}, not {list(expected[name])}"
        )
    if not tensor.is_floating_point():
        raise CheckpointError(f"{path}: tensor {name} has dtype {tensor.dtype}, not a float")


def _read_index(path: Path) -> dict[str, str]:
    try:
        weight_map = dict(json.loads(path.read_text(encoding="utf-8"))["weight_map"].items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors index: {error!r}") from error
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{path}: tensor {name} lies in {file!r}, not in this folder")
    return weight_map
