"""`python -m jobs`: Parquet in, Parquet out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from dream.errors import DreamError
from jobs.common import options as flag
from jobs.common.errors import JobError
from jobs.evaluate.command import evaluate
from jobs.fill.config import load_spec
from jobs.fill.ledger import JobFolder
from jobs.fill.report import as_lines, raise_if_all_failed, read_status
from jobs.fill.verify import verify

__all__ = ["app", "main"]

NOT_TRAIN_SETTINGS = ("config", "path", "from_")
"""Of `train`: where its settings come from, and the two parts of the setting `from`."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(evaluate)


@app.command()
@flag.with_declared_options
def run(
    ctx: typer.Context,
    input: flag.Input = None,
    output: flag.Output = None,
    task: flag.Task = None,
    config: flag.Config = None,
    model: flag.Model = None,
    preset: flag.Preset = None,
    prompt_column: flag.PromptColumn = None,
    id_column: flag.IdColumn = None,
    keep_columns: flag.KeepColumns = None,
    parameter_columns: flag.ParameterColumns = None,
    max_new_tokens: flag.MaxNewTokens = None,
    mask_token: flag.MaskToken = None,
    seed: flag.Seed = None,
    record_order: flag.RecordOrder = None,
    limit: flag.Limit = None,
    replicas: flag.Replicas = None,
    threads: flag.Threads = None,
    commit_rows: flag.CommitRows = None,
    on_row_error: flag.OnRowError = None,
    json: flag.AsJson = False,
    overwrite: flag.Overwrite = False,
    break_lock: flag.BreakLock = False,
    **declared: object,
) -> None:
    """Fill every row of the input, or go on where the same job was interrupted."""
    from jobs.fill import drive  # torch, which status and verify do without

    spec = load_spec(flag.given(ctx.params), config)
    folder = drive.run(spec, overwrite=overwrite, break_lock=break_lock)
    _tell(folder, as_json=json)


@app.command()
def resume(
    output: flag.Job,
    replicas: flag.Replicas = None,
    break_lock: flag.BreakLock = False,
    json: flag.AsJson = False,
) -> None:
    """Go on with an interrupted job exactly as it was begun."""
    from jobs.fill import drive

    folder = drive.resume(output, replicas=replicas, break_lock=break_lock)
    _tell(folder, as_json=json)


@app.command()
def status(output: flag.Job, json: flag.AsJson = False) -> None:
    """Say how far a job is."""
    print(as_lines(read_status(_folder(output)), as_json=json))


@app.command("verify")
def verify_command(output: flag.Job, deep: flag.Deep = False) -> None:
    """Prove that a finished output holds every row exactly once."""
    folder = _folder(output)
    record = folder.read_record()
    if not folder.success.exists():
        print(as_lines(read_status(folder), as_json=False))
        raise typer.Exit(4)
    problems = verify(folder, deep=deep)
    print("\n".join(problems) or f"{record.num_rows:,} rows in and out, each of them once")
    raise typer.Exit(1 if problems else 0)


@app.command("train")
def train_command(
    ctx: typer.Context,
    path: flag.FromPath = None,
    config: flag.TrainConfig = None,
    output: flag.Trained = None,
    from_: flag.From = None,
    parquet: flag.Parquet = None,
    updates: flag.Updates = None,
    epochs: flag.Epochs = None,
    batch_size: flag.BatchSize = None,
    seed: flag.Seed = None,
    learning_rate: flag.LearningRate = None,
    device: flag.TrainDevice = None,
    dtype: flag.TrainDtype = None,
    parallel: flag.Parallel = None,
    num_workers: flag.NumWorkers = None,
) -> None:
    """Train a model, or go on where the same run was interrupted."""
    from jobs.train.config import load_train_spec  # torch and Ray Train, which no other verb loads
    from jobs.train.driver import train

    given = flag.given(ctx.params, leave_out=NOT_TRAIN_SETTINGS)
    if from_ is not None or path is not None:
        given["from"] = " ".join(part for part in (from_, path) if part is not None)
    train(load_train_spec(given, config), lambda line: print(line, file=sys.stderr, flush=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit; an error of ours is told in its own words, not as a traceback."""
    try:
        app(arguments)
    except DreamError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, JobError) else 1)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _tell(folder: JobFolder, *, as_json: bool) -> None:
    """Print how a job ended; one that filled no row ends the command with exit code 6."""
    status = read_status(folder)
    print(as_lines(status, as_json=as_json))
    raise_if_all_failed(status)


def _folder(output: Path) -> JobFolder:
    return JobFolder(Path(os.path.abspath(output)))


if __name__ == "__main__":
    main()
