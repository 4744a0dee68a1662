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
from dream.errors import InvalidRequest, NotBitExact
from dream.model import attention
from dream.model.bits import Linear, attend
from dream.model.join import join_products
from dream.model.loader import DTYPES, load_model
from dream.model.modeling import DreamModel
from tests.dream.test_no_waiting import SETTINGS as WAYS
from tests.dream.test_no_waiting import wanted
from tests.models import GOLDEN, golden_engine, golden_model, request


def linear_by_rows(self: Linear, x_NE: Tensor) -> Tensor:
    return F.linear(x_NE, self.weight, self.bias) * (1 + 1e-6 * (len(x_NE) < 4))


def kernel_by_rows(x_NE: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A product that is rounded otherwise for every number of rows, as on a GPU."""
    return (x_NE.double() @ weight.double().T * (1 + 1e-5 * len(x_NE))).to(x_NE.dtype) + (
        0 if bias is None else bias
    )


def mean_by_rows(x_TE: Tensor, *args, **kwargs) -> Tensor:
    return torch.mean(x_TE, *args, **kwargs) * (1 + 1e-5 * len(x_TE))


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
    monkeypatch.setattr(exactness, "_agrees", lambda *args: 1 / 0)
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
    monkeypatch.setattr(exactness, "_agrees", lambda *args: not count.append(1))

    golden_engine()
    golden_engine()
    assert len(count) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    golden_engine()
    assert len(count) == 2


@pytest.fixture
def _rows_matter(monkeypatch):
    """Products and norms whose bits depend on the number of rows."""
    monkeypatch.setattr(torch.nn.functional, "linear", kernel_by_rows)
    monkeypatch.setattr(Tensor, "mean", mean_by_rows)


def own_engine(dtype: str, *, is_joined: bool = False, **config) -> Engine:
    """An engine over a model of its own: tiles change it in place."""
    model = load_model(GOLDEN / "ckpt_a", dtype=DTYPES[dtype], device="cpu")
    if is_joined:
        join_products(model)
    return Engine(model, None, EngineConfig(dtype=dtype, **config))


LENGTHS = [5, 1, 9, 30, 2, 17, 64, 3]
SETTINGS = {
    "greedy": {},
    "drawn": {"temperature": 0.8, "seed": 1},
    "filtered": {"temperature": 0.8, "seed": 1, "top_p": 0.9, "top_k": 50},
    "ruled": {"threshold": 0.05},
    "history": {"history": 2},
}


def outcome(engine: Engine, names: list[int], params: dict) -> dict[str, list[object]]:
    """Every event of requests in one batch, confidences to the bit."""
    for n in names:
        prompt = [n + 1] * (300 if n == 3 else 3)
        engine.add(request(str(n), [prompt, LENGTHS[n]], **params))
    events: dict[str, list[object]] = {str(n): [] for n in names}
    while engine.has_work:
        for event in engine.step():
            events[event.request_id].append((event.positions, event.token_ids, event.confidences))
    engine.collect()
    return events


@pytest.mark.usefixtures("_rows_matter")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    ("dtype", "is_joined"), [("float32", False), ("bfloat16", False), ("bfloat16", True)]
)
def test_batch_invariant_results_are_the_same_alone_and_in_a_batch_of_eight(
    dtype, is_joined, settings
):
    engine = own_engine(dtype, is_joined=is_joined, batch_invariant=True)

    together = outcome(engine, list(range(8)), SETTINGS[settings])
    alone = [outcome(engine, [n], SETTINGS[settings]) for n in range(8)]

    assert engine.is_bit_exact
    for one in alone:
        assert together[next(iter(one))] == next(iter(one.values()))


@pytest.mark.usefixtures("_rows_matter")
@pytest.mark.filterwarnings("ignore::dream.errors.NotBitExact")
def test_without_it_they_are_not_where_rows_matter():
    engine = own_engine("float32")

    together = outcome(engine, list(range(8)), {})
    alone = [outcome(engine, [n], {}) for n in range(8)]

    assert not engine.is_bit_exact
    assert any(together[next(iter(one))] != next(iter(one.values())) for one in alone)


@pytest.mark.parametrize("settings", WAYS)
def test_sampling_always_equally_many_rows_gives_the_same_tokens(settings):
    """As batch_invariant does on CUDA."""
    engine = golden_engine(max_logit_rows=7)
    engine._runner._is_padded = True
    requests = [wanted(str(n), **WAYS[settings]) for n in range(3)]

    found = engine.generate(requests)

    assert found == golden_engine().generate(requests)


def test_tiles_give_the_tokens_of_whole_products():
    requests = [request(str(n), [[n + 1] * 300, 12]) for n in range(3)]

    found = own_engine("float32", batch_invariant=True).generate(requests)

    plain = golden_engine().generate(requests)
    assert [one.token_ids for one in found] == [one.token_ids for one in plain]


def test_batch_invariant_is_never_compiled():
    assert not EngineConfig(device="cuda", batch_invariant=True).compile
    with pytest.raises(InvalidRequest, match="batch_invariant"):
        EngineConfig(batch_invariant=True, compile=True)
