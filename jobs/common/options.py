"""Flags of commands: those of declared options are made from the declaration, others are here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Annotated, TypeVar

from typer import Argument, Option

from dream.engine.config import EngineConfig
from dream.options import Option as Declared
from dream.options import options_of
from dream.params import SamplingParams

Command = TypeVar("Command", bound=Callable[..., None])

NOT_SETTINGS = ("config", "json", "overwrite", "break_lock")
"""Flags of one call of a command; its others are settings."""

Job = Annotated[Path, Option("--output", "-o", help="Folder of the job.")]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object on standard output.")]
BreakLock = Annotated[bool, Option("--break-lock", help="Take over from a driver that is dead.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Move an old output away first.")]
Deep = Annotated[bool, Option("--deep", help="Read every page and checksum too.")]
Config = Annotated[Path | None, Option(help="YAML file of these settings; a flag beats it.")]

Input = Annotated[list[str] | None, Option("--input", "-i", help="Folder, .parquet file or glob.")]
Output = Annotated[str | None, Option("--output", "-o", help="Folder of the job.")]
Task = Annotated[str | None, Option(help="generate | infill")]
Model = Annotated[str | None, Option(help="embedded, a checkpoint folder, or a Hub id.")]
Preset = Annotated[str | None, Option(help="Published defaults: dream-v0-instruct, ..., or none.")]

PromptColumn = Annotated[str | None, Option(help="Text column to continue, or to infill.")]
IdColumn = Annotated[str | None, Option(help="Column that comes back as dream_id too.")]
KeepColumns = Annotated[str | None, Option(help="Input columns to keep, as a,b ('*': all)")]
ParameterColumns = Annotated[
    str | None, Option(help="Columns with parameters of a row, as a,b ('*': all there are; '')")
]
MaxNewTokens = Annotated[int | None, Option(help="Tokens to generate for a prompt (128)")]
MaskToken = Annotated[str | None, Option(help="k of these in a row are a hole ('<|mask|>')")]

Seed = Annotated[int | None, Option(help="Seed of the job; every row derives its own (0)")]
Threads = Annotated[int | None, Option(help="CPU threads, and CPUs, of a replica (1)")]
RecordOrder = Annotated[bool | None, Option(help="Fill the column commit_steps (no)")]
Limit = Annotated[int | None, Option(help="Take only the first N rows of the input.")]
Replicas = Annotated[int | None, Option(min=1, help="Engines at work at once (1)")]
CommitRows = Annotated[int | None, Option(help="Rows committed together (128)")]
OnRowError = Annotated[str | None, Option(help="keep | fail: what an error row means (keep)")]

TrainConfig = Annotated[
    str | None, Option("--config", help="YAML file of these settings, or embedded, nano.")
]
Trained = Annotated[str | None, Option("--output", "-o", help="Folder of the new checkpoint.")]
From = Annotated[
    str | None, Option("--from", help="PATH of a Dream checkpoint to go on from, or: qwen2 PATH")
]
FromPath = Annotated[str | None, Argument(metavar="[PATH]", help="Folder of --from qwen2.")]
Parquet = Annotated[list[str] | None, Option(help="Rows to train on: folder, file or glob.")]
Updates = Annotated[int | None, Option(help="Optimiser updates.")]
Epochs = Annotated[float | None, Option(help="Passes over the rows, instead of updates.")]
BatchSize = Annotated[int | None, Option(help="Rows of an update, over all workers.")]
LearningRate = Annotated[float | None, Option(help="Highest learning rate.")]
TrainDevice = Annotated[str | None, Option("--device", help="cpu | cuda (cpu)")]
TrainDtype = Annotated[str | None, Option("--dtype", help="float32 | bfloat16 (float32)")]
Parallel = Annotated[str | None, Option(help="ddp | fsdp (ddp)")]
NumWorkers = Annotated[int | None, Option(help="Training processes (1)")]


def with_declared_options(command: Command) -> Command:
    """The command with a flag for each sampling parameter and engine setting it has none for.

    It takes them as `**declared`; what was given of them and of its own flags is in its context.
    """
    own = inspect.signature(command, eval_str=True)
    kept = [one for one in own.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    declared = [*options_of(SamplingParams).values(), *options_of(EngineConfig).values()]
    flags = [_flag(one) for one in declared if one.name not in own.parameters]
    command.__dict__["__signature__"] = own.replace(parameters=[*kept, *flags])
    return command


def given(
    params: Mapping[str, object], leave_out: tuple[str, ...] = NOT_SETTINGS
) -> dict[str, object]:
    """The settings among a command's flags that were given."""
    settings = {name: value for name, value in params.items() if name not in leave_out}
    return {name: value for name, value in settings.items() if value not in (None, [], ())}


def _flag(one: Declared) -> Parameter:
    """Wrong values are told by the settings, as those of a YAML file are; so choices are text."""
    choices = f": {' | '.join(one.choices)}" if one.choices else ""
    default = "" if one.default is None else f" ({_shown(one.default)})"
    option = Option(help=f"{one.help}{choices}{default}", rich_help_panel=one.group)
    annotation = Annotated[one.kind | None, option]  # type: ignore[name-defined]
    return Parameter(one.name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"
