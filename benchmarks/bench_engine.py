"""The engine against the plain official loop, side by side in one run.

The model has random weights: 10 layers of width 384 (17 M) under a vocabulary of 152,064.
Both do the same work: B prompts of 32 tokens, 32 new tokens, 32 steps of alg "entropy".
Each pair is run in turn; the ratio is of the two medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.hardware import describe
from benchmarks.official_loop import diffusion_generate
from dream import Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel

VOCABULARY, MASK, EOS = 152_064, 151_666, 151_643
RESULTS = Path(__file__).parent / "results"
SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {},
    "filtered": {"temperature": 0.2, "top_p": 0.95, "top_k": 50},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: medians of seconds, and what both loops ran."""

    setting: str
    batch: int
    loop_s: float
    engine_s: float
    loop_token_forwards: int
    engine_token_forwards: int
    loop_tokens_per_s: float
    engine_tokens_per_s: float
    ratio: float


def build_model() -> DreamModel:
    """The stand-in model with random weights."""
    torch.manual_seed(0)
    config = DreamConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=10,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=1152,
        max_position_embeddings=2048,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        mask_token_id=MASK,
        eos_token_id=EOS,
    )
    model = DreamModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=0.05)
    # The plain loop has no guard against predicting the mask, so it must not be predicted.
    model.lm_head.weight[MASK] = 0
    return model


def compare(
    model: DreamModel, setting: str, batch: int, *, prompt: int, new: int, steps: int, repeats: int
) -> Row:
    """Time both loops in turn on the same prompts; greedy tokens must be equal."""
    torch.manual_seed(batch)
    prompts = torch.randint(0, 150_000, (batch, prompt))
    options = SETTINGS[setting]
    engine = Engine(model, None, EngineConfig(parity=True))
    requests = [
        Request(
            id=str(index),
            template=Template([Fixed(row.tolist()), Hole(new)]),
            params=SamplingParams(steps=steps, early_exit=False, seed=index, **options),
        )
        for index, row in enumerate(prompts)
    ]

    def run_loop() -> list[list[int]]:
        ids = diffusion_generate(model, prompts, max_new_tokens=new, steps=steps, **options)
        return ids.tolist()

    def run_engine() -> list[list[int]]:
        return [list(done.token_ids) for done in engine.generate(requests)]

    loop_s, engine_s = [], []
    for _ in range(repeats):
        seconds, expected = timed(run_loop)
        loop_s.append(seconds)
        seconds, found = timed(run_engine)
        engine_s.append(seconds)
        assert setting != "greedy" or found == expected, "the engine's tokens differ"
    loop, ours = statistics.median(loop_s), statistics.median(engine_s)
    return Row(
        setting=setting,
        batch=batch,
        loop_s=round(loop, 2),
        engine_s=round(ours, 2),
        loop_token_forwards=batch * (prompt + new) * steps,
        engine_token_forwards=engine.stats.token_forwards // repeats,
        loop_tokens_per_s=round(batch * new / loop, 2),
        engine_tokens_per_s=round(batch * new / ours, 2),
        ratio=round(loop / ours, 2),
    )


def timed(run: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    """Seconds of one call, and what it returned."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| setting | batch | loop s | engine s | loop token-forwards | engine token-forwards "
        "| loop tokens/s | engine tokens/s | engine / loop |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        "| " + " | ".join(str(value) for value in asdict(row).values()) + " |" for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Run every pair, print the table, and record it under results/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--record", help="name of the hardware: writes results/engine_NAME_yyyymm")
    args = parser.parse_args()
    model = build_model()
    shape = {"prompt": args.prompt, "new": args.new, "steps": args.steps}
    rows = []
    for setting in SETTINGS:
        for batch in args.batches:
            rows.append(compare(model, setting, batch, repeats=args.repeats, **shape))
            print(f"{setting} batch {batch}: {rows[-1].ratio} x", flush=True)
    about = describe("python -m benchmarks.bench_engine")
    print(table(rows))
    if args.record:
        stem = RESULTS / f"engine_{args.record}_{about['date'][:7].replace('-', '')}"
        facts = "\n".join(f"- {key}: {value}" for key, value in (about | shape).items())
        text = f"# Engine against the plain official loop\n\n{facts}\n\n{table(rows)}\n"
        stem.with_suffix(".md").write_text(text, encoding="utf-8")
        record = {"about": about | shape, "rows": [asdict(row) for row in rows]}
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
