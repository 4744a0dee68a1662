"""Suites of the tasks of Dream's planning set: Sudoku, and Countdown as a few-shot prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jobs.common.errors import Refused
from jobs.evaluate.prompts import COUNTDOWN, SUDOKU, Layout, few_shot_prompt, read_instruction
from jobs.evaluate.recipe_parts import (
    DEFAULT_NUM,
    TEST,
    TRAIN,
    Config,
    about,
    in_place,
    is_held_out,
    num_shots,
    prompt,
    stream,
    suite_of,
)
from jobs.evaluate.suite import Metric, Question, Suite, filled
from jobs.evaluate.suite_options import PromptStyle, SuiteOptions
from jobs.tasks import countdown, countdown_planning, sudoku, sudoku_grids
from jobs.tasks.base import MASK, Problem
from jobs.tasks.official import Format, countdown_format, read_official, sudoku_format

__all__ = ["COUNTDOWN_METRICS", "countdown_of", "sudoku_of"]

DEFAULT_GIVENS = {4: tuple(range(4, 13)), 6: (12, 16, 20, 24), 9: (30, 40, 50, 60)}
"""Numbers of clues by side: each is a bucket."""

PLANNING_GIVENS = (10,)
"""Numbers of clues of the puzzles whose score the authors of the planning set publish."""

COUNTDOWN_METRICS: Mapping[str, Metric] = {
    "acc": countdown.is_correct,
    "acc_dream": countdown_planning.is_correct,
}


class Drawn(NamedTuple):
    """Problems to ask, each group with the examples of its prompts, and what to record of them."""

    groups: list[tuple[list[Problem], list[Problem]]]
    config: Config


def sudoku_of(side: int) -> Callable[[str, SuiteOptions], Suite]:
    """Sudoku of that side: one bucket for each number of givens."""

    def build(name: str, options: SuiteOptions) -> Suite:
        style = options.prompt_style or "native"
        drawn = _draw_sudoku(side, style, options)
        if style == "few-shot":
            return _few_shot(name, "sudoku", SUDOKU, drawn, options, {"acc": sudoku.is_correct})
        questions = [
            in_place(problem, "S:" + problem.input.replace("\n", "/").replace("0", MASK))
            for problems, _ in drawn.groups
            for problem in problems
        ]
        return suite_of(name, questions, _read_cells, {"acc": sudoku.is_correct}, drawn.config)

    return build


def countdown_of(count: int) -> Callable[[str, SuiteOptions], Suite]:
    """Countdown with so many numbers up to 100, as a few-shot prompt."""

    def build(name: str, options: SuiteOptions) -> Suite:
        drawn = _draw_countdown(count, options)
        return _few_shot(name, name, COUNTDOWN, drawn, options, COUNTDOWN_METRICS)

    return build


def _draw_sudoku(side: int, style: PromptStyle, options: SuiteOptions) -> Drawn:
    config = about(style, options, sudoku)
    if options.data is not None:
        return _draw_file(options.data, sudoku_format(side), style, options, config)
    num, shots = options.num or DEFAULT_NUM, num_shots(style, options)
    num_cells = sudoku_grids.BOARDS[side].num_cells
    default = PLANNING_GIVENS if options.draw == "planning" else DEFAULT_GIVENS[side]
    groups: list[tuple[list[Problem], list[Problem]]] = []
    for givens in options.givens or default:
        if givens >= num_cells:
            raise Refused(f"givens: {givens} is not in 0..{num_cells - 1}, which leaves a blank")
        test, train = stream(options, TEST, givens), stream(options, TRAIN, givens)
        problems = sudoku.draw(test, num, side=side, givens=givens, held_out=is_held_out(options))
        examples = sudoku.draw(train, shots, side=side, givens=givens, held_out=False)
        groups.append((problems, examples))
    givens_text = ",".join(map(str, options.givens or default))
    return Drawn(groups, config | {"givens": givens_text})


def _draw_countdown(count: int, options: SuiteOptions) -> Drawn:
    is_planning = options.draw == "planning"
    task = countdown_planning if is_planning else countdown
    config = about("few-shot", options, task)
    if options.data is not None:
        return _draw_file(options.data, countdown_format(count), "few-shot", options, config)
    test, train = stream(options, TEST), stream(options, TRAIN)
    num, shots = options.num or DEFAULT_NUM, num_shots("few-shot", options)
    if is_planning:
        problems = countdown_planning.draw(test, num, count=count)
        examples = countdown_planning.draw(train, shots, count=count, held_out=False)
    else:
        full = countdown.FULL
        problems = countdown.draw(test, num, count=count, within=full)
        examples = countdown.draw(train, shots, count=count, within=full, held_out=False)
    return Drawn([(problems, examples)], config)


def _few_shot(
    name: str,
    template: str,
    layout: Layout,
    drawn: Drawn,
    options: SuiteOptions,
    metrics: Mapping[str, Metric],
) -> Suite:
    instruction = read_instruction(template, options.prompt_template)
    length = options.max_new_tokens or layout.max_new_tokens
    questions = [
        Question(
            problem=problem,
            text=prompt(few_shot_prompt(instruction.text, layout, examples, problem.input), length),
        )
        for problems, examples in drawn.groups
        for problem in problems
    ]

    def read_answer(question: Question, spans: Sequence[str]) -> str:
        return layout.cut(question.problem.input, "".join(spans))

    more: Config = {"template_sha256": instruction.sha256, "max_new_tokens": length}
    return suite_of(name, questions, read_answer, metrics, drawn.config | more)


def _draw_file(
    path: str,
    row_format: Format,
    style: PromptStyle,
    options: SuiteOptions,
    config: Config,
) -> Drawn:
    """The first rows of an official file as examples, the rest as problems."""
    for name in ("givens", "draw", "split"):
        if getattr(options, name) is not None:
            raise Refused(f"{name}: {path} says which problems there are; leave it out")
    problems, digest = read_official(path, row_format)
    shots = num_shots(style, options)
    if len(problems) <= shots:
        raise Refused(f"{path}: of {len(problems)} rows {shots} are examples; none is left to ask")
    asked = problems[shots:][: options.num]
    more: Config = {
        "draw": None,
        "num": len(asked),
        "seed": None,
        "split": "file",
        "data": Path(path).name,
        "data_sha256": digest,
    }
    return Drawn([(asked, problems[:shots])], config | more)


def _read_cells(question: Question, spans: Sequence[str]) -> str:
    """The grid in the official format."""
    return filled(question, spans).removeprefix("S:").replace("/", "\n")
