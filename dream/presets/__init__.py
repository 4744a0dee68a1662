"""Sampling defaults that the authors of a model published, a file for each: data with its source.

A checkpoint is recognised by tokens that no other model has, or else by its name. A preset changes
nothing until a request, a job or a server names it; what they set themselves beats it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dream.conflicts import RULE_FIELDS
from dream.errors import InvalidRequest
from dream.options import options_of
from dream.params import SamplingParams

__all__ = ["NO_PRESET", "QUALITIES", "Preset", "find_preset", "quality_of", "read_presets"]
__all__ += ["recognise", "with_defaults", "with_preset"]

FOLDER = Path(__file__).parent

NO_PRESET = "none"
"""The name that stands for no preset."""

QUALITIES = ("fast", "balanced", "best")
"""From many tokens a step to one."""

DEFAULT_QUALITY: Mapping[str, Mapping[str, object]] = {
    "fast": {"threshold": 0.9},
    "balanced": {"threshold": 0.95},
    "best": {"steps": None},
}
"""Where a file says nothing: the threshold of Fast-dLLM (arXiv 2505.22618), a surer one, and the
published timetable with a step for each token. Not measured on 7B checkpoints here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known of a model; `name` is that of its file.

    hub_ids: where it is published. tokens: special tokens that it alone has. sampling: parameters
    under dream's names; empty where nothing was published. source: where they were read. quality:
    what each of QUALITIES means for it.
    """

    name: str
    about: str
    hub_ids: tuple[str, ...]
    source: str
    sampling: Mapping[str, object]
    tokens: tuple[str, ...] = ()
    note: str | None = None
    quality: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: DEFAULT_QUALITY)


@cache
def read_presets(folder: Path = FOLDER) -> Mapping[str, Preset]:
    """Every preset by its name; InvalidRequest names a file and what is wrong in it."""
    return {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}


def find_preset(name: str | None) -> Preset | None:
    """The preset of this name; nothing for none; InvalidRequest for one that there is not."""
    if name is None or name == NO_PRESET:
        return None
    presets = read_presets()
    if name not in presets:
        raise InvalidRequest("preset", name, f"one of {', '.join((NO_PRESET, *presets))}")
    return presets[name]


def recognise(names: Iterable[str], tokens: Collection[str]) -> Preset | None:
    """The preset of a checkpoint with these special tokens, or else of the first name that fits.

    A name is a Hub id or a path. It fits if its last part is that of a published Hub id, or if it
    lies in the Hub's cache of one; case and `_` for `-` make no difference.
    """
    presets = read_presets().values()
    for preset in presets:
        if preset.tokens and set(preset.tokens) <= set(tokens):
            return preset
    published = {_last(hub_id): preset for preset in presets for hub_id in preset.hub_ids}
    parts = (part for name in names for part in _name_parts(name))
    return next((published[part] for part in parts if part in published), None)


def with_preset(preset: Preset | None, given: Mapping[str, object]) -> dict[str, Any]:
    """Values of `SamplingParams`: those given, and the preset's for the others.

    What a given value excludes is not taken from the preset: a commit rule replaces its rule.
    """
    return with_defaults({} if preset is None else preset.sampling, given)


def quality_of(preset: Preset | None, quality: str) -> Mapping[str, object]:
    """What `quality` means for a model."""
    meanings = DEFAULT_QUALITY if preset is None else preset.quality
    if quality not in meanings:
        raise InvalidRequest("quality", quality, "one of " + ", ".join(QUALITIES))
    return meanings[quality]


def with_defaults(values: Mapping[str, object], given: Mapping[str, object]) -> dict[str, Any]:
    """Values of `SamplingParams`: those given, and of `values` what they do not exclude."""
    excluded: set[str] = set()
    if any(given.get(name) is not None for name in RULE_FIELDS):
        excluded |= set(RULE_FIELDS)
    if given.get("alg") == "origin":
        excluded |= {*RULE_FIELDS, "block_length"}
    if given.get("frontier") is not None:
        excluded.add("block_length")
    if given.get("history"):
        excluded |= {"temperature", "top_p", "top_k"}
    return {name: value for name, value in values.items() if name not in excluded} | dict(given)


def _read(path: Path) -> Preset:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = [field.name for field in fields(Preset) if field.name != "name"]
    for key in found.keys() - set(known):
        raise InvalidRequest(f"{path.name}: {key}", found[key], f"one of {', '.join(known)}")
    lists = {key: tuple(found.get(key, ())) for key in ("hub_ids", "tokens")}
    preset = Preset(**found | lists, name=path.stem)
    _check_sampling(path, preset)
    return preset


def _check_sampling(path: Path, preset: Preset) -> None:
    if set(preset.quality) != set(QUALITIES):
        raise InvalidRequest(f"{path.name}: quality", [*preset.quality], ", ".join(QUALITIES))
    options = options_of(SamplingParams)
    for values in (preset.sampling, *preset.quality.values()):
        for key, value in values.items():
            if key not in options:
                raise InvalidRequest(f"{path.name}: {key}", value, f"one of {', '.join(options)}")
        try:
            SamplingParams(**with_preset(preset, {"steps": None} | dict(values)))
        except InvalidRequest as invalid:
            name = f"{path.name}: {invalid.field}"
            raise InvalidRequest(name, invalid.value, invalid.allowed) from invalid


def _name_parts(name: str) -> list[str]:
    """What may be a model's own name: the last part, or before it that of the Hub's cache."""
    cached = [part for part in Path(name).parts if part.startswith("models--")]
    return [_last(name), *(_last(part.replace("--", "/")) for part in cached)]


def _last(name: str) -> str:
    return Path(name).name.lower().replace("_", "-")
