"""The suites by name, and how one is made from its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from jobs.common.errors import Refused
from jobs.evaluate import recipes
from jobs.evaluate.suite import Suite
from jobs.evaluate.suite_options import Form, SuiteOptions

__all__ = ["SUITES", "Form", "Recipe", "SuiteOptions", "build_suite", "build_suites"]

DRAWN = frozenset({"num", "seed"})
PROMPTED = frozenset({"shots", "prompt_template", "max_new_tokens"})
"""Options that a native form ignores."""

CUSTOM = frozenset({"num", "data", "task", "prompt_column", "mask_token", "max_new_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a suite is built, its text forms, the default first, and the options it reads.

    A suite without forms takes its text as it is.
    """

    build: Callable[[str, SuiteOptions], Suite]
    forms: tuple[Form, ...]
    reads: frozenset[str]

    def options_of(self, form: Form | None) -> frozenset[str]:
        """The options it reads in a form; None is its default."""
        if not self.forms:
            return self.reads
        if (form or self.forms[0]) == "few-shot":
            return self.reads | {"form"}
        return self.reads - PROMPTED | {"form"}


def _native(build: Callable[[str, SuiteOptions], Suite]) -> Recipe:
    return Recipe(build=build, forms=("native",), reads=DRAWN)


def _countdown(count: int) -> Recipe:
    reads = DRAWN | PROMPTED | {"data"}
    return Recipe(build=recipes.countdown_of(count), forms=("few-shot",), reads=reads)


def _sudoku(side: int, *forms: Form) -> Recipe:
    reads = DRAWN | PROMPTED | {"data", "givens"}
    return Recipe(build=recipes.sudoku_of(side), forms=forms, reads=reads)


SUITES: dict[str, Recipe] = {
    "sudoku4": _sudoku(4, "native", "few-shot"),
    "sudoku6": _sudoku(6, "native"),
    "sudoku9": _sudoku(9, "native"),
    "countdown3": _countdown(3),
    "countdown4": _countdown(4),
    "countdown5": _countdown(5),
    "countdown3-mini": _native(recipes.countdown_mini),
    "infill-eq": _native(recipes.equation_infill),
    "infill-text": _native(recipes.text_infill),
    "lists": _native(recipes.list_work),
    "custom": Recipe(
        build=recipes.custom,
        forms=(),
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
        forms = SUITES[name].forms
        if options.form is not None and forms and options.form not in forms:
            raise Refused(f"form: {name} has no form {options.form!r}, only {', '.join(forms)}")
    read = {name: SUITES[name].options_of(options.form) for name in names}
    given = {f.name for f in fields(options) if getattr(options, f.name) != f.default}
    for option in sorted(given):
        if not any(option in known for known in read.values()):
            known = ", ".join(sorted(frozenset().union(*read.values())))
            raise Refused(f"{option}: no option of {', '.join(names)}; allowed: {known}")
    return [SUITES[name].build(name, options) for name in names]
