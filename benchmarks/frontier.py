"""Quality against token-forwards for every commit rule and mode: the frontier plot.

For each suite every setting of `frontier_settings` fills the same held-out questions with the same
seeds, all of them in one call of `Engine.generate`; on suites of a prompt and one hole Fast-dLLM's
own loop does, one question at a time, for the holes that its blocks divide.

`python -m benchmarks.frontier --record embedded` writes benchmarks/results/frontier_embedded_yyyymm
(.json, .md) and docs/figures/frontier_embedded (.svg, .png).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fast_dllm import Filled, fill_blocks, fill_threshold
from benchmarks.frontier_plot import draw
from benchmarks.frontier_report import Loss, Outcome, page
from benchmarks.frontier_settings import (
    FAST_SETTINGS,
    SETTINGS,
    SUITES,
    FastSetting,
    Setting,
    exact_twin,
)
from benchmarks.hardware import describe
from benchmarks.quality_speed import is_right, template_of
from dream import Engine, EngineConfig, Request, SamplingParams
from dream.model.loader import load_model, resolve, weights_sha256
from dream.model.modeling import DreamModel
from dream.template import Hole
from jobs.evaluate.questions import question_seed
from jobs.evaluate.stats import paired_difference, wilson
from jobs.evaluate.suite import Suite
from jobs.evaluate.suites import SuiteOptions, build_suite

ROOT = Path(__file__).parent.parent
ROWS = 2048
"""Rows of a forward: what a CPU runs fastest of a model this small. Tokens do not depend on it."""


class Answers(NamedTuple):
    """A suite filled at one setting, question by question."""

    is_right: NDArray[np.bool_]
    token_forwards: int
    forward_passes: int
    forced_commits: int | None = None
    approximation: str | None = None


class Bench(NamedTuple):
    """A checkpoint twice: in the engine, and bare for Fast-dLLM's loop."""

    engine: Engine
    model: DreamModel

    @classmethod
    def of(cls, name: str) -> Bench:
        """Both on the CPU, in float32."""
        model = load_model(resolve(name), dtype=torch.float32, device="cpu")
        return cls(Engine.from_pretrained(name, EngineConfig(max_num_batched_tokens=ROWS)), model)


def answer(bench: Bench, suite: Suite, setting: Setting) -> Answers:
    """Fill all questions in one call of the engine."""
    engine = bench.engine
    requests = [
        Request(
            id=str(number),
            template=template_of(engine, question),
            params=_sampling(setting, question_seed(0, suite.name, number)),
        )
        for number, question in enumerate(suite.questions)
    ]
    done = engine.generate(requests)
    right = [
        is_right(engine, suite, question, [span.token_ids for span in completion.spans])
        for question, completion in zip(suite.questions, done, strict=True)
    ]
    return Answers(
        is_right=np.array(right),
        token_forwards=sum(completion.usage.token_forwards for completion in done),
        forward_passes=sum(completion.usage.forward_passes for completion in done),
        forced_commits=sum(completion.usage.forced_commits for completion in done),
        approximation=done[0].usage.approximation,
    )


def is_applicable(suite: Suite, setting: FastSetting) -> bool:
    """Whether every question is a prompt and one hole of whole blocks."""
    for question in suite.questions:
        *prompt, hole = question.text.pieces
        if len(prompt) != 1 or not isinstance(prompt[0], str) or not isinstance(hole, Hole):
            return False
        if setting.block_length is not None and hole.num_tokens % setting.block_length:
            return False
    return True


def answer_fast(bench: Bench, suite: Suite, setting: FastSetting) -> Answers:
    """Fill question after question by Fast-dLLM's loop."""
    engine = bench.engine
    assert engine.tokenizer is not None
    right: list[bool] = []
    passes = token_forwards = 0
    for question in suite.questions:
        prompt_ids = engine.tokenizer.encode(str(question.text.pieces[0]))
        filled = _fill_fast(bench.model, prompt_ids, question.text.num_masked, setting)
        span = _until_eos(filled.token_ids[len(prompt_ids) :], engine.eos_token_ids)
        right.append(is_right(engine, suite, question, [span]))
        passes += filled.forward_passes
        token_forwards += filled.token_forwards
    return Answers(np.array(right), token_forwards, passes)


def measure(
    bench: Bench,
    suite: Suite,
    settings: Sequence[Setting | FastSetting],
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Every setting on one suite; an exact twin comes before what is compared with it."""
    found: dict[str, Answers] = {}
    outcomes: list[Outcome] = []
    for setting in settings:
        if isinstance(setting, Setting):
            answers = answer(bench, suite, setting)
        elif is_applicable(suite, setting):
            answers = answer_fast(bench, suite, setting)
        else:
            continue
        found[setting.label] = answers
        twin = exact_twin(setting)
        loss = None if twin is None else _loss(twin.label, found[twin.label], answers)
        outcomes.append(_outcome(suite, setting, answers, loss))
        report(outcomes[-1])
    return outcomes


def record(
    results: Path, figures: Path, name: str, outcomes: Sequence[Outcome], about: Mapping[str, str]
) -> None:
    """Write numbers, page and figure."""
    figures.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    drawn = draw(outcomes, f"{name}: quality against token-forwards")
    (figures / f"frontier_{name}.svg").write_bytes(drawn.svg)
    (figures / f"frontier_{name}.png").write_bytes(drawn.png)
    stem = results / f"frontier_{name}_{about['date'][:7].replace('-', '')}"
    rows = [asdict(outcome) for outcome in outcomes]
    text = json.dumps({"about": dict(about), "rows": rows}, indent=1) + "\n"
    stem.with_suffix(".json").write_text(text, encoding="utf-8")
    stem.with_suffix(".md").write_text(page(about, outcomes), encoding="utf-8")


def main() -> None:
    """Measure suite after suite, and with --record write numbers, page and figure."""
    args = _parse()
    bench = Bench.of(args.model)
    outcomes: list[Outcome] = []
    started = time.perf_counter()
    for name in args.suite:
        suite = build_suite(name, SuiteOptions(num=args.n, givens=SUITES[name]))
        outcomes += measure(bench, suite, (*SETTINGS, *FAST_SETTINGS), _print)
    print(f"{time.perf_counter() - started:.0f} s")
    if args.record:
        about = describe(_command(args)) | {"weights_sha256": weights_sha256(resolve(args.model))}
        results, figures = ROOT / "benchmarks" / "results", ROOT / "docs" / "figures"
        record(results, figures, args.record, outcomes, about)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--suite", nargs="+", default=list(SUITES), choices=list(SUITES))
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--record", metavar="NAME", help="write numbers, page and figure")
    return parser.parse_args()


def _sampling(setting: Setting, seed: int) -> SamplingParams:
    fields = {"steps": None, **setting.params, "seed": seed}
    return SamplingParams(**fields)  # type: ignore[arg-type]


def _fill_fast(model: DreamModel, prompt_ids: list[int], hole: int, setting: FastSetting) -> Filled:
    if setting.cache is None or setting.block_length is None:
        return fill_threshold(
            model, prompt_ids, max_new_tokens=hole, steps=1, threshold=setting.threshold
        )
    return fill_blocks(
        model,
        prompt_ids,
        max_new_tokens=hole,
        block_length=setting.block_length,
        cache=setting.cache,
        threshold=setting.threshold,
        steps=hole,
    )


def _until_eos(token_ids: Sequence[int], eos_ids: frozenset[int]) -> list[int]:
    return list(takewhile(lambda token: token not in eos_ids, token_ids))


def _loss(label: str, exact: Answers, answers: Answers) -> Loss:
    mean, low, high = paired_difference(answers.is_right, exact.is_right, seed=0)
    return Loss(exact=label, mean=round(mean, 4), low=round(low, 4), high=round(high, 4))


def _outcome(
    suite: Suite, setting: Setting | FastSetting, answers: Answers, loss: Loss | None
) -> Outcome:
    n, right = len(answers.is_right), int(answers.is_right.sum())
    interval = wilson(right, n)
    masks = sum(question.text.num_masked for question in suite.questions)
    forced = answers.forced_commits
    return Outcome(
        suite=suite.name,
        family=setting.family,
        setting=setting.label,
        params=dict(setting.params),
        n=n,
        quality=round(right / n, 4),
        wilson_low=round(interval.low, 4),
        wilson_high=round(interval.high, 4),
        token_forwards=round(answers.token_forwards / n, 2),
        forward_passes=round(answers.forward_passes / n, 3),
        tokens_per_forward=round(masks / answers.forward_passes, 3),
        forced_commits=None if forced is None else round(forced / n, 3),
        approximation=answers.approximation,
        loss=loss,
    )


def _print(outcome: Outcome) -> None:
    cost = f"{outcome.token_forwards:,.1f} token-forwards, {outcome.forward_passes:.2f} passes"
    print(f"{outcome.suite}: {outcome.setting}: {outcome.quality:.3f}, {cost}", flush=True)


def _command(args: argparse.Namespace) -> str:
    words = ["python -m benchmarks.frontier", f"--model {args.model}", f"-n {args.n}"]
    return " ".join([*words, f"--suite {' '.join(args.suite)}", f"--record {args.record}"])


if __name__ == "__main__":
    main()
