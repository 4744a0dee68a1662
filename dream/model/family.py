"""Which published model a checkpoint is: found by its tokens, its name, or what its config says."""

from __future__ import annotations

from pathlib import Path

from dream.model.config import read_config
from dream.model.tokenizer import Tokenizer
from dream.presets import Preset, recognise

__all__ = ["preset_of"]


def preset_of(model: str | Path, folder: Path, tokenizer: Tokenizer | None) -> Preset | None:
    """The preset of the checkpoint in `folder`, which was asked for as `model`.

    Its own name counts more than `_name_or_path`, which may name the model it was trained from.
    """
    written = read_config(folder).name_or_path
    names = [str(model), str(folder.resolve()), written if isinstance(written, str) else ""]
    return recognise(names, () if tokenizer is None else tokenizer.special_tokens)
