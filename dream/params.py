"""How to sample: Dream's own field names, validated once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from dream.errors import InvalidRequest

__all__ = ["MAX_HISTORY", "MAX_HISTORY_TOP", "MAX_STEPS", "RULE_FIELDS"]
__all__ += ["Alg", "Order", "SamplingParams", "Window"]

Alg = Literal["origin", "maskgit_plus", "maskgit_tpp", "topk_margin", "entropy"]
Order = Literal["confidence", "random", "left_to_right", "right_to_left"]
Window = Literal["prefix", "dual"]

RULE_FIELDS = ("threshold", "factor", "entropy_bound", "entropy_threshold")
"""Each switches on the commit rule of its name."""

RANK_FIELDS = ("block_length", "frontier", "eos_frontier", "eos_annealing", "egi_temperature")
"""Each changes which masks come first."""

TEMPERATURES = "0 or a number in [0.0001, 10000]"
MAX_STEPS = 2048
"""Most denoising steps a request may ask for; the trained context is 2048 tokens."""
MAX_TOP_K = 2**31 - 1
"""Beyond any vocabulary."""
MAX_HISTORY, MAX_HISTORY_TOP = 8, 16
"""Largest `history` and `history_top`: they bound what is kept of each position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Dream's sampling parameters under Dream's names (`generation_utils.py`), and commit rules.

    steps: denoising steps, 1..2048; None means one step per masked token of the request.
    alg: which masks become tokens at a step: origin, maskgit_plus, topk_margin, entropy, or
        maskgit_tpp, which ranks by the largest probability and draws the token afterwards.
    alg_temp: temperature of that choice; None or 0 takes the most confident positions.
    eps: end of the time grid, in (0, 1).
    temperature, top_p, top_k: the distribution a token is drawn from; 0 takes the argmax.
    order: `confidence` ranks by `alg`; the others rank by position or by keyed noise.
    block_length: masks are filled in blocks of so many, one block after the other.
    frontier: only the first so many masks, from the left, are filled.
    seed: key of all noise of this request, 0 <= seed < 2**63; None means 0.
    early_exit: stop once nothing a reader sees can change any more.

    A commit rule fills as many masks at a step as the raw probabilities (temperature 1, no
    filter) allow, and never fewer than the timetable still demands. At most one of them:
    threshold: every mask whose best token has this probability (arXiv 2505.22618); with
        low_threshold also the surest of each run of masks that has that (dInfer's hierarchy).
    factor: the n surest, for the largest n with (n + 1)(1 - p_n) < factor (arXiv 2505.22618).
    entropy_bound: the longest ranked prefix whose entropies, without the largest of them, sum to
        at most so many nats (EB-sampler, arXiv 2505.24857).
    entropy_threshold: every mask whose entropy in nats is below it (arXiv 2601.07568).
    min_commits, max_commits: bounds of what a rule fills at a step.

    Where tokens go, and which:
    eos_frontier: an EOS waits until it is at most so many positions beyond the first mask of its
        hole that may be filled, or the last step comes.
    eos_annealing: for ranking alone the EOS logits are divided by a number that falls linearly
        from this one to 1 over the steps (arXiv 2604.10567 describes the overflow it is against).
    egi_temperature: the first token is drawn at this temperature, alone, where the entropy is
        largest, so that samples differ from the start (EGI); not where one step fills everything.
    history: ranks and tokens come from the mean of this distribution and so many before it, each
        kept as its history_top largest probabilities (CCD, arXiv 2512.02044).
    grow_to: while the last hole ends without EOS the request runs again with that hole doubled,
        up to so many tokens.

    Approximate modes, which change tokens:
    window: keep keys and values between steps. `dual` computes the rows of the current block,
        `prefix` those from its first row to the end; all rows again where a block begins. Without
        block_length all masks are one block, or with frontier those within it: then all rows are
        computed at the first step, and again as refresh_every says.
    refresh_every: all rows again at every so many forward passes; 1 is exact.
    vicinity: rows computed on both sides of the window.
    suffix_window: masks further than so many positions beyond the current block are left out, but
        for one of each block's length and the last.
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
    low_threshold: float | None = None
    factor: float | None = None
    entropy_bound: float | None = None
    entropy_threshold: float | None = None
    min_commits: int = 1
    max_commits: int | None = None
    frontier: int | None = None
    eos_frontier: int | None = None
    eos_annealing: float | None = None
    egi_temperature: float | None = None
    history: int = 0
    history_top: int = 4
    grow_to: int | None = None
    window: Window | None = None
    refresh_every: int | None = None
    vicinity: int = 0
    suffix_window: int | None = None

    def __post_init__(self) -> None:
        _integer("steps", self.steps, 1, MAX_STEPS)
        if not isinstance(self.early_exit, bool):
            raise InvalidRequest("early_exit", self.early_exit, "true or false")
        _choice("alg", self.alg, get_args(Alg))
        _choice("order", self.order, get_args(Order))
        _number("alg_temp", self.alg_temp, _is_temperature, f"None, {TEMPERATURES}")
        _number("eps", self.eps, lambda v: 0 < v < 1, "a number in (0, 1)", optional=False)
        _number("temperature", self.temperature, _is_temperature, TEMPERATURES, optional=False)
        _number("top_p", self.top_p, lambda v: 0 <= v <= 1, "None or a number in [0, 1]")
        _integer("top_k", self.top_k, 1, MAX_TOP_K)
        _integer("seed", self.seed, 0, 2**63 - 1)
        _integer("block_length", self.block_length, 1, MAX_STEPS)
        _integer("frontier", self.frontier, 1, MAX_STEPS)
        for name in ("threshold", "low_threshold"):
            _number(name, getattr(self, name), lambda v: 0 <= v <= 1, "None or a number in [0, 1]")
        for name in ("factor", "entropy_bound", "entropy_threshold"):
            _number(name, getattr(self, name), lambda v: v >= 0, "None or a number >= 0")
        _integer("min_commits", self.min_commits, 1, MAX_STEPS, optional=False)
        _integer("max_commits", self.max_commits, 1, MAX_STEPS)
        self._check_extras()
        self._check_together()

    @property
    def rule(self) -> str | None:
        """Name of the commit rule, which is the field that switches it on; None without one."""
        if self.low_threshold is not None:
            return "low_threshold"
        return next((name for name in RULE_FIELDS if getattr(self, name) is not None), None)

    @property
    def is_drawn(self) -> bool:
        """Whether the seed matters."""
        is_token_drawn = bool(self.temperature or self.egi_temperature)
        is_order_drawn = self.order == "random" or (self.order == "confidence" and self.alg_temp)
        return is_token_drawn or bool(is_order_drawn) or self.alg == "origin"

    @property
    def keeps_state(self) -> bool:
        """Whether something is kept for each position between steps."""
        return self.window is not None or self.history > 0

    @property
    def approximation(self) -> str | None:
        """The approximate mode by name, with what it was set to; None for exact decoding."""
        names = [name for name in ("window", "suffix_window") if getattr(self, name) is not None]
        if self.window is not None:
            names += [name for name in ("refresh_every", "vicinity") if getattr(self, name)]
        return ", ".join(f"{name}={getattr(self, name)}" for name in names) or None

    def _check_extras(self) -> None:
        _integer("eos_frontier", self.eos_frontier, 0, MAX_STEPS)
        allowed = "None or a number in [1, 10000]"
        _number("eos_annealing", self.eos_annealing, lambda v: 1 <= v <= 1e4, allowed)
        allowed = "None or a number in [0.0001, 10000]"
        _number("egi_temperature", self.egi_temperature, lambda v: 1e-4 <= v <= 1e4, allowed)
        _integer("history", self.history, 0, MAX_HISTORY, optional=False)
        _integer("history_top", self.history_top, 1, MAX_HISTORY_TOP, optional=False)
        _integer("grow_to", self.grow_to, 1, MAX_STEPS)
        if self.window is not None:
            _choice("window", self.window, get_args(Window))
        _integer("refresh_every", self.refresh_every, 1, MAX_STEPS)
        _integer("vicinity", self.vicinity, 0, MAX_STEPS, optional=False)
        _integer("suffix_window", self.suffix_window, 0, MAX_STEPS)
        if self.window is None:
            self._refuse(
                {"refresh_every": None, "vicinity": 0}, "without window, which it belongs to"
            )
        if self.suffix_window is not None and self.block_length is None and self.frontier is None:
            allowed = "None without block_length or frontier, beyond which it reaches"
            raise InvalidRequest("suffix_window", self.suffix_window, allowed)
        if self.eos_annealing is not None and (self.order != "confidence" or self.history):
            allowed = (
                "None unless order is 'confidence' and history is 0: it changes ranks by score"
            )
            raise InvalidRequest("eos_annealing", self.eos_annealing, allowed)
        has_filter = self.top_k is not None or (self.top_p is not None and self.top_p < 1)
        if self.history and (self.temperature or has_filter):
            allowed = (
                "0 unless temperature is 0 and no filter is set: the best token of the mean wins"
            )
            raise InvalidRequest("history", self.history, allowed)

    def _check_together(self) -> None:
        rules = [name for name in RULE_FIELDS if getattr(self, name) is not None]
        if len(rules) > 1:
            raise InvalidRequest(
                rules[1], getattr(self, rules[1]), f"None together with {rules[0]}"
            )
        if self.frontier is not None and self.block_length is not None:
            raise InvalidRequest("frontier", self.frontier, "None together with block_length")
        low, high = self.low_threshold, self.threshold
        if low is not None and (high is None or low > high):
            raise InvalidRequest("low_threshold", low, "a number <= threshold, which it needs")
        if self.max_commits is not None and self.max_commits < self.min_commits:
            allowed = f">= min_commits={self.min_commits}"
            raise InvalidRequest("max_commits", self.max_commits, allowed)
        if not rules:
            self._refuse(
                {"min_commits": 1, "max_commits": None}, "without a commit rule, which it bounds"
            )
        if self.alg == "origin":
            self._refuse({"order": "confidence"}, "as alg 'origin' has no order: use another alg")
            fields = dict.fromkeys((*RULE_FIELDS, *RANK_FIELDS))
            why = "as alg 'origin' draws the step of each position up front"
            self._refuse({**fields, "history": 0}, why)

    def _refuse(self, defaults: dict[str, object], why: str) -> None:
        for name, default in defaults.items():
            if getattr(self, name) != default:
                raise InvalidRequest(name, getattr(self, name), f"{default!r} {why}")


def _is_temperature(value: float) -> bool:
    """Outside this range float32 scores over- or underflow."""
    return value == 0 or 1e-4 <= value <= 1e4


def _integer(
    field: str, value: int | None, low: int, high: int | None, *, optional: bool = True
) -> None:
    if value is None and optional:
        return
    limit = f"{low}..{high}" if high is not None else f">= {low}"
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value is None or value < low or (high is not None and value > high):
        allowed = f"an integer {limit}"
        raise InvalidRequest(field, value, f"None or {allowed}" if optional else allowed)


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
    is_finite = is_number and value is not None and abs(value) <= sys.float_info.max
    if not is_finite or value is None or not is_allowed(value):
        raise InvalidRequest(field, value, allowed)


def _choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequest(field, value, "one of " + ", ".join(choices))
