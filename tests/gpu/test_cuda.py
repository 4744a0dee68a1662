"""What only a CUDA device can show: `python -m pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import pytest
import torch

from dream import Engine, EngineConfig
from dream.model.attention import PackedLayout, sdpa, varlen
from tests.models import GOLDEN, golden_engine, request

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@torch.inference_mode()
def test_the_variable_length_kernel_equals_sdpa_at_dream_7b_heads():
    """28 query and 4 key-value heads of width 128, lengths of 1 to 300 in one pack."""
    torch.manual_seed(0)
    layout = PackedLayout.of([1, 7, 7, 64, 300], "cuda")
    rows = int(layout.segments.cu_queries[-1])
    q = torch.randn(rows, 28, 128, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(rows, 4, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    torch.testing.assert_close(
        varlen(q, k, v, layout.segments), sdpa(q, k, v, layout.segments), atol=2e-2, rtol=2e-2
    )


def test_float32_tokens_on_cuda_equal_those_on_the_cpu():
    wanted = [request(f"r{n}", [[n + 1] * 4, 10 + n], steps=6) for n in range(8)]

    on_cuda = Engine.from_pretrained(GOLDEN / "ckpt_a", EngineConfig(device="cuda"))

    assert on_cuda.generate(wanted) == golden_engine().generate(wanted)


def test_bfloat16_fills_every_hole():
    config = EngineConfig(device="cuda", dtype="bfloat16")
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", config)

    done = engine.generate([request("a", [[1, 2, 3], 20], early_exit=False)])[0]

    assert engine.mask_token_id not in done.token_ids
