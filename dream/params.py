"""How to sample: every decoding parameter, declared once under Dream's own name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dream.conflicts import RULE_FIELDS, check_together
from dream.options import check_options, declare, options_of

__all__ = ["MAX_HISTORY", "MAX_HISTORY_TOP", "MAX_STEPS"]
__all__ += ["Alg", "Order", "SamplingParams", "Window", "all_approximations"]

Alg = Literal["origin", "maskgit_plus", "maskgit_tpp", "topk_margin", "entropy"]
Order = Literal["confidence", "random", "left_to_right", "right_to_left"]
Window = Literal["prefix", "dual"]

STEPS, TOKENS, ORDER = "Steps", "Which token", "Which masks may be filled"
RULES, ENDS, APPROXIMATE = "Commit rules", "EOS and length", "Approximate modes"
"""Titles of the tables in docs/decoding.md."""

MAX_STEPS = 2048
"""Most denoising steps a request may ask for; the trained context is 2048 tokens."""
MAX_TOP_K = 2**31 - 1
"""Beyond any vocabulary."""
MAX_HISTORY, MAX_HISTORY_TOP = 8, 16
"""Largest `history` and `history_top`: they bound what is kept of each position."""

COUNT, REACH, SHARE = (1, MAX_STEPS), (0, MAX_STEPS), (0, 1)
TEMPERATURES = (1e-4, 1e4)
"""Outside of these bounds float32 scores over- or underflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Dream's sampling parameters (`generation_utils.py`), commit rules and approximate modes.

    docs/decoding.md says what each is for, with its source. At most one commit rule is given.
    """

    steps: int | None = field(
        metadata=declare("Denoising steps; none: one for each masked token", STEPS, COUNT)
    )
    eps: float = field(
        default=1e-3,
        metadata=declare("End of the timetable's time grid", STEPS, SHARE, is_open=True),
    )
    early_exit: bool = field(
        default=True, metadata=declare("Stop once nothing that a reader sees can change", STEPS)
    )
    seed: int | None = field(
        default=None,
        metadata=declare("Key of all noise of the request; none: 0", STEPS, (0, 2**63 - 1)),
    )

    temperature: float = field(
        default=0.0,
        metadata=declare(
            "Temperature of tokens; 0 takes the most probable one",
            TOKENS,
            TEMPERATURES,
            or_zero=True,
            draws=True,
        ),
    )
    top_p: float | None = field(
        default=None,
        metadata=declare("Draw among the tokens that have this total probability", TOKENS, SHARE),
    )
    top_k: int | None = field(
        default=None,
        metadata=declare("Draw among so many of the most probable tokens", TOKENS, (1, MAX_TOP_K)),
    )
    egi_temperature: float | None = field(
        default=None,
        metadata=declare(
            "Draw the first token alone, at this temperature, where H is largest",
            TOKENS,
            TEMPERATURES,
            draws=True,
        ),
    )
    history: int = field(
        default=0,
        metadata=declare(
            "Rank and fill by the mean of this and so many earlier distributions",
            TOKENS,
            (0, MAX_HISTORY),
        ),
    )
    history_top: int = field(
        default=4,
        metadata=declare(
            "Probabilities kept of each distribution in the history", TOKENS, (1, MAX_HISTORY_TOP)
        ),
    )

    alg: Alg = field(
        default="entropy",
        metadata=declare(
            "Score that ranks masks; origin draws the step of each mask", ORDER, draws=("origin",)
        ),
    )
    alg_temp: float | None = field(
        default=None,
        metadata=declare(
            "Temperature of that ranking; 0 takes the surest masks",
            ORDER,
            TEMPERATURES,
            or_zero=True,
            draws=True,
        ),
    )
    order: Order = field(
        default="confidence",
        metadata=declare(
            "Rank by alg (confidence), by position, or by noise", ORDER, draws=("random",)
        ),
    )
    block_length: int | None = field(
        default=None,
        metadata=declare(
            "Fill masks in blocks of so many, one block after the other", ORDER, COUNT
        ),
    )
    frontier: int | None = field(
        default=None,
        metadata=declare("Fill only the first so many masks from the left", ORDER, COUNT),
    )

    threshold: float | None = field(
        default=None,
        metadata=declare("Fill every mask whose best token has this probability", RULES, SHARE),
    )
    low_threshold: float | None = field(
        default=None,
        metadata=declare(
            "With threshold: also the surest mask of each segment that has this", RULES, SHARE
        ),
    )
    factor: float | None = field(
        default=None,
        metadata=declare(
            "Fill the n surest masks for the largest n with (n + 1)(1 - p_n) below this",
            RULES,
            (0, None),
        ),
    )
    entropy_bound: float | None = field(
        default=None,
        metadata=declare(
            "Fill the longest ranked prefix whose joint error is bounded by so many nats",
            RULES,
            (0, None),
        ),
    )
    entropy_threshold: float | None = field(
        default=None,
        metadata=declare("Fill every mask whose entropy in nats is below this", RULES, (0, None)),
    )
    min_commits: int = field(
        default=1, metadata=declare("Fewest masks that a rule fills at a step", RULES, COUNT)
    )
    max_commits: int | None = field(
        default=None, metadata=declare("Most masks that a rule fills at a step", RULES, COUNT)
    )

    eos_frontier: int | None = field(
        default=None,
        metadata=declare(
            "An EOS waits until it is at most so far beyond the first open mask of its hole",
            ENDS,
            REACH,
        ),
    )
    eos_annealing: float | None = field(
        default=None,
        metadata=declare(
            "Divide EOS logits by this when ranking, falling to 1 over the steps", ENDS, (1, 1e4)
        ),
    )
    grow_to: int | None = field(
        default=None,
        metadata=declare(
            "While the last hole has no EOS, run again with it doubled, up to so many tokens",
            ENDS,
            COUNT,
        ),
    )

    window: Window | None = field(
        default=None,
        metadata=declare(
            "Keep keys and values between steps: compute the block, or from it to the end",
            APPROXIMATE,
        ),
    )
    refresh_every: int | None = field(
        default=None,
        metadata=declare(
            "With window: compute all rows again at every so many forward passes",
            APPROXIMATE,
            COUNT,
        ),
    )
    vicinity: int = field(
        default=0,
        metadata=declare("With window: rows computed on both sides of it", APPROXIMATE, REACH),
    )
    suffix_window: int | None = field(
        default=None,
        metadata=declare(
            "Leave out most masks farther than this beyond the block or frontier",
            APPROXIMATE,
            REACH,
        ),
    )

    def __post_init__(self) -> None:
        check_options(self)
        check_together(self)

    @property
    def rule(self) -> str | None:
        """Name of the commit rule, which is the field that switches it on; None without one."""
        if self.low_threshold is not None:
            return "low_threshold"
        return next((name for name in RULE_FIELDS if getattr(self, name) is not None), None)

    @property
    def is_drawn(self) -> bool:
        """Whether the seed matters."""
        options = options_of(SamplingParams)
        drawing = {name for name, one in options.items() if one.is_drawing(getattr(self, name))}
        return bool(drawing - ({"alg_temp"} if self.order != "confidence" else set()))

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


def all_approximations(of_engine: str | None, params: SamplingParams) -> str | None:
    """The approximate modes of an engine and of a request, by name; None for exact decoding."""
    return ", ".join(filter(None, (of_engine, params.approximation))) or None
