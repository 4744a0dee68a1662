"""Named settings of published evaluations, as they really were in effect."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from dream.params import Alg
from jobs.common.errors import Refused
from jobs.evaluate.suite_options import Form

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What an evaluation sampled with, and how it asked; `suites` are those it is for."""

    about: str
    suites: tuple[str, ...]
    steps: int
    alg: Alg
    alg_temp: float | None
    eps: float
    temperature: float
    top_p: float | None
    top_k: int | None
    form: Form
    shots: int

    def settings(self) -> dict[str, object]:
        """The settings of `evaluate` that it stands for."""
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in ("about", "suites")}


OFFICIAL_PLANNING = Preset(
    about="DreamLM/Dream, eval_dream_gen_planning.sh: Dream 7B Base on Countdown and 4x4 Sudoku",
    suites=("countdown3", "countdown4", "countdown5", "sudoku4"),
    steps=512,
    alg="entropy",
    alg_temp=None,
    eps=1e-3,
    temperature=0.0,
    top_p=None,
    top_k=50,
    form="few-shot",
    shots=8,
)
"""The planning runs of the Dream authors.

Their script sets `diffusion_steps` to the number of new tokens, but the generation function knows
`steps` and drops names it does not know: what was run is the default of 512 steps, and with it the
default top_k of 50. For 32 new tokens 481 of the 512 passes commit nothing; the engine skips them
and gives the same tokens. top_p is 1 there, which filters nothing. At temperature 0 top_k changes
no argmax, but it does change the entropy that ranks positions.
"""

PRESETS = {"official-planning": OFFICIAL_PLANNING}


def find_preset(name: str) -> Preset:
    """The preset of that name; an unknown name is refused with those there are."""
    if name not in PRESETS:
        raise Refused(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
