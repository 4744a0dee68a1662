"""A result has the same bits alone and in a batch, for wide layers and several threads too.

In processes of their own: the number of threads is fixed before torch is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
