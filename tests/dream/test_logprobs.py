"""Log-probabilities: limits, ties, who pays, and each way a step is run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dream import Engine, Request, TokenLogprobs
from dream.canvas import Canvas
from dream.engine import graphs as graphs_module
from dream.engine import runner as module
from dream.engine.logprobs import row_logprobs
from dream.errors import InvalidRequest
from dream.remasking import STRATEGIES
from dream.request import MAX_LOGPROBS
from dream.sampling import highest_few, largest
from tests.dream.test_async_scheduling import engine_with_halves
from tests.dream.test_graphs import engine_with_graphs
from tests.dream.test_no_waiting import SETTINGS, run_recorded, wanted
from tests.laws.reference import predictions, replayed, run
from tests.models import MASK, VOCAB, ending_engine, golden_engine, request

WAYS = {**SETTINGS, "redrawn": {"temperature": 5.0, "top_p": 0.95}}
"""`redrawn`: the 128 largest logits are too few, so rows are drawn again from all of them."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """A graph is captured when its shape is first seen."""
    monkeypatch.setattr(graphs_module, "SIGHTS", 1)


def asking(one: Request, num_top: int = 3) -> Request:
    return replace(one, logprobs=num_top)


def of_every_kind(num_top: int | None) -> list[Request]:
    return [replace(wanted(name, **own), logprobs=num_top) for name, own in WAYS.items()]


@pytest.mark.parametrize("value", [-1, 6, True, 1.5, "2"])
def test_only_counts_from_0_to_5_are_taken(value):
    with pytest.raises(InvalidRequest, match=r"None or an integer 0\.\.5") as caught:
        replace(wanted("a"), logprobs=value)

    assert caught.value.field == "logprobs"


@pytest.mark.parametrize("num_ids", [3, 512, 700])
def test_the_highest_few_are_the_largest_with_ties_by_the_lowest_id(num_ids):
    logits = (torch.randn(200, num_ids, generator=torch.manual_seed(0)) * 2).round()
    num = min(MAX_LOGPROBS, num_ids)

    values, ids = highest_few(logits.clone(), num)

    sorted_values, sorted_ids = largest(logits, num_ids)
    assert torch.equal(values, sorted_values[:, :num])
    assert torch.equal(ids, sorted_ids[:, :num])


@pytest.mark.parametrize("reads_stats", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_say_what_log_softmax_says_in_any_dtype(dtype, reads_stats):
    logits = (torch.randn(9, VOCAB, generator=torch.manual_seed(0)) * 3).to(dtype)
    logits[:, MASK] = -torch.inf
    tokens = torch.arange(9)
    expected = logits.double().log_softmax(-1)

    found = row_logprobs(logits.clone(), tokens, reads_stats=reads_stats)

    def close(values: torch.Tensor, others: torch.Tensor) -> None:
        torch.testing.assert_close(values.double(), others, atol=1e-5, rtol=0)

    close(found.chosen_N, expected[range(9), tokens])
    close(found.top_NK, expected.topk(MAX_LOGPROBS).values)
    close(expected.gather(1, found.top_ids_NK), expected.topk(MAX_LOGPROBS).values)


def test_what_can_never_be_drawn_is_no_alternative(monkeypatch):
    engine = golden_engine()
    suppressed = torch.tensor([n for n in range(VOCAB) if n not in (7, 8)])
    monkeypatch.setattr(engine._runner, "_suppressed", suppressed)

    events, _ = run(engine, asking(wanted("a"), 5))

    for event in events["a"]:
        for told in event.logprobs:
            assert {token for token, _ in told.top} == {7, 8}


@pytest.mark.parametrize("name", sorted(WAYS.keys() - {"window", "suffix"}))
@pytest.mark.parametrize("way", ["stats", "padded", "graphs", "async"])
def test_every_way_to_run_a_step_tells_what_a_plain_forward_says(name, way):
    """Of a row that is drawn again, the numbers are those of its last token."""
    engine = engine_that_runs(way)
    one = asking(wanted("a", **WAYS[name], early_exit=False), 2)

    events, _ = run(engine, one)

    for canvas, event in replayed(one, events["a"]):
        raw = predictions(canvas).log_softmax(-1)[event.positions]
        chosen = raw[range(len(raw)), event.token_ids].tolist()
        assert [told.logprob for told in event.logprobs] == pytest.approx(chosen, abs=1e-5)
        tops = raw.topk(2).values.flatten().tolist()
        told = [value for one in event.logprobs for _, value in one.top]
        assert told == pytest.approx(tops, abs=1e-5)


def engine_that_runs(way: str) -> Engine:
    if way == "graphs":
        return engine_with_graphs()[0]
    if way == "async":
        return engine_with_halves()
    engine = golden_engine(max_logit_rows=7)
    engine._runner.reads_stats = way == "stats"
    engine._runner._is_padded = way == "padded"
    return engine


@pytest.mark.parametrize("size", [1, 7, 512])
def test_all_kinds_together_give_the_bits_of_each_alone_and_the_tokens_of_nobody_asking(size):
    asked, plain = of_every_kind(4), golden_engine().generate(of_every_kind(None))

    found = golden_engine(max_logit_rows=size).generate(asked)

    assert found == [golden_engine().generate([one])[0] for one in asked]
    assert [replace(one, logprobs=None) for one in found] == plain


def test_tempered_and_filtered_draws_have_the_probability_that_they_had_before_both():
    """At temperature .7 and top_p .9 the distribution drawn from is another one."""
    one = asking(request("a", [[3, 4], 30], temperature=0.7, top_p=0.9, seed=5))

    events, _ = run(golden_engine(), one)

    differs = False
    for canvas, event in replayed(one, events["a"]):
        raw = predictions(canvas).log_softmax(-1)
        rows = zip(event.positions, event.token_ids, event.logprobs, strict=True)
        for (position, token, told), drawn in zip(rows, event.confidences, strict=True):
            assert told.logprob == pytest.approx(float(raw[position, token]), abs=1e-5)
            differs |= abs(told.logprob - torch.tensor(drawn).log()) > 0.1
    assert differs


def test_only_rows_of_those_who_ask_are_looked_at(monkeypatch):
    seen: list[int] = []

    def counted(logits_NV, token_ids_N, **config):
        seen.append(len(logits_NV))
        return row_logprobs(logits_NV, token_ids_N, **config)

    monkeypatch.setattr(module, "row_logprobs", counted)
    engine = golden_engine()
    engine.add(asking(request("a", [[1, 2], 5])))
    engine.add(request("b", [[1, 2], 9]))

    engine.step()

    assert sum(seen) == 5


def test_the_copy_to_the_host_grows_only_where_somebody_asks():
    sizes = []
    for num_top in (None, 0):
        engine = golden_engine()
        engine.add(replace(request("a", [[1, 2], 5], steps=1), logprobs=num_top))
        engine._launch()
        sizes.append(len(engine._launched[0].readback._host))

    assert sizes == [5 * 4, 5 * (4 + 1 + 2 * MAX_LOGPROBS)]


@pytest.mark.parametrize("reads_stats", [False, True])
def test_no_step_that_tells_them_waits(reads_stats):
    engine = golden_engine(max_logit_rows=7)
    engine._runner.reads_stats = reads_stats
    for one in of_every_kind(5):
        engine.add(one)

    assert run_recorded(engine) == []


def test_graphs_give_the_same_numbers_and_leave_the_sampler_to_the_engine():
    engine, graphs = engine_with_graphs()
    stages: list[str] = []
    engine.trace(stages.append)
    asked = asking(request("a", [[1, 2, 3], 9], alg="maskgit_plus"))

    found = engine.generate([asked])

    assert found == golden_engine().generate([asked])
    assert graphs.num_replayed == engine.stats.steps
    assert "sample" in stages
    assert {shape.tail for shape in graphs._graphs} == {None}


def test_positions_that_an_early_exit_fills_have_none():
    wished = asking(request("a", [[1, 2], 40], alg="maskgit_plus"))

    events, done = run(ending_engine(), wished)

    committed = {position for event in events["a"] for position in event.positions}
    assert done["a"].logprobs.keys() == committed < set(range(2, 42))


def test_a_drawn_mask_id_is_no_committed_token():
    """In parity mode it leaves its position masked, and there is nothing to tell of it."""
    canvas = Canvas(
        asking(request("a", [[1], 3], steps=1)),
        STRATEGIES["entropy"].plan,
        mask_id=MASK,
        eos_ids=frozenset(),
    )
    told = [TokenLogprobs(logprob=-float(n), top=[]) for n in range(3)]
    positions, probs = canvas.step_plan.candidates, torch.ones(3).numpy()

    event = canvas.commit(positions, torch.tensor([4, MASK, 6]).numpy(), probs, 0, told)

    assert event.positions == [1, 3]
    assert event.logprobs == [told[0], told[2]]
    assert canvas.completion().logprobs == {1: told[0], 3: told[2]}


def test_a_request_that_has_nothing_to_fill_has_none_to_tell():
    [done] = golden_engine().generate([asking(request("a", [[1, 2]]))])

    assert done.logprobs == {}
