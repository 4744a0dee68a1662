"""Memory is planned before a weight is read, and what does not fit is refused with a remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from dream import Engine, EngineConfig
from dream.engine import memory
from dream.errors import MemoryExceeded
from dream.memory import CUDA_CONTEXT, DREAM_7B, ModelShape, check, gpu_budget, plan
from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel

ROOT = Path(__file__).parents[2]
SIZES = {"hidden_size": 384, "num_hidden_layers": 10, "intermediate_size": 1152}
SIZES |= {"num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 8192}
REST = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 1e6}
REST |= {"mask_token_id": 1, "eos_token_id": 2}
BODY = ModelShape.from_config(SIZES | REST)
MEASURE = """
import json, sys
from pathlib import Path
import torch
from dream import Engine, EngineConfig
from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel
from tests.models import request
shape, config = json.loads(sys.argv[1]), EngineConfig(**json.loads(sys.argv[2]))
model = DreamModel(DreamConfig(**shape)).eval().requires_grad_(False)
def peak():
    # Not ru_maxrss, which a child inherits from the process that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
def run(lengths, **params):
    engine = Engine(model, None, config)
    shapes = [[[5 + n] * 8, length - 8] for n, length in enumerate(lengths)]
    wanted = [request(str(n), shape, **params) for n, shape in enumerate(shapes)]
    engine.generate(wanted)
options = json.loads(sys.argv[3])
run([16, 24], **options)
before = peak()
halves = config.max_num_batched_tokens // 2
run([128] * (halves // 128) + [256] * (halves // 256), **options)
print(peak() - before)
"""
DRAWN = {"steps": 1, "temperature": 1.0, "top_p": 0.99}
"""Random weights give flat rows, all of which top_p leaves undecided: the dearest form."""


def growth(config: dict[str, object], params: dict[str, object], **environment: str) -> int:
    """Bytes by which the resident peak of a process grows over a full step of the body."""
    words = [json.dumps(part) for part in (SIZES | REST, config, params)]
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


@pytest.mark.parametrize("shape", [BODY, DREAM_7B])
def test_weights_are_those_of_the_model(shape):
    sizes = {name: value for name, value in asdict(shape).items() if name != "head_dim"}
    with torch.device("meta"):
        model = DreamModel(DreamConfig(**REST | sizes))

    wanted = sum(parameter.numel() for parameter in model.parameters()) * 2

    assert plan(shape, EngineConfig(dtype="bfloat16")).weights == wanted


def test_dream_7b_needs_what_the_roofline_says():
    config = EngineConfig(device="cuda", dtype="bfloat16", max_cache_tokens=1024)

    found = plan(DREAM_7B, config)

    assert found.weights == pytest.approx(15.23e9, rel=1e-3)
    # Keys and values of all layers, one layer's as attention reads them, and the history.
    assert found.cache == 1024 * (57_344 + 2 * (4 + 28) * 128 * 2 + 1_536)
    assert found.activations / 4096 == pytest.approx(135e3, rel=0.4)


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("max_num_batched_tokens", "activations"),
        ("max_logit_rows", "logits"),
        ("max_cache_tokens", "cache"),
    ],
)
def test_a_larger_option_takes_more_for_its_part_alone(field, part):
    config = EngineConfig(max_num_batched_tokens=4096, max_logit_rows=64, max_cache_tokens=64)
    larger = replace(config, **{field: 2 * getattr(config, field)})

    before, after = plan(BODY, config), plan(BODY, larger)

    assert getattr(before, part) < getattr(after, part) <= 2 * getattr(before, part)
    assert after.total - before.total == getattr(after, part) - getattr(before, part)


@pytest.mark.parametrize(
    "field", sorted({*SIZES, "max_position_embeddings"} - {"num_attention_heads"})
)
def test_a_larger_model_takes_no_less_of_anything(field):
    """Only more heads of one width may take less: they are narrower, and so are the keys."""
    values = SIZES | REST
    larger = DreamConfig(**values | {field: 2 * values[field]}).sizes
    config = EngineConfig(max_cache_tokens=64, max_num_batched_tokens=16, max_model_len=10_000)

    before, after = plan(BODY, config), plan(larger, config)

    assert after.total > before.total
    for part in ("weights", "activations", "logits", "cache"):
        assert getattr(after, part) >= getattr(before, part)


def test_processes_share_what_is_split():
    one = plan(DREAM_7B, EngineConfig(dtype="bfloat16", max_cache_tokens=64))
    four = plan(DREAM_7B, EngineConfig(dtype="bfloat16", max_cache_tokens=64, tensor_parallel=4))

    assert one.cache / 4 < four.cache < one.cache / 3
    assert one.weights / 4 < four.weights < one.weights / 3
    assert four.activations < one.activations


def test_a_canvas_longer_than_a_step_is_counted():
    assert plan(BODY, EngineConfig(max_num_batched_tokens=1)) == plan(
        BODY, EngineConfig(max_num_batched_tokens=2048)
    )


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (EngineConfig(max_num_batched_tokens=100_000), "max_num_batched_tokens"),
        (EngineConfig(max_logit_rows=50_000), "max_logit_rows"),
        (EngineConfig(max_cache_tokens=10**6), "max_cache_tokens"),
    ],
)
def test_a_refusal_names_the_dearest_option_and_the_largest_value_that_fits(config, field):
    available = 2**30

    with pytest.raises(MemoryExceeded) as error:
        check(BODY, config, available)

    value = error.value.fits[field]
    assert (error.value.field, error.value.value) == (field, getattr(config, field))
    assert str(value) in error.value.allowed
    assert check(BODY, replace(config, **{field: value}), available).total <= available
    assert plan(BODY, replace(config, **{field: value + 1})).total > available


def test_where_no_single_option_suffices_several_are_named():
    config = EngineConfig(max_num_batched_tokens=100_000, max_logit_rows=50_000)

    with pytest.raises(MemoryExceeded) as error:
        check(BODY, config, 2**28)

    assert len(error.value.fits) > 1
    assert check(BODY, replace(config, **error.value.fits), 2**28).total <= 2**28


def test_a_device_too_small_for_the_weights_is_what_is_named():
    with pytest.raises(MemoryExceeded, match=r"device='cpu'.*weights 28.4 GiB"):
        check(DREAM_7B, EngineConfig(), 2**34)


def test_nothing_is_refused_where_nobody_tells_what_is_free():
    assert check(DREAM_7B, EngineConfig(), None).weights > 0


def test_a_plan_fits_exactly_where_its_total_is_free():
    config = EngineConfig(device="cuda", dtype="bfloat16")
    total = plan(DREAM_7B, config).total

    assert check(DREAM_7B, config, total).total == total
    with pytest.raises(MemoryExceeded):
        check(DREAM_7B, config, total - 1)


def test_a_gpu_keeps_room_for_cuda_and_a_host_does_not():
    on_gpu, on_host = (plan(DREAM_7B, EngineConfig(device=name)) for name in ("cuda:1", "cpu"))

    assert on_gpu.reserve == 512 * 2**20
    assert on_host.reserve == 0
    assert gpu_budget(80 * 2**30) == 80 * 2**30 - CUDA_CONTEXT
    assert gpu_budget(0) == 0


def test_an_engine_is_refused_before_any_weight_is_read(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(SIZES | REST | {"model_type": "Dream"}))
    monkeypatch.setattr(memory, "host_memory", lambda: 2**30)

    with pytest.raises(MemoryExceeded) as error:
        Engine.from_pretrained(tmp_path, EngineConfig(max_num_batched_tokens=100_000))

    assert error.value.field == "max_num_batched_tokens"


def test_activations_in_use_are_below_the_plan_and_above_half_of_it():
    """Without a heap that keeps what is freed, resident bytes are those in use."""
    config = {"max_num_batched_tokens": 2048, "max_logit_rows": 8}

    in_use = growth(config, {"steps": 1}, MALLOC_MMAP_THRESHOLD_="131072")

    planned = plan(BODY, EngineConfig(**config, device="cuda", dtype="float32"))
    assert planned.activations / 2 < in_use < planned.activations + planned.logits


def test_a_step_of_the_dearest_form_stays_below_the_plan():
    config = {"max_num_batched_tokens": 2048, "max_logit_rows": 256}

    used = growth(config, DRAWN)

    planned = plan(BODY, EngineConfig(**config))
    assert used < planned.activations + planned.logits
