"""What `benchmarks.gpu` runs: shapes, weights made on the device, requests of random tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from benchmarks.roofline import Rates
from dream import Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.memory import DType
from dream.model.config import DreamConfig
from dream.model.loader import DTYPES
from dream.model.modeling import DreamModel
from dream.model.parallel import parallelize

__all__ = ["SIZES", "Bench", "Budget", "Finding", "Size", "body_17m", "random_model", "requests"]


def body_17m(vocabulary: int) -> DreamConfig:
    """10 layers of width 384 under any vocabulary; its last two ids are the mask and the EOS."""
    return DreamConfig(
        vocab_size=vocabulary,
        hidden_size=384,
        num_hidden_layers=10,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=1152,
        max_position_embeddings=2048,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        mask_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A network, and how much of everything is measured on it.

    step_rows, step_length: rows of the measured steps, in canvases of this length, half of them
    masks. prompt, canvas, block: one request at a time, and its blocks. loop_steps: steps of the
    plain loop. square, copied: edge of the square product, and bytes copied.
    """

    shape: DreamConfig
    dtype: DType
    step_rows: tuple[int, ...]
    step_length: int
    prompt: int
    canvas: int
    block: int
    loop_steps: int
    square: int
    copied: int
    max_logit_rows: int
    has_goals: bool

    @property
    def itemsize(self) -> int:
        """Bytes of a weight."""
        return DTYPES[self.dtype].itemsize


SIZES = {
    "7b": Size(
        # huggingface.co/Dream-org/Dream-v0-Instruct-7B: config.json
        shape=DreamConfig(
            vocab_size=152_064,
            hidden_size=3584,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            intermediate_size=18_944,
            max_position_embeddings=131_072,
            rms_norm_eps=1e-6,
            rope_theta=1e6,
            mask_token_id=151_666,
            eos_token_id=151_643,
        ),
        dtype="bfloat16",
        step_rows=(256, 512, 1024, 2048, 4096, 8192),
        step_length=256,
        prompt=128,
        canvas=256,
        block=32,
        loop_steps=16,
        square=8192,
        copied=4 * 2**30,
        max_logit_rows=512,
        has_goals=True,
    ),
    "tiny": Size(
        shape=DreamConfig(
            vocab_size=512,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=160,
            max_position_embeddings=256,
            rms_norm_eps=1e-6,
            rope_theta=1e4,
            mask_token_id=501,
            eos_token_id=500,
        ),
        dtype="float32",
        step_rows=(32, 64),
        step_length=32,
        prompt=8,
        canvas=16,
        block=8,
        loop_steps=4,
        square=64,
        copied=2**20,
        max_logit_rows=64,
        has_goals=False,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measured number; `goal` is what it has to reach, or under `is_cost` to stay below."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    is_cost: bool = False
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.is_cost else self.value >= self.goal


class Budget:
    """Time that a phase may take; it looks between two measurements."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, or 0."""
        return max(0.0, self._end - time.perf_counter())


@dataclass(slots=True, kw_only=True)
class Bench:
    """What all phases share; the first one measures the rates."""

    size: Size
    device: str
    model: DreamModel | None
    degree: int = 1
    measured: Rates | None = None
    found: dict[str, float] = field(default_factory=dict)

    @property
    def network(self) -> DreamModel:
        """The model, before it is given up."""
        assert self.model is not None, "the model is gone"
        return self.model

    @property
    def rates(self) -> Rates:
        """What the first phase measured."""
        if self.measured is None:
            raise RuntimeError("the rates of the device were not measured")
        return self.measured

    def goal(self, value: float) -> float | None:
        """The goal, where goals are for this size."""
        return value if self.size.has_goals else None

    def config(self, *, rows: int, parity: bool = False, cache_rows: int = 0) -> EngineConfig:
        """How an engine runs that has room for so many rows."""
        return EngineConfig(
            device=self.device,
            dtype=self.size.dtype,
            parity=parity,
            max_num_batched_tokens=rows,
            max_logit_rows=self.size.max_logit_rows,
            max_cache_tokens=cache_rows,
            cuda_graphs=torch.device(self.device).type == "cuda" and self.size.itemsize == 2,
        )

    def engine(self, *, rows: int, parity: bool = False, cache_rows: int = 0) -> Engine:
        """An engine over the model."""
        config = self.config(rows=rows, parity=parity, cache_rows=cache_rows)
        return Engine(self.network, None, config)


def random_model(shape: DreamConfig, dtype: DType, device: str, degree: int = 1) -> DreamModel:
    """The network with random weights made on the device; of several processes, each its part."""
    with torch.device("meta"):
        backend = EngineConfig(device=device, dtype=dtype).attention_backend
        model = DreamModel(shape, backend)
    if degree > 1:
        parallelize(model, degree)
    model.to(DTYPES[dtype]).to_empty(device=device).eval().requires_grad_(False)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 2:
            parameter.normal_(std=0.02)
        else:
            parameter.fill_(1)
    if degree == 1:  # the plain loop has no guard against predicting the mask
        model.lm_head.weight[shape.mask_token_id] = 0
    return model


def requests(
    size: Size, number: int, *, prompt: int, holes: int, **params: object
) -> list[Request]:
    """So many requests: random prompts of one length, one hole, no early exit."""
    generator = torch.Generator().manual_seed(number)
    eos = size.shape.eos_token_id
    top = min(size.shape.mask_token_id, *([eos] if isinstance(eos, int) else eos))
    prompts = torch.randint(0, top, (number, prompt), generator=generator)
    options = {"steps": None, "early_exit": False, "seed": 0} | params
    return [
        Request(
            id=f"{index}",
            template=Template([Fixed(row), Hole(holes)]),
            params=SamplingParams(**options),  # type: ignore[arg-type]
        )
        for index, row in enumerate(prompts.tolist())
    ]
