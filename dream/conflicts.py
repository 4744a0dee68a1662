"""Which sampling parameters do not go together: refused by name, with what would do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dream.errors import InvalidRequest
from dream.options import options_of

if TYPE_CHECKING:
    from dream.params import SamplingParams

__all__ = ["RULE_FIELDS", "check_together"]

RULE_FIELDS = ("threshold", "factor", "entropy_bound", "entropy_threshold")
"""Each switches on the commit rule of its name."""

RANK_FIELDS = ("block_length", "frontier", "eos_frontier", "eos_annealing", "egi_temperature")
"""Each changes which masks come first."""


def check_together(params: SamplingParams) -> None:
    """InvalidRequest for the first field that the others rule out."""
    _check_rules(params)
    _check_order(params)
    _check_modes(params)


def _check_rules(params: SamplingParams) -> None:
    rules = [name for name in RULE_FIELDS if getattr(params, name) is not None]
    if len(rules) > 1:
        allowed = f"None together with {rules[0]}"
        raise InvalidRequest(rules[1], getattr(params, rules[1]), allowed)
    low, high = params.low_threshold, params.threshold
    if low is not None and (high is None or low > high):
        raise InvalidRequest("low_threshold", low, "a number <= threshold, which it needs")
    if params.max_commits is not None and params.max_commits < params.min_commits:
        allowed = f">= min_commits={params.min_commits}"
        raise InvalidRequest("max_commits", params.max_commits, allowed)
    if not rules:
        _refuse(params, ("min_commits", "max_commits"), "without a commit rule, which it bounds")


def _check_order(params: SamplingParams) -> None:
    if params.frontier is not None and params.block_length is not None:
        raise InvalidRequest("frontier", params.frontier, "None together with block_length")
    if params.alg == "origin":
        _refuse(params, ("order",), "as alg 'origin' has no order: use another alg")
        why = "as alg 'origin' draws the step of each position up front"
        _refuse(params, (*RULE_FIELDS, *RANK_FIELDS, "history"), why)
    if params.order != "confidence" or params.history:
        why = "unless order is 'confidence' and history is 0: it changes ranks by score"
        _refuse(params, ("eos_annealing",), why)


def _check_modes(params: SamplingParams) -> None:
    if params.window is None:
        _refuse(params, ("refresh_every", "vicinity"), "without window, which it belongs to")
    if params.block_length is None and params.frontier is None:
        why = "without block_length or frontier, beyond which it reaches"
        _refuse(params, ("suffix_window",), why)
    has_filter = params.top_k is not None or (params.top_p is not None and params.top_p < 1)
    if params.temperature or has_filter:
        why = "unless temperature is 0 and no filter is set: the best token of the mean wins"
        _refuse(params, ("history",), why)


def _refuse(params: SamplingParams, names: tuple[str, ...], why: str) -> None:
    """InvalidRequest for the first of these fields that is not its default."""
    owner: type = type(params)
    options = options_of(owner)
    for name in names:
        default = options[name].default
        if getattr(params, name) != default:
            raise InvalidRequest(name, getattr(params, name), f"{default!r} {why}")
