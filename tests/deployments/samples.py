"""A request for every option: it has another value than its default, and what that needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.requests import OPENAI_NAMED
from dream import SamplingParams
from dream.options import Option, options_of

NEEDS: Mapping[str, dict[str, object]] = {
    "low_threshold": {"threshold": 0.9},
    "max_commits": {"threshold": 0.9},
    "min_commits": {"threshold": 0.9},
    "refresh_every": {"window": "dual"},
    "suffix_window": {"block_length": 8},
    "vicinity": {"window": "dual"},
}
"""Options that are refused alone, with others that they go with."""


def sample(name: str) -> dict[str, Any]:
    """Options under dream's names: `name` and what it needs."""
    return NEEDS.get(name, {}) | {name: _another(options_of(SamplingParams)[name])}


def wire(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options as HTTP takes them: OpenAI's at the top, the others in `diffusion`."""
    top = {name: value for name, value in options.items() if name in OPENAI_NAMED}
    return top | {"diffusion": {n: v for n, v in options.items() if n not in OPENAI_NAMED}}


def _another(option: Option) -> object:
    if option.choices:
        return next(choice for choice in option.choices if choice != option.default)
    if option.kind is bool:
        return not option.default
    return (option.low or 0) + (1 if option.kind is int else 0.5)
