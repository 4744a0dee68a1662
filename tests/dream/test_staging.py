"""Host arrays reach the device as they are, in few copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dream.engine.staging import PAGE, Staging

ARRAYS = [
    np.arange(5),
    np.array([True, False, True]),
    np.zeros(0, np.float64),
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(7, dtype=np.int32),
    np.arange(PAGE // 8 + 3),
    np.arange(20)[::3],
    np.arange(PAGE // 16),
    np.arange(PAGE // 16, dtype=np.float64),
]


def paged() -> Staging:
    """Staging as on a GPU, with pages of the CPU that are not pinned."""
    staging = Staging(torch.device("cpu"))
    staging._is_direct = False
    return staging


@pytest.mark.parametrize("staging", [Staging(torch.device("cpu")), paged()])
def test_tensors_hold_the_arrays_after_the_flush(staging):
    for _ in range(2):
        tensors = [staging.put(array) for array in ARRAYS]
        staging.flush()

        for tensor, array in zip(tensors, ARRAYS, strict=True):
            assert tensor.shape == array.shape
            np.testing.assert_array_equal(tensor.numpy(), array)
            assert tensor.numpy().dtype == array.dtype


def test_a_tick_of_small_arrays_is_one_copy():
    staging = paged()

    for number in range(100):
        staging.put(np.arange(number))

    assert len(staging._pages) == 1
