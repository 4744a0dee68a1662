"""The suites by name, and how one is made from its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from jobs.common.errors import Refused
from jobs.evaluate import recipes, recipes_planning
from jobs.evaluate.suite import Suite
from jobs.evaluate.suite_options import Draw, PromptStyle, SuiteOptions

__all__ = ["SUITES", "Recipe", "SuiteOptions", "build_suite", "build_suites"]

DRAWN = frozenset({"num", "seed"})
PROMPTED = frozenset({"shots", "prompt_template", "max_new_tokens"})
"""Options that a native style ignores."""

CUSTOM = frozenset({"num", "data", "task", "prompt_column", "mask_token", "max_new_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a suite is built, its prompt styles and draws, the default first, and what it reads.

    A suite without styles takes its text as it is.
    """

    build: Callable[[str, SuiteOptions], Suite]
    styles: tuple[PromptStyle, ...]
    draws: tuple[Draw, ...] = ("plain",)
    reads: frozenset[str]

    def options_of(self, style: PromptStyle | None) -> frozenset[str]:
        """The options it reads in a style; None is its default."""
        if not self.styles:
            return self.reads
        reads = self.reads | {"prompt_style"} | ({"draw"} if len(self.draws) > 1 else set())
        if (style or self.styles[0]) == "few-shot":
            return reads - {"split"}
        return reads - PROMPTED


def _native(
    build: Callable[[str, SuiteOptions], Suite], *draws: Draw, reads: frozenset[str] = frozenset()
) -> Recipe:
    reads = DRAWN | {"split"} | reads
    return Recipe(build=build, styles=("native",), draws=draws or ("plain",), reads=reads)


def _countdown(count: int) -> Recipe:
    return Recipe(
        build=recipes_planning.countdown_of(count),
        styles=("few-shot",),
        draws=("plain", "planning"),
        reads=DRAWN | PROMPTED | {"data"},
    )


def _sudoku(side: int, *styles: PromptStyle, draws: tuple[Draw, ...] = ("plain",)) -> Recipe:
    reads = DRAWN | PROMPTED | {"data", "givens", "split"}
    return Recipe(build=recipes_planning.sudoku_of(side), styles=styles, draws=draws, reads=reads)


SUITES: dict[str, Recipe] = {
    "sudoku4": _sudoku(4, "native", "few-shot", draws=("plain", "planning")),
    "sudoku6": _sudoku(6, "native"),
    "sudoku9": _sudoku(9, "native"),
    "countdown3": _countdown(3),
    "countdown4": _countdown(4),
    "countdown5": _countdown(5),
    "countdown3-mini": _native(recipes.countdown_mini, "plain", "every"),
    "infill-eq": _native(recipes.equation_infill),
    "infill-text": _native(recipes.text_infill, reads=frozenset({"slack"})),
    "lists": _native(recipes.list_work),
    "custom": Recipe(
        build=recipes.custom,
        styles=(),
        reads=CUSTOM | {"reference_column", "bucket_column", "scorer"},
    ),
}


def build_suite(name: str, options: SuiteOptions) -> Suite:
    """The suite of that name; an unknown name, and an option it does not read, is refused."""
    return build_suites([name], options)[0]


def build_suites(names: Sequence[str], options: SuiteOptions) -> list[Suite]:
    """Suites by name, each with the options it reads; an option that none reads is refused."""
    for name in names:
        if name not in SUITES:
            raise Refused(f"no suite {name!r}; there are {', '.join(SUITES)}")
        _check_choice(name, "prompt_style", options.prompt_style, SUITES[name].styles)
        _check_choice(name, "draw", options.draw, SUITES[name].draws)
    read = {name: SUITES[name].options_of(options.prompt_style) for name in names}
    given = {f.name for f in fields(options) if getattr(options, f.name) != f.default}
    for option in sorted(given):
        if not any(option in known for known in read.values()):
            known = ", ".join(sorted(frozenset().union(*read.values())))
            raise Refused(f"{option}: no option of {', '.join(names)}; allowed: {known}")
    return [SUITES[name].build(name, options) for name in names]


def _check_choice(suite: str, option: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and known and value not in known:
        raise Refused(f"{option}: {suite} has no {value!r}, only {', '.join(known)}")
