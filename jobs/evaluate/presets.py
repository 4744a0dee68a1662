"""Named settings of published evaluations, as they really were in effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dream.params import Alg
from dream.presets import NO_PRESET, read_presets, with_preset
from dream.presets import find_preset as find_model_preset
from jobs.common.errors import Refused
from jobs.evaluate.suite_options import PromptStyle

__all__ = ["PRESETS", "Preset", "Published", "find_preset", "over_preset"]


class Published(NamedTuple):
    """What a published score was measured on: one bucket, so many rows, one instruction."""

    bucket: str
    num: int
    template_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What an evaluation sampled with, and how it asked; `suites` are those it is for."""

    about: str
    suites: Mapping[str, Published]
    steps: int
    alg: Alg
    alg_temp: float | None
    eps: float
    temperature: float
    top_p: float | None
    top_k: int | None
    prompt_style: PromptStyle
    shots: int

    def settings(self) -> dict[str, object]:
        """The settings of `evaluate` that it stands for."""
        names = (name for name in self.__slots__ if name not in ("about", "suites"))
        return {name: getattr(self, name) for name in names}


OFFICIAL_PLANNING = Preset(
    about="DreamLM/Dream, eval_dream_gen_planning.sh: Dream 7B Base on Countdown and 4x4 Sudoku",
    suites={
        "countdown3": Published(
            "3 numbers", 992, "355ef2163e12d0b7a8af3fafc032609a4eedd22cd4f02ed7972df4d1dec11fad"
        ),
        "countdown4": Published(
            "4 numbers", 992, "c09bbbf5a0a44ea8483f3feeaeb63ad02cf3ccdc0bd2cb4ddaf36a10a44c4c9c"
        ),
        "countdown5": Published(
            "5 numbers", 992, "3eeddfe8d348abdfed5ff661980c6b55b12d9a55693b1f6eb4821586a2eafcc9"
        ),
        "sudoku4": Published(
            "10 givens", 100, "236577831ed6f35d4f860864615a936c33407d6f2b042533b1306436f8415b69"
        ),
    },
    steps=512,
    alg="entropy",
    alg_temp=None,
    eps=1e-3,
    temperature=0.0,
    top_p=None,
    top_k=50,
    prompt_style="few-shot",
    shots=8,
)
"""The planning evaluation of the Dream authors.

Their script sets `diffusion_steps` to the number of new tokens, but the generation function knows
`steps` and drops names it does not know: what was in effect is the default of 512 steps, and with
it the default top_k of 50. For 32 new tokens 481 of the 512 passes commit nothing; the engine skips
them and gives the same tokens. top_p is 1 there, which filters nothing. At temperature 0 top_k
changes no argmax, but it does change the entropy that ranks positions.

The digests are of the sentences that open the prompts of eval_planning.py.
"""

PRESETS = {"official-planning": OFFICIAL_PLANNING}


def find_preset(name: str | None) -> Preset | None:
    """The evaluation of that name; None for a model's preset, or for no name.

    An unknown name is refused with those there are.
    """
    known = (*PRESETS, NO_PRESET, *read_presets())
    if name is not None and name not in known:
        raise Refused(f"no preset {name!r}; there are {', '.join(known)}")
    return PRESETS.get(name or NO_PRESET)


def over_preset(given: Mapping[str, object]) -> dict[str, object]:
    """The given settings, over those of the evaluation or the model that `preset` names."""
    named = given.get("preset")
    if not isinstance(named, str):
        return dict(given)
    evaluation = find_preset(named)
    if evaluation is None:
        return with_preset(find_model_preset(named), given)
    return evaluation.settings() | dict(given)
