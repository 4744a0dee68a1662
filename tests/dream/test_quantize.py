"""`dtype` int8 and fp8: the blocks' weights in 8 bits, named as approximate, in half the memory."""

from __future__ import annotations

import weakref
from importlib.util import find_spec

import pytest
import torch

from dream import Engine, EngineConfig, InvalidRequest
from dream.errors import MissingExtra
from dream.memory import CUDA_CONTEXT, DREAM_7B, GIB, check, plan
from dream.model import loader, quantize
from dream.model.loader import EMBEDDED, load_model
from dream.model.quantize import OF_BLOCK
from tests.models import request

needs_torchao = pytest.mark.skipif(
    find_spec("torchao") is None, reason="needs torchao: pip install 'dream-cluster[quant]'"
)
DTYPES = ["int8", "fp8"]
STEP = {"int8": 1 / 254, "fp8": 16 / 448}
"""Largest rounding error of a weight, as a share of the largest in its row: half of a step of 127,
and of a step of 32 below 448, which is the largest float8."""


@pytest.fixture(scope="module")
def whole():
    return dict(load().named_parameters())


def load(quantized=None):
    return load_model(EMBEDDED, dtype=torch.float32, device="cpu", quantized=quantized)


@needs_torchao
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_the_blocks_are_rounded_and_no_others(dtype, whole):
    found = dict(load(dtype).named_parameters())

    assert sum(OF_BLOCK.fullmatch(name) is not None for name in whole) == 6 * 7
    for name, weight in whole.items():
        if OF_BLOCK.fullmatch(name):
            error = (found[name].dequantize() - weight).abs().amax(1)
            assert found[name].qdata.element_size() == 1
            assert (error <= weight.abs().amax(1) * STEP[dtype] * 1.01).all(), name
        else:
            assert torch.equal(found[name], weight), name


@needs_torchao
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_plan_counts_the_bytes_that_the_weights_take(dtype):
    model = load(dtype)
    held = 0
    for weight in model.parameters():
        parts = [weight.qdata, weight.scale] if hasattr(weight, "qdata") else [weight]
        held += sum(part.numel() * part.element_size() for part in parts)

    config = EngineConfig(dtype=dtype)
    largest = 512 * 192 * (4 if dtype == "int8" else 12)

    assert plan(model.config.sizes, config).weights == held + largest


@needs_torchao
def test_weights_are_rounded_one_by_one(monkeypatch):
    """At no time is there a second whole weight of the blocks."""
    whole: list[weakref.ref[torch.Tensor]] = []

    def rounded(name, weight, dtype):
        assert sum(ref() is not None for ref in whole) <= 1
        found = quantize.quantized_weight(name, weight, dtype)
        if found is not weight:
            whole.append(weakref.ref(weight))
        return found

    monkeypatch.setattr(loader, "quantized_weight", rounded)
    load("int8")

    assert len(whole) == 6 * 7


@needs_torchao
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_engine_in_8_bits_says_that_it_is_approximate(dtype):
    engine = Engine.from_pretrained("embedded", EngineConfig(dtype=dtype))
    prompt = engine.tokenizer.encode("S:1034/0402/2100/4021=")

    exact, windowed = engine.generate(
        [
            request("a", [prompt, 24]),
            request("b", [prompt, 24], window="dual", block_length=8),
        ]
    )

    assert engine.tokenizer.decode(exact.spans[0].token_ids) == "1234/3412/2143/4321"
    assert exact.usage.approximation == f"dtype={dtype}"
    assert windowed.usage.approximation == f"dtype={dtype}, window=dual"
    assert not engine.is_bit_exact
    assert not exact.usage.bit_exact


def test_without_torchao_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)

    with pytest.raises(MissingExtra, match=r"int8 needs torchao: pip install 'dream-cluster\[qua"):
        Engine.from_pretrained("embedded", EngineConfig(dtype="int8"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_in_8_bits_are_not_split_over_processes(dtype):
    with pytest.raises(InvalidRequest, match=f"tensor_parallel=2 .* 1 with dtype {dtype}"):
        EngineConfig(dtype=dtype, tensor_parallel=2)


def test_what_is_computed_with_is_bfloat16_on_a_gpu_and_float32_on_a_cpu():
    gpu, cpu = (EngineConfig(dtype="int8", device=device) for device in ("cuda:1", "cpu"))

    assert (gpu.compute_dtype, gpu.attention_backend) == ("bfloat16", "varlen")
    assert (cpu.compute_dtype, cpu.attention_backend) == ("float32", "sdpa")
    assert (gpu.approximation, EngineConfig().approximation) == ("dtype=int8", None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dream_7b_runs_on_a_card_of_12_gb(dtype):
    config = EngineConfig(device="cuda", dtype=dtype, max_logit_rows=256)

    assert check(DREAM_7B, config, 12 * GIB - CUDA_CONTEXT).weights < 9 * GIB
