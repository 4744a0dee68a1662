"""How to sample: Dream's own field names, validated once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from dream.errors import InvalidRequest

__all__ = ["MAX_STEPS", "Alg", "Order", "SamplingParams"]

Alg = Literal["origin", "maskgit_plus", "topk_margin", "entropy"]
Order = Literal["confidence", "random", "left_to_right", "right_to_left"]

TEMPERATURES = "0 or a number in [0.0001, 10000]"
MAX_STEPS = 2048
"""Most denoising steps a request may ask for; the trained context is 2048 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Dream's sampling parameters under Dream's names (`generation_utils.py`).

    steps: denoising steps, 1..2048; None means one step per masked token of the request.
    alg: which masks become tokens at a step: origin, maskgit_plus, topk_margin or entropy.
    alg_temp: temperature of that choice; None or 0 takes the most confident positions.
    eps: end of the time grid, in (0, 1).
    temperature, top_p, top_k: the distribution a token is drawn from; 0 takes the argmax.
    order: `confidence` ranks by `alg`; the others rank by position or by keyed noise.
    seed: key of all noise of this request, 0 <= seed < 2**63; None means 0.
    early_exit: stop once nothing a reader sees can change any more.
    threshold, block_length: reserved by the contract; only None is served.
    """

    steps: int | None
    alg: Alg = "entropy"
    alg_temp: float | None = None
    eps: float = 1e-3
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    threshold: float | None = None
    block_length: int | None = None
    order: Order = "confidence"
    seed: int | None = None
    early_exit: bool = True

    def __post_init__(self) -> None:
        _integer("steps", self.steps, 1, MAX_STEPS)
        _choice("alg", self.alg, get_args(Alg))
        _choice("order", self.order, get_args(Order))
        if self.order != "confidence" and self.alg == "origin":
            raise InvalidRequest("order", self.order, "alg 'origin' has no order: use another alg")
        _number("alg_temp", self.alg_temp, _is_temperature, f"None, {TEMPERATURES}")
        _number("eps", self.eps, lambda v: 0 < v < 1, "a number in (0, 1)", optional=False)
        _number("temperature", self.temperature, _is_temperature, TEMPERATURES, optional=False)
        _number("top_p", self.top_p, lambda v: 0 <= v <= 1, "None or a number in [0, 1]")
        _integer("top_k", self.top_k, 1, None)
        _integer("seed", self.seed, 0, 2**63 - 1)
        for name in ("threshold", "block_length"):
            if getattr(self, name) is not None:
                raise InvalidRequest(name, getattr(self, name), "not served: only None is allowed")


def _is_temperature(value: float) -> bool:
    """Outside this range float32 scores over- or underflow."""
    return value == 0 or 1e-4 <= value <= 1e4


def _integer(field: str, value: int | None, low: int, high: int | None) -> None:
    if value is None:
        return
    limit = f"{low}..{high}" if high is not None else f">= {low}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(field, value, f"None or an integer {limit}")
    if value < low or (high is not None and value > high):
        raise InvalidRequest(field, value, f"None or an integer {limit}")


def _number(
    field: str,
    value: float | None,
    is_allowed: Callable[[float], bool],
    allowed: str,
    *,
    optional: bool = True,
) -> None:
    if value is None and optional:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value is None or not math.isfinite(value) or not is_allowed(value):
        raise InvalidRequest(field, value, allowed)


def _choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequest(field, value, "one of " + ", ".join(choices))
