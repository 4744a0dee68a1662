"""What only a CUDA device can show: `python -m pytest -m gpu tests/gpu` on a machine that has one.

torch, transformers, numpy and pytest are enough there; tests/test_bare_machine.py proves it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dream import Engine, EngineConfig
from dream.kernels import row_stats as kernels
from dream.model.attention import Segments, sdpa, varlen
from dream.model.leaves import compiled_leaves
from tests.dream.test_exactness import SETTINGS as ALONE
from tests.dream.test_exactness import outcome
from tests.dream.test_no_waiting import SETTINGS, wanted
from tests.dream.test_row_stats import DTYPES, check, rows_of_logits
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_ids", [3, 512, 5000, 152064])
def test_one_pass_over_the_logits_is_right_and_sees_each_row_alone(dtype, num_ids):
    logits = rows_of_logits(num_ids, dtype)
    ids = torch.arange(8) % num_ids

    found = kernels.row_stats(logits.cuda(), ids.cuda())
    alone = [kernels.row_stats(logits[n : n + 1].cuda(), ids[n : n + 1].cuda()) for n in range(8)]

    assert kernels._on_cuda.is_fast
    check(kernels.RowStats(*(values.cpu() for values in found)), logits, ids)
    for together, parts in zip(found, zip(*alone, strict=True), strict=True):
        assert torch.equal(together, torch.cat(parts))


def test_float32_tokens_on_cuda_equal_those_on_the_cpu():
    wanted = [request(f"r{n}", [[n + 1] * 4, 10 + n], steps=6) for n in range(8)]

    config = EngineConfig(device="cuda", dtype="float32")
    on_cuda = Engine.from_pretrained(GOLDEN / "ckpt_a", config)

    assert on_cuda.generate(wanted) == golden_engine().generate(wanted)


@pytest.mark.parametrize("settings", ALONE)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_batch_invariant_results_are_the_same_alone_and_in_a_batch_of_eight(dtype, settings):
    config = EngineConfig(device="cuda", dtype=dtype, batch_invariant=True)
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", config)

    together = outcome(engine, list(range(8)), ALONE[settings])
    alone = [outcome(engine, [n], ALONE[settings]) for n in range(8)]

    assert engine.is_bit_exact
    for one in alone:
        assert together[next(iter(one))] == next(iter(one.values()))


@pytest.mark.parametrize("settings", ALONE)
def test_log_probabilities_are_those_of_the_cpu_and_have_the_same_bits_in_any_batch(settings):
    config = EngineConfig(device="cuda", dtype="float32", batch_invariant=True)
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", config)
    asked = [
        replace(request(f"r{n}", [[n + 1] * 4, 10 + n], **ALONE[settings]), logprobs=5)
        for n in range(8)
    ]

    together = engine.generate(asked)

    assert together == [engine.generate([one])[0] for one in asked]
    for found, plain in zip(together, golden_engine().generate(asked), strict=True):
        if found.token_ids == plain.token_ids:  # else a near-tie fell otherwise
            for position, told in plain.logprobs.items():
                assert found.logprobs[position].logprob == pytest.approx(told.logprob, abs=1e-3)


def test_device_cuda_alone_compiles_and_joins_products():
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", HALF)

    assert all(leaf.is_fast for leaf in compiled_leaves())
    assert all(block.mlp.joined is not None for block in engine._model.model.layers)


@pytest.mark.filterwarnings(PROTOTYPE)
@pytest.mark.parametrize("config", [HALF, GRAPHS], ids=["plain", "graphs"])
def test_no_step_waits_before_its_result_is_read(config):
    """All kinds of requests in one batch under CUDA's own check."""
    engine = Engine.from_pretrained(GOLDEN / "ckpt_a", config)
    for name, params in SETTINGS.items():
        engine.add(wanted(name, **params))
        engine.add(replace(wanted(f"{name} with logprobs", **params), logprobs=3))
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
