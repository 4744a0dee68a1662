"""bfloat16 on a CUDA device where there is one, and on the CPU everywhere."""

from __future__ import annotations

import pytest
import torch

from dream import Engine, EngineConfig
from tests.models import GOLDEN, request

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_bfloat16_fills_every_hole(device):
    config = EngineConfig(device=device, dtype="bfloat16")
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", config)

    done = engine.generate([request("a", [[1, 2, 3], 20], early_exit=False)])[0]

    assert engine.mask_token_id not in done.token_ids
