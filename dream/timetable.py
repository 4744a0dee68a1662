"""How many masks are committed at step i of n; steps that commit nothing are left out.

Source: `diffusion_generate` of the published `generation_utils.py`. The time grid and the
products are float32, as there, so that the truncations fall alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from dream.params import SamplingParams

__all__ = ["Plan", "ScheduledStep", "commit_counts", "hit_steps"]


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A step that commits `count` of the masked positions, or exactly `positions` if given.

    Under a commit rule `count` is only what the timetable asks for, and may be 0.
    """

    step: int
    count: int
    positions: NDArray[np.int64] | None = None


Plan = Callable[[NDArray[np.int64], SamplingParams, int, int], list[ScheduledStep]]
"""(masked positions, parameters, steps, first) -> the scheduled steps from `first` on."""


@lru_cache(maxsize=4096)
def commit_counts(
    num_masked: int, steps: int, eps: float, first: int = 0
) -> tuple[tuple[int, int], ...]:
    """(step, count) of every step from `first` on that commits; the counts sum to `num_masked`.

    k_i = int(n_i * (1 - t[i+1] / t[i])) with n_i masks left, and all of them at the last step.
    """
    t = _time_grid(steps, eps)
    shares = np.float32(1) - t[1:] / t[:-1]
    counts: list[tuple[int, int]] = []
    left = num_masked
    for step in range(first, steps):
        count = left if step == steps - 1 else int(np.float32(left) * shares[step])
        if count:
            counts.append((step, count))
            left -= count
    return tuple(counts)


def hit_steps(
    uniforms: NDArray[np.float64], steps: int, eps: float, first: int = 0
) -> NDArray[np.int64]:
    """The step from `first` on at which each position is committed under alg "origin".

    There a masked position is committed at step i with probability 1 - t[i+1] / t[i]
    independently, so its step is the first i with u < 1 - t[i+1] / t[first]; the last takes
    the rest (first-hitting form of arXiv 2409.02908).
    """
    t = _time_grid(steps, eps).astype(np.float64)
    reached = 1 - t[first + 1 : steps] / t[first]
    return first + np.searchsorted(reached, uniforms, side="right")


@lru_cache(maxsize=256)
def _time_grid(steps: int, eps: float) -> NDArray[np.float32]:
    return torch.linspace(1, eps, steps + 1).numpy()
