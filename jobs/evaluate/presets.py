"""Named settings of published evaluations, as they really were in effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dream.params import Alg, SamplingParams
from jobs.errors import Refused
from jobs.evaluate.suite_options import Form

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What an evaluation sampled with, and how it asked.

    `max_new_tokens` maps the suites it is for to the length of their hole. Nothing is put before
    the prompt where `add_bos` is false.
    """

    about: str
    steps: int
    alg: Alg
    alg_temp: float | None
    eps: float
    temperature: float
    top_p: float | None
    top_k: int | None
    add_bos: bool
    form: Form
    shots: int
    max_new_tokens: Mapping[str, int]

    def sampling(self, *, steps: int | None = None) -> SamplingParams:
        """The parameters, at another number of steps if one is given."""
        return SamplingParams(
            steps=self.steps if steps is None else steps,
            alg=self.alg,
            alg_temp=self.alg_temp,
            eps=self.eps,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
        )


OFFICIAL_PLANNING = Preset(
    about="DreamLM/Dream, eval_dream_gen_planning.sh: Dream 7B Base on Countdown and 4x4 Sudoku",
    steps=512,
    alg="entropy",
    alg_temp=None,
    eps=1e-3,
    temperature=0.0,
    top_p=None,
    top_k=50,
    add_bos=False,
    form="few-shot",
    shots=8,
    max_new_tokens=MappingProxyType(
        {"countdown3": 32, "countdown4": 32, "countdown5": 32, "sudoku4": 24}
    ),
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
