"""How each suite is built: the problems it draws, its text form, and how answers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from dream.template import Hole
from dream.text import TextTemplate
from jobs.common.errors import Refused
from jobs.evaluate.custom import custom_suite
from jobs.evaluate.prompts import COUNTDOWN, SUDOKU, Layout, few_shot_prompt, read_instruction
from jobs.evaluate.suite import Metric, Question, Suite, filled
from jobs.evaluate.suite_options import Form, SuiteOptions
from jobs.tasks import countdown, equations, lists, prose, sudoku, sudoku_grids
from jobs.tasks.base import MASK, Problem
from jobs.tasks.official import Format, countdown_format, read_official, sudoku_format
from jobs.tasks.sources import source_sha256, task_modules

__all__ = ["DEFAULT_GIVENS", "DEFAULT_NUM", "DEFAULT_SHOTS", "countdown_mini", "countdown_of"]
__all__ += ["custom", "equation_infill", "list_work", "sudoku_of", "text_infill"]

Config = dict[str, str | int | float | None]

DEFAULT_NUM = 1000
DEFAULT_SHOTS = 8
DEFAULT_GIVENS = {4: tuple(range(4, 13)), 6: (12, 16, 20, 24), 9: (30, 40, 50, 60)}
"""Numbers of clues by side: each is a bucket."""

TEST, TRAIN = 0, 1
"""Streams of a seed: questions, and the examples of few-shot prompts."""


class Drawn(NamedTuple):
    """Problems to ask, each group with the examples of its prompts, and what to record of them."""

    groups: list[tuple[list[Problem], list[Problem]]]
    config: Config


def sudoku_of(side: int) -> Callable[[str, SuiteOptions], Suite]:
    """Sudoku of that side: one bucket for each number of givens."""

    def build(name: str, options: SuiteOptions) -> Suite:
        form = options.form or "native"
        drawn = _draw_sudoku(side, form, options)
        if form == "few-shot":
            return _few_shot(name, "sudoku", SUDOKU, drawn, options, {"acc": sudoku.is_correct})
        questions = [
            _in_place(problem, "S:" + problem.input.replace("\n", "/").replace("0", MASK))
            for problems, _ in drawn.groups
            for problem in problems
        ]
        return _suite(name, questions, _read_cells, {"acc": sudoku.is_correct}, drawn.config)

    return build


def _draw_sudoku(side: int, form: Form, options: SuiteOptions) -> Drawn:
    config = _about(form, options, sudoku)
    if options.data is not None:
        if options.givens is not None:
            raise Refused(f"givens: {options.data} says which puzzles there are; leave it out")
        return _draw_file(options.data, sudoku_format(side), form, options, config)
    num, shots = options.num or DEFAULT_NUM, _num_shots(form, options)
    num_cells = sudoku_grids.BOARDS[side].num_cells
    groups: list[tuple[list[Problem], list[Problem]]] = []
    for givens in options.givens or DEFAULT_GIVENS[side]:
        if givens >= num_cells:
            raise Refused(f"givens: {givens} is not in 0..{num_cells - 1}, which leaves a blank")
        test, train = (np.random.default_rng([options.seed, s, givens]) for s in (TEST, TRAIN))
        problems = sudoku.draw(test, num, side=side, givens=givens)
        examples = sudoku.draw(train, shots, side=side, givens=givens, held_out=False)
        groups.append((problems, examples))
    givens_text = ",".join(map(str, options.givens or DEFAULT_GIVENS[side]))
    return Drawn(groups, config | {"givens": givens_text})


def countdown_of(count: int) -> Callable[[str, SuiteOptions], Suite]:
    """Countdown with so many numbers up to 100, as a few-shot prompt."""

    def build(name: str, options: SuiteOptions) -> Suite:
        config = _about("few-shot", options, countdown)
        if options.data is not None:
            drawn = _draw_file(options.data, countdown_format(count), "few-shot", options, config)
        else:
            num, full = options.num or DEFAULT_NUM, countdown.FULL
            test, train = _streams(options)
            problems = countdown.draw(test, num, count=count, within=full)
            shots = _num_shots("few-shot", options)
            examples = countdown.draw(train, shots, count=count, within=full, held_out=False)
            drawn = Drawn([(problems, examples)], config)
        return _few_shot(name, name, COUNTDOWN, drawn, options, _COUNTDOWN_METRICS)

    return build


def countdown_mini(name: str, options: SuiteOptions) -> Suite:
    """Three numbers up to 20 in the embedded checkpoint's form."""
    num = options.num or DEFAULT_NUM
    problems = countdown.draw(_streams(options)[0], num, count=3, within=countdown.MINI)
    length = countdown.MINI_ANSWER + 1  # room for an end-of-text token
    questions = [
        Question(problem=problem, pieces=(countdown.mini_prompt(problem.input), length))
        for problem in problems
    ]
    config = _about("native", options, countdown)
    return _suite(name, questions, _read_span, _COUNTDOWN_METRICS, config)


def list_work(name: str, options: SuiteOptions) -> Suite:
    """Sort, reverse, copy and close, in the embedded checkpoint's form."""
    num = options.num or DEFAULT_NUM
    questions = [
        Question(
            problem=problem,
            # As long as the item, like every answer, and room for end-of-text tokens.
            pieces=(lists.prompt_text(problem.input), len(problem.input.split(" ")[1]) + 2),
        )
        for problem in lists.draw(_streams(options)[0], num)
    ]
    config = _about("native", options, lists)
    return _suite(name, questions, _read_span, {"acc": lists.is_correct}, config)


def equation_infill(name: str, options: SuiteOptions) -> Suite:
    """Equations with blanks, filled in place."""
    num = options.num or DEFAULT_NUM
    problems = equations.draw(_streams(options)[0], num)
    questions = [_in_place(problem, equations.infill_text(problem.input)) for problem in problems]
    config = _about("native", options, equations)
    return _suite(name, questions, _read_equation, {"acc": equations.is_correct}, config)


def text_infill(name: str, options: SuiteOptions) -> Suite:
    """Template prose and JSON with blank fields, filled in place; an answer is the whole text."""
    num = options.num or DEFAULT_NUM
    problems = prose.draw(_streams(options)[0], num)
    questions = [_in_place(problem, problem.input) for problem in problems]
    config = _about("native", options, prose)
    return _suite(name, questions, filled, {"acc": prose.is_correct}, config)


def custom(name: str, options: SuiteOptions) -> Suite:
    """The rows of a Parquet file."""
    if options.data is None:
        raise Refused("data: suite custom needs a Parquet file")
    return custom_suite(
        data=options.data,
        task=options.task or "generate",
        prompt_column=options.prompt_column,
        mask_token=options.mask_token or "<|mask|>",
        max_new_tokens=options.max_new_tokens or 128,
        reference_column=options.reference_column,
        bucket_column=options.bucket_column,
        scorer=options.scorer,
        num=options.num,
    )


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
            pieces=(few_shot_prompt(instruction.text, layout, examples, problem.input), length),
        )
        for problems, examples in drawn.groups
        for problem in problems
    ]

    def read_answer(question: Question, spans: Sequence[str]) -> str:
        return layout.cut(question.problem.input, "".join(spans))

    about: Config = {"template_sha256": instruction.sha256, "max_new_tokens": length}
    return _suite(name, questions, read_answer, metrics, drawn.config | about)


def _draw_file(
    path: str,
    row_format: Format,
    form: Form,
    options: SuiteOptions,
    config: Config,
) -> Drawn:
    """The first rows of an official file as examples, the rest as problems."""
    problems, digest = read_official(path, row_format)
    shots = _num_shots(form, options)
    if len(problems) <= shots:
        raise Refused(f"{path}: of {len(problems)} rows {shots} are examples; none is left to ask")
    asked = problems[shots:][: options.num]
    about: Config = {
        "num": len(asked),
        "seed": None,
        "split": "file",
        "data": Path(path).name,
        "data_sha256": digest,
    }
    return Drawn([(asked, problems[:shots])], config | about)


def _suite(
    name: str,
    questions: list[Question],
    read_answer: Callable[[Question, Sequence[str]], str],
    metrics: Mapping[str, Metric],
    config: Config,
) -> Suite:
    return Suite(
        name=name,
        version=1,
        questions=tuple(questions),
        read_answer=read_answer,
        metrics=metrics,
        config=config,
    )


def _about(form: Form, options: SuiteOptions, task: ModuleType) -> Config:
    """What suites of generated problems record, down to the code that makes and scores them."""
    shots = _num_shots(form, options)
    return {
        "form": form,
        "num": options.num or DEFAULT_NUM,
        "seed": options.seed,
        "split": "test",
        "shots": shots,
        "generator_sha256": source_sha256(task_modules(task.__name__)),
    }


def _num_shots(form: Form, options: SuiteOptions) -> int:
    if form == "native":
        return 0
    return DEFAULT_SHOTS if options.shots is None else options.shots


def _streams(options: SuiteOptions) -> tuple[np.random.Generator, np.random.Generator]:
    test, train = (np.random.default_rng([options.seed, stream]) for stream in (TEST, TRAIN))
    return test, train


def _in_place(problem: Problem, text: str) -> Question:
    """A text in which k masks in a row are a hole of k tokens."""
    pieces = TextTemplate.from_masked_text(text, MASK).pieces
    return Question(
        problem=problem,
        pieces=tuple(p.num_tokens if isinstance(p, Hole) else str(p) for p in pieces),
    )


def _read_span(question: Question, spans: Sequence[str]) -> str:
    return "".join(spans)


def _read_equation(question: Question, spans: Sequence[str]) -> str:
    return filled(question, spans).removeprefix("E:")


def _read_cells(question: Question, spans: Sequence[str]) -> str:
    """The grid in the official format."""
    return filled(question, spans).removeprefix("S:").replace("/", "\n")


_COUNTDOWN_METRICS: Mapping[str, Metric] = {
    "acc": countdown.is_correct,
    "acc_dream": countdown.is_correct_dream,
}
