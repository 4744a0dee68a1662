"""One pass over rows of logits: against float64, and the Triton kernel by its interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from dream.kernels.fallback import FirstTry
from dream.kernels.row_stats import RowStats, plain_row_stats, row_stats
from dream.remasking import OF_STATS, STRATEGIES
from dream.remasking.confidence import SCORES
from dream.sampling import RowParams, certainty, certainty_of, drawn_of, sample

ROOT = Path(__file__).parent.parent.parent
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def rows_of_logits(num_ids: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Flat, peaked, tied, suppressed and single-token rows."""
    random = torch.Generator().manual_seed(num_ids)
    logits = (
        torch.randn(8, num_ids, generator=random) * torch.tensor([[0.1, 1, 3, 9, 3, 3, 3, 3]]).T
    )
    logits[1, -1] = 40
    logits[4, [num_ids // 3, num_ids - 2]] = 20  # equal: the lowest id, and a margin of 0
    logits[5, ::2] = -torch.inf
    logits[6] = -torch.inf
    logits[6, num_ids // 2] = 2
    logits[7, : num_ids // 2] = -torch.inf
    return logits.to(dtype)


def exact_stats(logits: torch.Tensor, ids: torch.Tensor | None) -> RowStats:
    """By sorting, in float64."""
    wide = logits.double()
    values, order = wide.sort(dim=-1, descending=True, stable=True)
    log_probs = wide.log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs.nan_to_num(neginf=0)).sum(-1)
    mass = (values - values[:, :1]).exp().sum(-1)
    chosen = values[:, 0] if ids is None else wide.gather(1, ids[:, None])[:, 0]
    return RowStats(values[:, 0], values[:, 1], order[:, 0], mass, entropy, chosen)


def check(found: RowStats, logits: torch.Tensor, ids: torch.Tensor | None) -> None:
    """Logits and ids are exact; sums are float32."""
    wanted = exact_stats(logits, ids)
    assert torch.equal(found.index_N, wanted.index_N)
    for name in ("highest_N", "second_N", "chosen_N"):
        assert torch.equal(getattr(found, name).double(), getattr(wanted, name)), name
    torch.testing.assert_close(found.mass_N.double(), wanted.mass_N, rtol=2e-6, atol=0)
    torch.testing.assert_close(found.entropy_N.double(), wanted.entropy_N, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_ids", [3, 512, 5000])
def test_the_plain_form_is_right(dtype, num_ids):
    logits = rows_of_logits(num_ids, dtype)
    ids = torch.arange(8) % num_ids

    check(row_stats(logits), logits, None)
    check(row_stats(logits, ids), logits, ids)


INTERPRETED = """
import sys, torch
from tests.dream import test_row_stats as tests
from dream.kernels.row_stats import RowStats
from dream.kernels.triton_rows import triton_row_stats

for num_ids in (3, 512, 2048, 5000):
    for dtype in tests.DTYPES:
        logits = tests.rows_of_logits(num_ids, dtype)
        for ids in (None, torch.arange(8) % num_ids):
            tests.check(RowStats(*triton_row_stats(logits, ids)), logits, ids)
one = tests.rows_of_logits(5000, torch.bfloat16)
together = triton_row_stats(one)
for row in range(8):
    alone = triton_row_stats(one[row : row + 1])
    assert all(torch.equal(a[row : row + 1], b) for a, b in zip(together, alone))
bad = torch.zeros(2, 3000)
bad[0, 7] = torch.nan
found = RowStats(*triton_row_stats(bad))
assert found.top_probs_N.isfinite().tolist() == [False, True]
wide = torch.randn(4, 700)[:, :600]
tests.check(RowStats(*triton_row_stats(wide)), wide, None)
"""
"""Runs in a process of its own: Triton reads TRITON_INTERPRET where a kernel is defined."""


COMPILED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dream.kernels.triton_rows import LANES, WARPS, _row_stats

for capability in (80, 90):
    for dtype in ("bf16", "fp16", "fp32"):
        for has_ids in (False, True):
            given = {"HAS_IDS": has_ids, "V": 152064, "L": LANES}
            kinds = dict.fromkeys(_row_stats.arg_names, "*fp32")
            kinds |= {"logits": "*" + dtype, "ids": "*i64", "index": "*i64", "stride": "i32"}
            kinds |= dict.fromkeys(given, "constexpr")
            places = {(_row_stats.arg_names.index(name),): given[name] for name in given}
            source = ASTSource(_row_stats, kinds, places)
            target = GPUTarget("cuda", capability, 32)
            assert compile(source, target=target, options={"num_warps": WARPS}).asm["cubin"]
"""
"""The interpreter runs what the compiler refuses; this needs no GPU."""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize(
    ("code", "is_interpreted"), [(INTERPRETED, "1"), (COMPILED, "0")], ids=["runs", "compiles"]
)
def test_the_triton_kernel_is_right_and_sees_each_row_alone(code, is_interpreted, tmp_path):
    own = {"TRITON_INTERPRET": is_interpreted, "TRITON_CACHE_DIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("alg", sorted(OF_STATS))
def test_statistics_score_a_greedy_row_as_its_probabilities_do(alg):
    logits = rows_of_logits(5000)
    score = SCORES[alg] if alg in SCORES else STRATEGIES[alg].score
    stats = row_stats(logits)

    wanted = sample(logits.clone(), RowParams(), score, 0)
    found = drawn_of(stats, OF_STATS[alg](stats))

    assert torch.equal(found.token_ids_N, wanted.token_ids_N)
    assert not found.is_open_N.any()
    torch.testing.assert_close(found.probs_N, wanted.probs_N)
    torch.testing.assert_close(found.scores_N, wanted.scores_N, atol=5000 * 1e-10 + 4e-6, rtol=4e-6)


def test_every_strategy_has_a_score_of_statistics():
    assert {*STRATEGIES, *SCORES} == set(OF_STATS)


def test_certainty_of_statistics_is_that_of_the_logits():
    logits = rows_of_logits(5000)

    for found, wanted in zip(certainty_of(row_stats(logits)), certainty(logits), strict=True):
        torch.testing.assert_close(found, wanted, atol=4e-6, rtol=4e-6)


def test_not_a_number_anywhere_is_seen():
    logits = torch.zeros(2, 300)
    logits[0, 7] = torch.nan

    assert plain_row_stats(logits).top_probs_N.isfinite().tolist() == [False, True]


def test_what_does_not_run_is_told_once_and_the_plain_form_takes_over():
    calls: list[int] = []

    def broken(value: int) -> int:
        calls.append(value)
        raise OSError("no compiler here")

    tried = FirstTry("a kernel", broken, lambda value: value + 1)

    with pytest.warns(RuntimeWarning, match="a kernel: .* OSError: no compiler here") as told:
        found = [tried(1), tried(2)]

    assert found == [2, 3]
    assert (len(told), calls, tried.is_fast) == (1, [1], False)


def test_a_lack_of_memory_is_no_reason_to_change_the_way():
    def full() -> None:
        raise torch.OutOfMemoryError("full")

    tried = FirstTry("a kernel", full, lambda: None)

    with pytest.raises(torch.OutOfMemoryError):
        tried()
    assert tried.is_fast
