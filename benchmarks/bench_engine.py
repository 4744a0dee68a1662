"""The engine against the plain official loop, side by side in one run.

The body has random weights: 10 layers of width 384 (17 M). A case is a batch of equal shape; its
cost is taken at a few states of the canvas, from nearly empty to nearly full, where both take one
step in turn. What a step costs depends on the masks that are left and not on the step's number,
so a run costs the mean over the states times its steps: all of them for the loop, and for the
engine those that commit. Greedy steps in float32 must give the same canvas.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.model import body_17m
from benchmarks.hardware import describe
from benchmarks.official_loop import Options, denoise
from dream import Engine, EngineConfig, Request, SamplingParams, Template
from dream.memory import DType
from dream.model.loader import DTYPES
from dream.model.modeling import DreamModel
from dream.timetable import commit_counts

RESULTS = Path(__file__).parent / "results"
SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {},
    "filtered": {"temperature": 0.2, "top_p": 0.95, "top_k": 50},
}
STATES, REPEATS = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What both run: `batch` prompts of `prompt` tokens, `canvas` masks each."""

    setting: str
    vocabulary: int = 152_064
    batch: int = 8
    prompt: int = 32
    canvas: int = 128
    steps: int = 128
    dtype: DType = "float32"

    @property
    def num_forwards(self) -> int:
        """Steps that commit something."""
        return len(commit_counts(self.canvas, self.steps, 1e-3))


CASES = [
    *[Case(setting="greedy", batch=batch) for batch in (1, 8, 32)],
    *[Case(setting="filtered", batch=batch) for batch in (1, 8)],
    *[Case(setting=setting, canvas=256, steps=512) for setting in SETTINGS],
    *[Case(setting=setting, dtype="bfloat16") for setting in SETTINGS],
    *[
        Case(setting=setting, vocabulary=8192, batch=batch)
        for setting in SETTINGS
        for batch in (1, 8, 32)
    ],
    *[Case(setting="greedy", vocabulary=8192, prompt=prompt) for prompt in (256, 1024)],
    Case(setting="greedy", vocabulary=8192, canvas=256, steps=512),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: a whole run of each, in new tokens per second."""

    setting: str
    vocabulary: int
    batch: int
    prompt: int
    canvas: int
    steps: int
    dtype: DType
    loop_tokens_per_s: float
    engine_tokens_per_s: float
    ratio: float
    loop_peak_mb: int | None
    engine_peak_mb: int | None


@cache
def build_model(vocabulary: int, dtype: DType) -> DreamModel:
    """The stand-in model with random weights; its mask id is the last but one."""
    torch.manual_seed(0)
    config = body_17m(vocabulary)
    model = DreamModel(config)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=0.05)
    # The plain loop has no guard against predicting the mask, so it must not be predicted.
    model.lm_head.weight[vocabulary - 2] = 0
    model.to(DTYPES[dtype])
    return model


def canvases(case: Case, left: int) -> Tensor:
    """Token ids [B, L] with `left` masks each, anywhere behind the prompt."""
    generator = torch.Generator().manual_seed(left)
    shape = (case.batch, case.prompt + case.canvas)
    ids_BL = torch.randint(0, case.vocabulary - 2, shape, generator=generator)
    order_BC = torch.rand(case.batch, case.canvas, generator=generator).argsort(1)
    ids_BL[:, case.prompt :][order_BC < left] = case.vocabulary - 2
    return ids_BL


def loop_step(case: Case, ids_BL: Tensor, left: int) -> Callable[[], list[list[int]]]:
    """The official loop's first committing step of a timetable of `left` steps."""
    options = Options(steps=left, **SETTINGS[case.setting])  # type: ignore[arg-type]
    step = commit_counts(left, left, options.eps)[0][0]
    model = build_model(case.vocabulary, case.dtype)

    def run() -> list[list[int]]:
        x_BL = ids_BL.clone()
        denoise(model, x_BL, step, options)
        return x_BL.tolist()

    return run


def engine_step(case: Case, ids_BL: Tensor, left: int) -> Callable[[], list[list[int]]]:
    """The engine's step of the same work; requests are queued beforehand."""
    config = EngineConfig(parity=True, max_num_batched_tokens=2**20, dtype=case.dtype)
    engine = Engine(build_model(case.vocabulary, case.dtype), None, config)
    mask_id = engine.mask_token_id
    for index, row in enumerate(ids_BL.tolist()):
        params = SamplingParams(
            steps=left,
            early_exit=False,
            seed=index,
            **SETTINGS[case.setting],  # type: ignore[arg-type]
        )
        template = Template.from_masked(row, mask_id)
        engine.add(Request(id=str(index), template=template, params=params))

    def run() -> list[list[int]]:
        found = ids_BL.tolist()
        for event in engine.step():
            for position, token in zip(event.positions, event.token_ids, strict=True):
                found[int(event.request_id)][position] = token
        return found

    return run


def compare(case: Case, *, states: int = STATES, repeats: int = REPEATS) -> Row:
    """Seconds of a whole run of each, from steps in turn at some states."""
    loop_s, engine_s = [], []
    for state in range(states):
        left = max(2, round(case.canvas * (1 - (2 * state + 1) / (2 * states))))
        ids_BL = canvases(case, left)
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            took, expected = timed(loop_step(case, ids_BL, left))
            seconds[0].append(took)
            took, found = timed(engine_step(case, ids_BL, left))
            seconds[1].append(took)
            is_exact = case.setting == "greedy" and case.dtype == "float32"
            assert not is_exact or found == expected, "the engine's tokens differ"
        loop_s.append(statistics.median(seconds[0]))
        engine_s.append(statistics.median(seconds[1]))
    loop = statistics.mean(loop_s) * case.steps
    engine = statistics.mean(engine_s) * case.num_forwards
    tokens = case.batch * case.canvas
    return Row(
        **asdict(case),
        loop_tokens_per_s=round(tokens / loop, 2),
        engine_tokens_per_s=round(tokens / engine, 2),
        ratio=round(loop / engine, 2),
        loop_peak_mb=peak("loop", case),
        engine_peak_mb=peak("engine", case),
    )


def timed(run: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    """Seconds of one call, and what it returned."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def peak(side: str, case: Case) -> int | None:
    """MB by which a fresh process's peak grows over one step of an empty canvas."""
    logits_gb = 4 * case.vocabulary * case.batch * (case.prompt + case.canvas) / 1e9
    # A model is made in float32 first, and what that takes would hide the peak of a lower one.
    if logits_gb > 2 or case.dtype != "float32":
        return None
    words = [
        sys.executable,
        "-m",
        "benchmarks.bench_engine",
        "--peak",
        side,
        json.dumps(asdict(case)),
    ]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def print_peak(side: str, case: Case) -> None:
    """What `peak` starts."""
    step = {"loop": loop_step, "engine": engine_step}[side]
    build_model(case.vocabulary, case.dtype)
    before = resident_peak()
    step(case, canvases(case, case.canvas), case.canvas)()
    print((resident_peak() - before) // 10**6)


def resident_peak() -> int:
    """Bytes, without pages of files: the kernel maps a library's as it likes.

    Not ru_maxrss, which a process inherits from the one that starts it.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return (int(values["VmHWM"]) - int(values["RssFile"])) * 1024


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    names = [name.replace("_per_s", "/s").replace("_", " ") for name in asdict(rows[0])]
    cells = [
        [("" if value is None else str(value)) for value in asdict(row).values()] for row in rows
    ]
    lines = ["| " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) - 1)]
    return "\n".join([*lines, *["| " + " | ".join(row) + " |" for row in cells]])


def main() -> None:
    """Run every case, print the table, and record it under results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", help="name of the hardware: writes results/engine_NAME_yyyymm")
    parser.add_argument("--only", help="cases whose description has this in it")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak[0], Case(**json.loads(args.peak[1])))
        return
    rows = []
    for case in CASES:
        if args.only is None or args.only in str(case):
            rows.append(compare(case))
            print(f"{case}: {rows[-1].ratio} x", flush=True)
    about = describe("python -m benchmarks.bench_engine")
    print(table(rows))
    if args.record:
        stem = RESULTS / f"engine_{args.record}_{about['date'][:7].replace('-', '')}"
        facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
        text = f"# Engine against the plain official loop\n\n{facts}\n\n{table(rows)}\n"
        stem.with_suffix(".md").write_text(text, encoding="utf-8")
        record = {"about": about, "rows": [asdict(row) for row in rows]}
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
