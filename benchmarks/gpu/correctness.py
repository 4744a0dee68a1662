"""Whether the device computes what it should, in less than a minute, before anything is timed.

The weights are random, so the two best tokens of a row are often equally good in 16 bits: there,
equal tokens are a rate. In float32 they must agree, which two layers of the model's shape show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import fields, replace

import torch
from torch import Tensor

from benchmarks.gpu.bench import NEEDS_CUDA, PEAK, Bench, Budget
from benchmarks.gpu.model import random_model, requests
from benchmarks.gpu.record import Finding, skipped
from benchmarks.gpu.timing import is_cuda
from benchmarks.official_loop import Options, diffusion_generate
from dream import Completion, Engine, EngineConfig, Request
from dream.memory import DType
from dream.model.attention import PackedLayout, Segments, sdpa, varlen
from dream.model.modeling import DreamModel

__all__ = ["graphs", "layers", "tokens", "varlen_kernel"]

LENGTHS = (1, 7, 7, 64, 300)
KERNEL_CASES: dict[str, tuple[Sequence[int], Sequence[int]]] = {
    "as many queries as keys": (LENGTHS, LENGTHS),
    "fewer queries than keys": ((1, 3, 7, 1, 40), LENGTHS),
    "one query in each sequence": ((1, 1, 1, 1, 1), LENGTHS),
    "one sequence with one query": ((1,), (384,)),
}
"""Queries and keys of each packed sequence."""

ERROR = 0.02
"""Largest relative error in 16 bits, of a matrix by its norm."""

BATCH = 8


@torch.inference_mode()
def layers(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Two layers of the model's shape in its precision, against float32 and plain SDPA."""
    size, device = bench.size, bench.device
    model = _two_layers(bench)
    with torch.device("meta"):
        oracle = DreamModel(model.config, "sdpa").eval().requires_grad_(False)
    oracle.to_empty(device=device)
    oracle.load_state_dict(model.state_dict())
    lengths = [min(length, size.shape.max_position_embeddings) for length in LENGTHS]
    ids_T = torch.randint(0, size.shape.vocab_size, (sum(lengths),), device=device)
    layout = PackedLayout.of(lengths, device)
    logits_TV, right_TV = (one.logits(one(ids_T, layout)).float() for one in (model, oracle))
    yield _error("logits of two layers", logits_TV, right_TV, bench)
    same = (logits_TV.argmax(-1) == right_TV.argmax(-1)).float().mean().item()
    yield Finding(what="best tokens of two layers, equal to float32", value=same, unit="share")


@torch.inference_mode()
def varlen_kernel(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """The variable-length kernel against SDPA in float32, at the model's heads."""
    if not is_cuda(bench.device) or bench.size.dtype == "float32":
        yield skipped("varlen kernel", NEEDS_CUDA)
        return
    shape = bench.size.shape
    for name, (num_queries, num_keys) in KERNEL_CASES.items():
        segments = Segments.of(
            num_queries, num_keys, lambda array: torch.from_numpy(array).to(bench.device)
        )
        q_heads = (sum(num_queries), shape.num_attention_heads, shape.head_dim)
        k_heads = (sum(num_keys), shape.num_key_value_heads, shape.head_dim)
        q, k, v = (
            torch.randn(heads, device=bench.device).bfloat16()
            for heads in (q_heads, k_heads, k_heads)
        )
        right = sdpa(q.float(), k.float(), v.float(), segments)
        yield _error(f"varlen kernel, {name}", varlen(q, k, v, segments), right, bench)


@torch.inference_mode()
def tokens(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Tokens of the engine against the plain loop's, and of a request alone against in a batch.

    The heads give peaked logits, as a trained one does: the loop ranks by entropies, which hardly
    differ where all logits are flat.
    """
    precise = _two_layers(bench, "float32")
    precise.lm_head.weight.mul_(PEAK)
    bench.network.lm_head.weight.mul_(PEAK)
    for model, unit in ((precise, "two layers in float32"), (None, "the model")):
        network = model or bench.network
        dtype: DType = "float32" if model else bench.size.dtype
        goal = bench.goal(0.999) if model else None
        config = replace(_config(bench), dtype=dtype)
        same = _like_the_loop(bench, network, config)
        what = f"tokens equal to the plain loop, {unit}"
        yield Finding(what=what, value=same, unit="share", goal=goal)
        same = _alone_and_together(bench, network, config)
        what = f"tokens alone equal to those in a batch of {BATCH}, {unit}"
        yield Finding(what=what, value=same, unit="share", goal=goal)
    if "batch_invariant" in {field.name for field in fields(EngineConfig)}:
        option: dict[str, object] = {"batch_invariant": True}
        config = replace(_config(bench), **option)  # type: ignore[arg-type]
        same = _alone_and_together(bench, bench.network, config)
        what = f"tokens alone equal to those in a batch of {BATCH}, batch_invariant"
        yield Finding(what=what, value=same, unit="share", goal=bench.goal(1.0))
    bench.network.lm_head.weight.div_(PEAK)


def graphs(bench: Bench, budget: Budget) -> Iterator[Finding]:
    """Tokens of one step, of many and of windows with CUDA graphs, against those without."""
    if bench.lacks("graphs"):
        yield skipped("tokens with CUDA graphs", NEEDS_CUDA)
        return
    size = bench.size
    window = {"window": "dual", "block_length": size.block, "steps": size.loop_steps}
    cases: dict[str, tuple[dict[str, object], float | None]] = {
        "one step": ({"steps": 1}, bench.goal(0.8)),
        "many steps": ({"steps": size.loop_steps}, None),
        "windows": (window, None),
    }
    engines = [
        bench.engine(mode, rows=bench.cache_tokens, cache_tokens=bench.cache_tokens)
        for mode in ("eager", "graphs")
    ]
    for name, (params, goal) in cases.items():
        # A graph may be captured at a later sight of a shape, so the last of four runs counts.
        done = [
            [engine.generate(_wanted(bench, 1, **params)) for _ in range(4)][-1]
            for engine in engines
        ]
        what = f"tokens with CUDA graphs equal to those without, {name}"
        yield Finding(what=what, value=_same(*done), unit="share", goal=goal)


def _two_layers(bench: Bench, dtype: DType | None = None) -> DreamModel:
    shape = deepcopy(bench.size.shape)
    shape.num_hidden_layers = min(2, shape.num_hidden_layers)
    return random_model(shape, dtype or bench.size.dtype, bench.device)


def _config(bench: Bench) -> EngineConfig:
    """Room for the whole batch, and the loop to the letter."""
    return bench.config(rows=BATCH * bench.cache_tokens, parity=True)


def _wanted(bench: Bench, number: int, **params: object) -> list[Request]:
    size = bench.size
    return requests(size, number, prompt=size.prompt, holes=size.canvas, **params)


def _like_the_loop(bench: Bench, network: DreamModel, config: EngineConfig) -> float:
    """Share of a canvas's tokens that are the plain loop's."""
    size = bench.size
    wanted = _wanted(bench, 1, steps=size.loop_steps)
    given = torch.tensor([wanted[0].template.segments[0].token_ids])  # type: ignore[union-attr]
    options = Options(steps=size.loop_steps)
    right_BL = diffusion_generate(network, given, max_new_tokens=size.canvas, options=options)
    found = Engine(network, None, config).generate(wanted)[0].token_ids[size.prompt :]
    right: list[int] = right_BL[0, size.prompt :].tolist()
    return sum(a == b for a, b in zip(found, right, strict=True)) / len(right)


def _alone_and_together(bench: Bench, network: DreamModel, config: EngineConfig) -> float:
    """Share of equal tokens over all requests of the batch."""
    wanted = _wanted(bench, BATCH, steps=bench.size.loop_steps)
    engine = Engine(network, None, config)
    alone = [engine.generate([one])[0] for one in wanted]
    return _same(alone, engine.generate(wanted))


def _same(some: Sequence[Completion], others: Sequence[Completion]) -> float:
    """Share of equal tokens in the holes."""
    pairs = [
        a == b
        for one, other in zip(some, others, strict=True)
        for mine, yours in zip(one.spans, other.spans, strict=True)
        for a, b in zip(mine.token_ids, yours.token_ids, strict=True)
    ]
    return sum(pairs) / len(pairs)


def _error(what: str, found: Tensor, right: Tensor, bench: Bench) -> Finding:
    """Relative error of a matrix."""
    value = ((found.float() - right).norm() / right.norm()).item()
    return Finding(
        what=f"{what}, relative error",
        value=value,
        unit="of the norm",
        goal=bench.goal(ERROR),
        is_cost=True,
    )
