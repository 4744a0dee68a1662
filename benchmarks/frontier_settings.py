"""What the frontier is drawn over: suites, and every commit rule and mode as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, get_args

from benchmarks.fast_dllm import CacheMode

__all__ = ["APPROXIMATE", "FAST_SETTINGS", "SETTINGS", "SUITES", "FastSetting", "Setting"]
__all__ += ["exact_twin"]

Params = Mapping[str, int | float | str | None]
"""Fields of `SamplingParams`; `steps` that are not named are one for each masked token."""

SUITES: dict[str, tuple[int, ...] | None] = {
    "sudoku4": (4,),
    "infill-eq": None,
    "countdown3-mini": None,
    "infill-text": None,
}
"""Suites of `jobs.evaluate`, and the numbers of givens of Sudoku."""

APPROXIMATE = ("window", "refresh_every", "vicinity", "suffix_window")
"""Fields without which an approximate setting is its exact twin."""


class Setting(NamedTuple):
    """A family has one colour in the figure; labels are unique."""

    family: str
    label: str
    params: Params


class FastSetting(NamedTuple):
    """Fast-dLLM's own loop: without a cache, or blocks with one.

    It is for prompts with one hole of whole blocks. Without a block all masks are one quota.
    """

    label: str
    block_length: int | None
    cache: CacheMode | None
    threshold: float = 0.9
    family: str = "Fast-dLLM"

    @property
    def params(self) -> Params:
        """What a record says of it."""
        names = ("threshold", "block_length", "cache")
        return {name: getattr(self, name) for name in names}


STEPS = (1, 2, 4, 8, 16, None)
BLOCKS = (4, 6, 8, 9, 16)
WINDOWED_BLOCKS = (4, 6, 8)


def exact_twin(setting: Setting | FastSetting) -> Setting | None:
    """The setting of the same rule without the approximation; None for one that is exact."""
    if isinstance(setting, FastSetting):
        return _of_block(setting.block_length)
    params = {name: value for name, value in setting.params.items() if name not in APPROXIMATE}
    if len(params) == len(setting.params):
        return None
    return next(other for other in SETTINGS if other.params == params)


def _of_block(length: int | None) -> Setting | None:
    found = (s for s in SETTINGS if s.family == "blocks" and s.params["block_length"] == length)
    return next(found, None)


def _timetables() -> list[Setting]:
    return [
        Setting(alg, f"{alg} {steps or 'full'}", {"alg": alg, "steps": steps})
        for alg in ("entropy", "origin", "maskgit_plus", "topk_margin")
        for steps in STEPS
    ]


def _rules() -> list[Setting]:
    values = {
        "threshold": (0.5, 0.7, 0.9, 0.95, 1),
        "factor": (0.25, 0.5, 1, 2),
        "entropy_bound": (0.001, 0.01, 0.1, 0.5, 1),
        "entropy_threshold": (0.05, 0.1, 0.3, 0.5),
    }
    return [
        Setting(rule, f"{rule} {value}", {rule: value})
        for rule, levels in values.items()
        for value in levels
    ]


def _orders() -> list[Setting]:
    high = {"threshold": 0.9}
    hierarchies = [
        Setting("hierarchy", f"hierarchy 0.9, {low}", high | {"low_threshold": low})
        for low in (0.4, 0.6)
    ]
    blocks = [
        Setting("blocks", f"threshold 0.9, block {length}", high | {"block_length": length})
        for length in BLOCKS
    ]
    frontiers = [
        Setting("frontier", f"threshold 0.9, frontier {width}", high | {"frontier": width})
        for width in (4, 8)
    ]
    return hierarchies + blocks + frontiers


def _histories() -> list[Setting]:
    """CCD, and EOS logits that count less in the ranks."""
    settings: list[Setting] = []
    for steps in (2, 4, 8, None):
        label = steps or "full"
        ccd = {"steps": steps, "history": 3, "history_top": 4}
        annealed = {"steps": steps, "eos_annealing": 3}
        settings.append(Setting("CCD", f"CCD {label}", ccd))
        settings.append(Setting("EOS annealing", f"annealing {label}", annealed))
    return sorted(settings, key=lambda setting: setting.family)


def _windows() -> list[Setting]:
    """Refresh and vicinity are varied one at a time."""
    settings: list[Setting] = []
    for window in ("dual", "prefix"):
        for length in WINDOWED_BLOCKS:
            params = {"threshold": 0.9, "block_length": length, "window": window}
            label = f"{window}, block {length}"
            settings.append(Setting(f"{window} window", label, params))
            for name, values in {"refresh_every": (2, 4), "vicinity": (4, 16)}.items():
                for value in values:
                    words = f"{label}, {name.split('_')[0]} {value}"
                    settings.append(Setting(f"{window} window", words, params | {name: value}))
    for length in WINDOWED_BLOCKS:
        for width in (4, 16):
            params = {"threshold": 0.9, "block_length": length, "suffix_window": width}
            settings.append(Setting("suffix window", f"suffix {width}, block {length}", params))
    return settings


SETTINGS: tuple[Setting, ...] = (
    *_timetables(),
    *_rules(),
    *_orders(),
    *_histories(),
    *_windows(),
)

FAST_SETTINGS = (
    FastSetting("Fast-dLLM, no cache", None, None),
    *(
        FastSetting(f"Fast-dLLM, {cache}, block {length}", length, cache)
        for cache in get_args(CacheMode)
        for length in (4, 6, 8, 9)
    ),
)
"""Each block length is one of `BLOCKS`, so that there is an exact rule to compare with."""
