"""What only a CUDA device can show: `python -m pytest -m gpu tests/gpu` on a machine that has one.

torch, transformers, numpy and pytest are enough there; tests/test_bare_machine.py proves it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dream import Engine, EngineConfig
from dream.model.attention import Segments, sdpa, varlen
from tests.dream.test_no_waiting import SETTINGS, wanted
from tests.gpu.sync_debug import PROTOTYPE, waits_as_set
from tests.models import GOLDEN, golden_engine, request

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
HALF = EngineConfig(device="cuda", dtype="bfloat16", compile=False, cuda_graphs=False)
GRAPHS = replace(HALF, cuda_graphs=True)


@torch.inference_mode()
@pytest.mark.parametrize("num_queries", [[1, 7, 7, 64, 300], [1, 3, 7, 1, 40]])
def test_the_variable_length_kernel_equals_sdpa_at_dream_7b_heads(num_queries):
    """28 query and 4 key-value heads of width 128, lengths of 1 to 300 in one pack."""
    torch.manual_seed(0)
    num_keys = [1, 7, 7, 64, 300]
    segments = Segments.of(num_queries, num_keys, lambda a: torch.from_numpy(a).cuda())
    half = {"device": "cuda", "dtype": torch.bfloat16}
    q = torch.randn(sum(num_queries), 28, 128, **half)
    k, v = (torch.randn(sum(num_keys), 4, 128, **half) for _ in range(2))

    found = varlen(q, k, v, segments)

    torch.testing.assert_close(found, sdpa(q, k, v, segments), atol=2e-2, rtol=2e-2)


def test_float32_tokens_on_cuda_equal_those_on_the_cpu():
    wanted = [request(f"r{n}", [[n + 1] * 4, 10 + n], steps=6) for n in range(8)]

    config = EngineConfig(device="cuda", dtype="float32")
    on_cuda = Engine.from_pretrained(GOLDEN / "ckpt_a", config)

    assert on_cuda.generate(wanted) == golden_engine().generate(wanted)


@pytest.mark.filterwarnings(PROTOTYPE)
@pytest.mark.parametrize("config", [HALF, GRAPHS], ids=["plain", "graphs"])
def test_no_step_waits_before_its_result_is_read(config):
    """All kinds of requests in one batch under CUDA's own check."""
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", config)
    for name, params in SETTINGS.items():
        engine.add(wanted(name, **params))
    engine.step()  # kernels and graphs are made at the first step

    modes = {"collate": "error", "sample": "error", "read": "default"}

    def check(stage: str) -> None:
        if stage in modes:
            torch.cuda.set_sync_debug_mode(modes[stage])

    engine.trace(check)
    with waits_as_set():
        while engine.has_work:
            engine.step()


def test_graphs_give_the_tokens_of_plain_forwards():
    params = {"window": "dual", "block_length": 8, "threshold": 1.0, "early_exit": False}
    shapes = [[[n + 1] * 6, 24] for n in range(3)]
    requests = [request(f"r{n}", shape, **params) for n, shape in enumerate(shapes)]

    plain, graphs = (
        Engine.from_pretrained(GOLDEN / "ckpt_a", config).generate(requests)
        for config in (HALF, GRAPHS)
    )

    # bfloat16 kernels of other shapes may round otherwise, so near-ties may differ.
    pairs = [
        (a == b)
        for one, two in zip(plain, graphs, strict=True)
        for a, b in zip(one.token_ids, two.token_ids, strict=True)
    ]
    assert sum(pairs) / len(pairs) > 0.9
