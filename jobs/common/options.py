"""The flags, each with its help; those of `run` have the names and defaults of `JobSpec`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

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
Dtype = Annotated[str | None, Option(help="float32 | bfloat16 | float16 (float32)")]
Device = Annotated[str | None, Option(help="cpu | cuda (cpu)")]

PromptColumn = Annotated[str | None, Option(help="Text column to continue, or to infill.")]
IdColumn = Annotated[str | None, Option(help="Column that comes back as dream_id too.")]
KeepColumns = Annotated[str | None, Option(help="Input columns to keep, as a,b ('*': all)")]
MaxNewTokens = Annotated[int | None, Option(help="Tokens to generate for a prompt (128)")]
MaskToken = Annotated[str | None, Option(help="A run of k of these is a hole ('<|mask|>')")]

Steps = Annotated[int | None, Option(help="Denoising steps (one for each masked token)")]
Alg = Annotated[
    str | None,
    Option(help="origin | maskgit_plus | maskgit_tpp | topk_margin | entropy (entropy)"),
]
AlgTemp = Annotated[float | None, Option(help="Temperature of the choice of positions.")]
Eps = Annotated[float | None, Option(help="End of the time grid (0.001)")]
Temperature = Annotated[float | None, Option(help="0 takes the most probable token (0)")]
TopP = Annotated[float | None, Option(help="Nucleus of the token distribution.")]
TopK = Annotated[int | None, Option(help="Most tokens of the token distribution.")]
Order = Annotated[str | None, Option(help="confidence | random | left_to_right | right_to_left")]
EarlyExit = Annotated[bool | None, Option(help="End a row once its answer is settled (yes)")]
Threshold = Annotated[float | None, Option(help="Fill all masks this probable, and at least one.")]
LowThreshold = Annotated[float | None, Option(help="And the surest of each run, from here.")]
Factor = Annotated[float | None, Option(help="Fill the n surest while (n+1)(1-p) is below this.")]
EntropyBound = Annotated[float | None, Option(help="Fill as many as err this little together.")]
EntropyThreshold = Annotated[float | None, Option(help="Fill all masks of less entropy, nats.")]
MinCommits = Annotated[int | None, Option(help="Fewest masks that such a rule fills at a step (1)")]
MaxCommits = Annotated[int | None, Option(help="Most masks that such a rule fills at a step.")]
BlockLength = Annotated[int | None, Option(help="Fill blocks of so many masks, one by one.")]
Frontier = Annotated[int | None, Option(help="Fill only the first so many masks from the left.")]
EosFrontier = Annotated[int | None, Option(help="An EOS waits beyond so many masked places.")]
EosAnnealing = Annotated[float | None, Option(help="Divide EOS logits by this, falling to 1.")]
EgiTemperature = Annotated[float | None, Option(help="Draw the first token alone, at this.")]
History = Annotated[int | None, Option(help="Average with so many steps before (0)")]
HistoryTop = Annotated[int | None, Option(help="Probabilities kept of each for that (4)")]
GrowTo = Annotated[int | None, Option(help="Double the last hole up to this, until it ends.")]
Window = Annotated[str | None, Option(help="dual | prefix: keep keys and values (approximate)")]
RefreshEvery = Annotated[int | None, Option(help="With a window: all rows at so many passes.")]
Vicinity = Annotated[int | None, Option(help="With a window: rows on both sides of it (0)")]
SuffixWindow = Annotated[int | None, Option(help="Leave out most masks beyond (approximate)")]
Seed = Annotated[int | None, Option(help="Seed of the job; every row derives its own (0)")]

RecordOrder = Annotated[bool | None, Option(help="Fill the column commit_steps (no)")]
Limit = Annotated[int | None, Option(help="Take only the first N rows of the input.")]
Replicas = Annotated[int | None, Option(min=1, help="Engines at work at once (1)")]
Granule = Annotated[int | None, Option(help="Rows committed together (128)")]
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
TrainDtype = Annotated[str | None, Option("--dtype", help="float32 | bfloat16 (float32)")]
Parallel = Annotated[str | None, Option(help="ddp | fsdp (ddp)")]
NumWorkers = Annotated[int | None, Option(help="Training processes (1)")]
