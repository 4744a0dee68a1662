"""The check at the start of an engine sees what differs, says so once, and marks answers."""

from __future__ import annotations

import warnings
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dream import Engine, EngineConfig, sampling
from dream.engine import exactness
from dream.engine.exactness import is_bit_exact
from dream.errors import NotBitExact
from dream.model import attention
from dream.model.bits import Linear, attend
from dream.model.modeling import DreamModel
from tests.models import golden_engine, golden_model, request


def linear_by_rows(self: Linear, x_NE: Tensor) -> Tensor:
    return F.linear(x_NE, self.weight, self.bias) * (1 + 1e-6 * (len(x_NE) < 4))


def head_by_rows(model: DreamModel, hidden_NE: Tensor, out_NV: Tensor | None = None) -> Tensor:
    return F.linear(hidden_NE, model.lm_head.weight) * (1 + 1e-6 * (len(hidden_NE) < 4))


def attend_by_rows(q_BHND: Tensor, k_BHUD: Tensor, v_BHUD: Tensor) -> Tensor:
    return attend(q_BHND, k_BHUD, v_BHUD) * (1 + 1e-6 * (q_BHND.shape[2] < 4))


def sum_by_rows(x_NV: Tensor) -> Tensor:
    return x_NV.sum(-1) * (1 + 1e-6 * (len(x_NV) < 4))


OPERATIONS = {
    "layers": (Linear, "forward", linear_by_rows),
    "head": (DreamModel, "logits", head_by_rows),
    "attention": (attention, "attend", attend_by_rows),
    "sampler": (sampling, "row_sum", sum_by_rows),
}


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """A process that has not checked anything yet."""
    monkeypatch.setattr(exactness, "_found", {})


def test_float32_on_a_cpu_is_exact_and_its_answers_say_so():
    engine = golden_engine()

    done = engine.generate([request("a", [[1, 2], 4]), request("b", [[1], 2], grow_to=4)])

    assert engine.is_bit_exact
    assert [one.usage.bit_exact for one in done] == [True, True]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_processor_that_differs_is_named_once_and_answers_are_marked(monkeypatch, operation):
    monkeypatch.setattr(*OPERATIONS[operation])

    with pytest.warns(NotBitExact, match="number of rows") as told:
        engines = [golden_engine() for _ in range(2)]

    assert len(told) == 1
    assert not any(engine.is_bit_exact for engine in engines)
    assert not engines[0].generate([request("a", [[1, 2], 4])])[0].usage.bit_exact


def test_what_promises_no_bits_is_not_checked(monkeypatch):
    monkeypatch.setattr(exactness, "_agrees", lambda model: 1 / 0)
    low = deepcopy(golden_model()).bfloat16()

    with warnings.catch_warnings(action="error"):
        assert not Engine(low, None, EngineConfig(dtype="bfloat16")).is_bit_exact
        assert not is_bit_exact(golden_model(), EngineConfig(compile=True))
        assert not is_bit_exact(golden_model(), EngineConfig(tensor_parallel=2))
        with torch.device("meta"):
            elsewhere = DreamModel(golden_model().config)
        assert not is_bit_exact(elsewhere, EngineConfig())


def test_one_check_serves_all_engines_of_a_shape_and_number_of_threads(monkeypatch):
    count: list[int] = []
    monkeypatch.setattr(exactness, "_agrees", lambda model: not count.append(1))

    golden_engine()
    golden_engine()
    assert len(count) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    golden_engine()
    assert len(count) == 2
