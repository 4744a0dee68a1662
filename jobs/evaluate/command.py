"""`python -m jobs evaluate`: its flags, and what it prints."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Option

from jobs.common import options as flag
from jobs.common.errors import RowsFailed

if TYPE_CHECKING:
    from jobs.evaluate.driver import Evaluation

__all__ = ["evaluate"]

PLAIN_WIDTH = 140
"""Columns of the table where standard output is no terminal."""

Suites = Annotated[list[str] | None, Option("--suite", help="sudoku4, ...; may be repeated.")]
Steps = Annotated[str | None, Option(help="1,2,4,...; full: one for each masked token (full)")]
Algs = Annotated[str | None, Option(help="a,b of origin, maskgit_plus, maskgit_tpp, ...")]
Orders = Annotated[str | None, Option(help="a,b of confidence, random, left_to_right, ...")]
Out = Annotated[str | None, Option("--out", "--output", "-o", help="Folder of the evaluation.")]
Preset = Annotated[str | None, Option(help="official-planning, or defaults of a model.")]
Num = Annotated[int | None, Option("--num", "-n", help="Problems of a suite or bucket (1000)")]
Givens = Annotated[str | None, Option(help="Sudoku: numbers of clues, as 4,8.")]
PromptStyle = Annotated[str | None, Option(help="native | few-shot: how problems are put.")]
Draw = Annotated[str | None, Option(help="plain | planning | every: which problems (plain)")]
Split = Annotated[str | None, Option(help="test | train: never shown in training, or shown (test)")]
Slack = Annotated[int | None, Option(help="infill-text: holes up to this much too long (0)")]
Shots = Annotated[int | None, Option(help="Examples in a few-shot prompt (8)")]
Template = Annotated[str | None, Option(help="File of the instruction of few-shot prompts.")]
Data = Annotated[str | None, Option(help="File of problems: Dream's planning set, or Parquet.")]
Task = Annotated[str | None, Option(help="custom: generate | infill (generate)")]
Reference = Annotated[str | None, Option(help="custom: column with the right answer.")]
Bucket = Annotated[str | None, Option(help="custom: column to report by.")]
Scorer = Annotated[str | None, Option(help="custom: module:function that scores (row, answer).")]
Seed = Annotated[int | None, Option(help="Seed of the problems and of every row (0)")]


@flag.with_declared_options
def evaluate(
    ctx: typer.Context,
    suite: Suites = None,
    output: Out = None,
    config: flag.Config = None,
    model: flag.Model = None,
    steps: Steps = None,
    alg: Algs = None,
    order: Orders = None,
    num: Num = None,
    seed: Seed = None,
    preset: Preset = None,
    givens: Givens = None,
    prompt_style: PromptStyle = None,
    draw: Draw = None,
    split: Split = None,
    slack: Slack = None,
    shots: Shots = None,
    prompt_template: Template = None,
    max_new_tokens: flag.MaxNewTokens = None,
    data: Data = None,
    task: Task = None,
    prompt_column: flag.PromptColumn = None,
    mask_token: flag.MaskToken = None,
    reference_column: Reference = None,
    bucket_column: Bucket = None,
    scorer: Scorer = None,
    replicas: flag.Replicas = None,
    threads: flag.Threads = None,
    commit_rows: flag.CommitRows = None,
    json: flag.AsJson = False,
    overwrite: flag.Overwrite = False,
    break_lock: flag.BreakLock = False,
    **declared: object,
) -> None:
    """Measure quality against denoising steps on problems with exact scores."""
    from jobs.evaluate.config import load_eval_spec
    from jobs.evaluate.curves import as_table
    from jobs.evaluate.driver import evaluate as drive

    spec = load_eval_spec(flag.given(ctx.params), config)
    found = drive(spec, overwrite=overwrite, break_lock=break_lock)
    if json:
        print(json_text.dumps(found.results, indent=1, ensure_ascii=False))
    else:
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(as_table(found.entries))
        for remark in _remarks(found):
            print(remark)
        print(f"{spec.output}/results.json, samples/, plots/")
    if empty := [entry.name for entry in found.entries if not entry.is_measured()]:
        raise RowsFailed(f"every row failed, so nothing was measured of {', '.join(empty)}")


def _remarks(found: Evaluation) -> Iterator[str]:
    """What a reader of the table must know beside it."""
    errors = [s.row["error_message"] for e in found.entries for s in e.samples if s.answer is None]
    if errors:
        yield f"{len(errors):,} rows failed and count as wrong; the first: {errors[0]}"
    if found.departures:
        yield "These scores cannot be set beside published ones:"
        yield from (f"- {departure}" for departure in found.departures)
