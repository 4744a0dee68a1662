"""What the variable-length kernel is asked for."""

from __future__ import annotations

import pytest
import torch

from dream.model import attention
from dream.model.attention import Segments, varlen


@pytest.mark.parametrize(("num_queries", "wanted"), [([1, 1], 2), ([2, 1], 2), ([1, 40], 40)])
def test_the_kernel_is_never_told_of_a_single_query(monkeypatch, num_queries, wanted):
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(attention, "_varlen_kernel", lambda: lambda *args: seen.append(args))
    q, k = torch.randn(sum(num_queries), 4, 8), torch.randn(60, 2, 8)

    varlen(q, k, k, Segments.of(num_queries, [20, 40], torch.from_numpy))

    assert seen[0][5:] == (wanted, 40)
