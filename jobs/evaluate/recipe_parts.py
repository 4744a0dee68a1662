"""What recipes share: how a suite is put together, and what it records of its problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import numpy as np

from dream.template import Hole
from dream.text import TextTemplate
from jobs.evaluate.suite import Metric, Question, Suite
from jobs.evaluate.suite_options import PromptStyle, SuiteOptions
from jobs.tasks.base import MASK, Problem
from jobs.tasks.sources import source_sha256, task_modules

__all__ = ["DEFAULT_NUM", "DEFAULT_SHOTS", "ORDER", "SLACK", "TEST", "TRAIN", "Config"]
__all__ += ["about", "in_place", "is_held_out", "num_shots", "prompt", "read_span", "stream"]
__all__ += ["suite_of"]

Config = dict[str, str | int | float | None]

DEFAULT_NUM = 1000
DEFAULT_SHOTS = 8

TEST, TRAIN, SLACK, ORDER = range(4)
"""Streams of a seed: questions, the examples of few-shot prompts, lengths of holes, their order."""


def suite_of(
    name: str,
    questions: list[Question],
    read_answer: Callable[[Question, Sequence[str]], str],
    metrics: Mapping[str, Metric],
    config: Config,
) -> Suite:
    """A suite of the first version."""
    return Suite(
        name=name,
        version=1,
        questions=tuple(questions),
        read_answer=read_answer,
        metrics=metrics,
        config=config,
    )


def about(style: PromptStyle, options: SuiteOptions, task: ModuleType) -> Config:
    """What suites of generated problems record, down to the code that makes and scores them."""
    return {
        "prompt_style": style,
        "draw": options.draw or "plain",
        "num": options.num or DEFAULT_NUM,
        "seed": options.seed,
        "split": options.split or "test",
        "shots": num_shots(style, options),
        "generator_sha256": source_sha256(task_modules(task.__name__)),
    }


def num_shots(style: PromptStyle, options: SuiteOptions) -> int:
    """Examples of a prompt; a native style has none."""
    if style == "native":
        return 0
    return DEFAULT_SHOTS if options.shots is None else options.shots


def is_held_out(options: SuiteOptions) -> bool:
    """Whether the problems that training never shows are asked."""
    return options.split != "train"


def stream(options: SuiteOptions, *key: int) -> np.random.Generator:
    """The generator of one stream of the seed."""
    return np.random.default_rng([options.seed, *key])


def prompt(text: str, length: int) -> TextTemplate:
    """A prompt and one hole of so many tokens after it."""
    return TextTemplate([text, Hole(length)])


def in_place(problem: Problem, text: str) -> Question:
    """A text in which k masks in a row are a hole of k tokens."""
    return Question(problem=problem, text=TextTemplate.from_masked_text(text, MASK))


def read_span(question: Question, spans: Sequence[str]) -> str:
    """What the one hole was filled with."""
    return "".join(spans)
