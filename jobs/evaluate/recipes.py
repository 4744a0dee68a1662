"""Suites in the text the embedded checkpoint was trained on, and suites from any Parquet file."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.common.errors import Refused
from jobs.evaluate.custom import custom_suite
from jobs.evaluate.recipe_parts import (
    DEFAULT_NUM,
    ORDER,
    SLACK,
    TEST,
    about,
    in_place,
    is_held_out,
    prompt,
    read_span,
    stream,
    suite_of,
)
from jobs.evaluate.suite import Metric, Question, Suite, filled
from jobs.evaluate.suite_options import SuiteOptions
from jobs.tasks import countdown, countdown_planning, equations, lists, prose
from jobs.tasks.base import Problem

__all__ = ["countdown_mini", "custom", "equation_infill", "list_work", "text_infill"]


def countdown_mini(name: str, options: SuiteOptions) -> Suite:
    """Three numbers up to 20, each written with two digits."""
    problems = _draw_mini(options)
    length = countdown.MINI_ANSWER + 1  # room for an end-of-text token
    questions = [
        Question(problem=problem, text=prompt(countdown.mini_prompt(problem.input), length))
        for problem in problems
    ]
    config = about("native", options, countdown) | {"num": len(problems)}
    metrics: dict[str, Metric] = {"acc": countdown.is_correct, "acc_dream": _is_correct_dream}
    return suite_of(name, questions, read_span, metrics, config)


def list_work(name: str, options: SuiteOptions) -> Suite:
    """Sort, reverse, copy and close."""
    num = options.num or DEFAULT_NUM
    questions = [
        Question(
            problem=problem,
            # As long as the item, like every answer, and room for end-of-text tokens.
            text=prompt(lists.prompt_text(problem.input), len(problem.input.split(" ")[1]) + 2),
        )
        for problem in lists.draw(stream(options, TEST), num, held_out=is_held_out(options))
    ]
    config = about("native", options, lists)
    return suite_of(name, questions, read_span, {"acc": lists.is_correct}, config)


def equation_infill(name: str, options: SuiteOptions) -> Suite:
    """Equations with blanks, filled in place."""
    num = options.num or DEFAULT_NUM
    problems = equations.draw(stream(options, TEST), num, held_out=is_held_out(options))
    questions = [in_place(problem, equations.infill_text(problem.input)) for problem in problems]
    config = about("native", options, equations)
    return suite_of(name, questions, _read_equation, {"acc": equations.is_correct}, config)


def text_infill(name: str, options: SuiteOptions) -> Suite:
    """Template prose and JSON with blank fields, filled in place; an answer is the whole text."""
    num, slack = options.num or DEFAULT_NUM, options.slack or 0
    problems = prose.draw(stream(options, TEST), num, held_out=is_held_out(options))
    lengths = stream(options, SLACK)
    problems = [prose.widened(problem, lengths, slack) for problem in problems]
    questions = [in_place(problem, problem.input) for problem in problems]
    config = about("native", options, prose) | {"slack": slack}
    return suite_of(name, questions, filled, {"acc": prose.is_correct}, config)


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


def _draw_mini(options: SuiteOptions) -> list[Problem]:
    """Problems as training draws them; or every problem there is, in an order of the seed."""
    within, held_out = countdown.MINI, is_held_out(options)
    if options.draw == "every":
        problems = countdown.every(within, held_out=held_out)
        order = stream(options, ORDER).permutation(len(problems))
        return [problems[place] for place in order][: options.num]
    num = options.num or DEFAULT_NUM
    return countdown.draw(stream(options, TEST), num, count=3, within=within, held_out=held_out)


def _is_correct_dream(problem_input: str, answer: str) -> bool:
    """The authors' rule, which compares numbers as text, of an answer with leading zeros."""
    return countdown_planning.is_correct(problem_input, countdown.without_zeros(answer))


def _read_equation(question: Question, spans: Sequence[str]) -> str:
    return filled(question, spans).removeprefix("E:")
