"""A result has the same bits alone and in a batch, for wide layers and several threads too.

In processes of their own where threads count: their number is fixed before torch is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from dream.model.bits import Linear, attend, by_onednn

CODE = """
import torch
from dream import Engine, EngineConfig, Fixed, Hole, Request, SamplingParams, Template
from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel

torch.manual_seed(0)
model = DreamModel(DreamConfig(
    vocab_size=300, hidden_size=1024, num_hidden_layers=2, num_attention_heads=16,
    num_key_value_heads=4, intermediate_size=520, max_position_embeddings=512,
    rms_norm_eps=1e-6, rope_theta=1e4, mask_token_id=299, eos_token_id=298,
)).eval()

def events(requests):
    engine = Engine(model, None, EngineConfig())
    for request in requests:
        engine.add(request)
    found = {}
    while engine.has_work:
        for event in engine.step():
            found.setdefault(event.request_id, []).append(event)
    return found

wanted = [
    Request(id=str(n), template=Template([Fixed(list(range(1, 2 + n))), Hole(3 + n % 5)]),
            params=SamplingParams(steps=3, temperature=n % 2, seed=n))
    for n in range(24)
]
# Samples of one prompt share their first forward: 3 x 11 queries, and 11 alone.
wanted += [
    Request(id=f"sample {n}", template=Template([Fixed(list(range(30))), Hole(11)]),
            params=SamplingParams(steps=1, temperature=1.0, seed=n))
    for n in range(3)
]
together = events(wanted)
for request in wanted:
    assert events([request])[request.id] == together[request.id], request.id
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_confidences_are_equal_to_the_bit_alone_and_together(threads):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("shape", [(64, 64), (96, 512), (1024, 520), (3584, 512)])
def test_the_products_of_a_row_do_not_depend_on_how_many_there_are(shape):
    """In training too, where another library may multiply."""
    layer, x_NE = Linear(*shape), torch.randn(70, shape[0])

    for is_trained in (True, False):
        layer.requires_grad_(is_trained)
        together = layer(x_NE)
        for n in range(1, 70):
            assert torch.equal(layer(x_NE[:n]), together[:n]), n
            assert torch.equal(layer(x_NE[-n:]), together[-n:]), n


@pytest.mark.parametrize("with_bias", [True, False])
def test_onednn_gives_what_torch_gives_and_leaves_training_alone(monkeypatch, with_bias):
    """Whatever processor this is."""
    monkeypatch.setattr("dream.model.bits._has_fast_onednn", lambda: True)
    monkeypatch.setattr("dream.model.bits.LEAST_WEIGHTS", 1)
    layer, x_NE = Linear(96, 40, bias=with_bias), torch.randn(2, 17, 96)
    plain = torch.nn.functional.linear(x_NE, layer.weight, layer.bias)

    layer(x_NE).sum().backward()
    with torch.inference_mode():
        assert by_onednn(x_NE, layer.weight)
        quick = layer(x_NE)

    assert layer.weight.grad is not None
    assert torch.allclose(quick, plain, rtol=1e-4, atol=1e-5)
    assert not by_onednn(x_NE, layer.weight)
    assert not by_onednn(x_NE.bfloat16(), layer.weight.detach())
    assert not by_onednn(x_NE.to("meta"), layer.weight.detach())


@pytest.mark.parametrize("num_keys", [1, 3, 32, 33, 35, 130, 513])
@pytest.mark.parametrize("shape", [(2, 8), (4, 64)])
def test_what_a_query_attends_to_does_not_depend_on_how_many_there_are(shape, num_keys):
    """A CPU takes queries in blocks of 32 or more, and keys in blocks of 512."""
    heads, width = shape
    q, k, v = (torch.randn(2, heads, num_keys, width) for _ in range(3))

    together = attend(q, k, v)

    for n in {*range(1, min(num_keys, 12)), num_keys}:
        for b in (1, 2):
            assert torch.equal(attend(q[:b, :, :n], k[:b], v[:b]), together[:b, :, :n]), n
            assert torch.equal(attend(q[:b, :, -n:], k[:b], v[:b]), together[:b, :, -n:]), n


def test_enough_rows_are_multiplied_where_they_lie(monkeypatch):
    seen: list[Tensor] = []
    monkeypatch.setattr("dream.model.bits._multiply", lambda x, *weights: seen.append(x) or x)

    layer, few, many = Linear(8, 8), torch.ones(3, 8), torch.ones(4, 8)
    outs = [layer(few), layer(many), layer(few.bfloat16()), layer(few.to("meta"))]

    assert [len(x) for x in seen] == [4, 4, 3, 3]
    assert [len(out) for out in outs] == [3, 4, 3, 3]
    assert seen[1] is many


def test_a_layer_is_compiled_as_one_graph_for_many_rows():
    layer, counter = Linear(16, 8), CompileCounter()
    compiled = torch.compile(layer, dynamic=True, fullgraph=True, backend=counter)

    for n in (7, 64, 2, 3, 5):
        x_NE = torch.randn(n, 16)
        assert torch.equal(compiled(x_NE), layer(x_NE))

    assert counter.frame_count <= 2
