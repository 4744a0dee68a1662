"""What `benchmarks.gpu` runs: shapes, weights made on the device, requests of random tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dream import Fixed, Hole, Request, SamplingParams, Template
from dream.memory import DType
from dream.model.config import DreamConfig
from dream.model.loader import DTYPES
from dream.model.modeling import DreamModel
from dream.model.parallel import parallelize

__all__ = ["SIZES", "Size", "body_17m", "random_model", "requests"]


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
    masks. linear_rows, profile_rows: rows of the measured products and of profiled steps. prompt,
    canvas, block: one request at a time, and its blocks. batches, long_prompts: requests at a time
    and longer prompts, in windows. loop_steps: steps of the plain loop. load_requests: requests at
    Poisson times. square, copied: edge of the square product, and bytes copied. sustained_s: how
    long the square product is repeated at the least.
    """

    shape: DreamConfig
    dtype: DType
    step_rows: tuple[int, ...]
    step_length: int
    linear_rows: tuple[int, ...]
    profile_rows: tuple[int, ...]
    prompt: int
    canvas: int
    block: int
    batches: tuple[int, ...]
    long_prompts: tuple[int, ...]
    loop_steps: int
    load_requests: int
    square: int
    copied: int
    sustained_s: float
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
        step_rows=(256, 384, 512, 1024, 2048, 4096, 8192),
        step_length=256,
        linear_rows=(64, 128, 256, 384, 512, 1024, 2048, 8192),
        profile_rows=(256, 384, 2048, 8192),
        prompt=128,
        canvas=256,
        block=32,
        batches=(8, 16, 32),
        long_prompts=(512, 1024),
        loop_steps=16,
        load_requests=16,
        square=8192,
        copied=4 * 2**30,
        sustained_s=1.0,
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
        linear_rows=(8, 16),
        profile_rows=(32, 48),
        prompt=8,
        canvas=16,
        block=8,
        batches=(2, 3),
        long_prompts=(12, 24),
        loop_steps=4,
        load_requests=4,
        square=64,
        copied=2**20,
        sustained_s=0.001,
        max_logit_rows=64,
        has_goals=False,
    ),
}


@torch.inference_mode(False)
def random_model(shape: DreamConfig, dtype: DType, device: str, degree: int = 1) -> DreamModel:
    """The network with random weights made on the device; of several processes, each its part.

    They are ordinary tensors, whoever asks: those made in inference mode can never be changed.
    """
    is_half_on_cuda = torch.device(device).type == "cuda" and dtype != "float32"
    with torch.device("meta"):
        model = DreamModel(shape, "varlen" if is_half_on_cuda else "sdpa")
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
