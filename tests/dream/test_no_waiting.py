"""Nothing between collating a step and reading its result waits for the device.

A CPU never waits, so operations are recorded instead: those whose result the host needs, or whose
shape depends on data. `tests/gpu` runs the same steps under CUDA's own check.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dream import Fixed, Hole, Request, SamplingParams, Template
from tests.models import golden_engine

WAITING = {
    "_local_scalar_dense",  # item, tolist, bool(), float()
    "nonzero",  # also indexing by a mask
    "masked_select",
    "is_nonzero",
    "equal",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}

SETTINGS = {
    "greedy": {},
    "drawn": {"temperature": 1.0},
    "filtered": {"temperature": 0.5, "top_p": 0.9, "top_k": 20},
    "open": {"temperature": 2.0, "top_p": 1.0, "top_k": 400},
    "origin": {"alg": "origin"},
    "margin": {"alg": "topk_margin", "alg_temp": 0.5},
    "threshold": {"threshold": 0.9},
    "hierarchy": {"threshold": 0.9, "low_threshold": 0.4},
    "factor": {"factor": 1.0, "block_length": 4},
    "entropy_bound": {"entropy_bound": 0.5, "frontier": 4},
    "entropy_threshold": {"entropy_threshold": 0.5, "max_commits": 2},
    "eos": {"eos_frontier": 1, "eos_annealing": 3.0},
    "first": {"egi_temperature": 0.9},
    "history": {"history": 3},
    "window": {"window": "dual", "block_length": 4},
    "suffix": {"window": "prefix", "block_length": 4, "suffix_window": 2},
}


METHODS = ["tolist", "item", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"]
"""On a CPU some of these read memory without an operation."""


class Recorder(TorchDispatchMode):
    """Names of the operations and methods that would make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __enter__(self) -> Recorder:
        self._patches = pytest.MonkeyPatch()
        for name in METHODS:
            self._patches.setattr(torch.Tensor, name, self._noting(name))
        super().__enter__()
        return self

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._patches.undo()

    def _noting(self, name: str):
        method = getattr(torch.Tensor, name)

        def noting(tensor, *args):
            self.waits.append(name)
            return method(tensor, *args)

        return noting

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        masks = isinstance(args[1], list | tuple) if name.startswith("index") else False
        by_mask = masks and any(getattr(i, "dtype", None) == torch.bool for i in args[1])
        is_ragged = name == "repeat_interleave" and not str(func).endswith("self_int")
        if name in WAITING or by_mask or is_ragged:
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))


def run_recorded(engine) -> list[str]:
    """Waits from the forward to the reading of its result, over all steps."""
    recorder = Recorder()
    is_recording = False

    def trace(stage: str) -> None:
        nonlocal is_recording
        if stage in ("forward", "sample") and not is_recording:
            recorder.__enter__()
            is_recording = True
        elif stage == "read":
            recorder.__exit__(None, None, None)
            is_recording = False

    engine.trace(trace)
    while engine.has_work:
        engine.step()
    return recorder.waits


def wanted(name: str, **params) -> Request:
    template = Template([Fixed([3, 4, 5]), Hole(6), Fixed([7]), Hole(5)])
    return Request(id=name, template=template, params=SamplingParams(steps=None, **params))


@pytest.mark.parametrize("name", SETTINGS)
def test_no_step_of_any_kind_waits(name):
    engine = golden_engine()
    engine.add(wanted(name, **SETTINGS[name]))

    assert run_recorded(engine) == []


@pytest.mark.parametrize("reads_stats", [False, True])
def test_a_step_of_all_kinds_together_does_not_wait(reads_stats):
    engine = golden_engine(max_logit_rows=7)
    engine._runner.reads_stats = reads_stats
    for name, params in SETTINGS.items():
        engine.add(wanted(name, **params))

    assert run_recorded(engine) == []


def test_one_pass_over_the_logits_gives_the_same_tokens_for_all_kinds():
    """As on CUDA: greedy rows and rules by statistics, the others as on a CPU."""
    engines = [golden_engine(), golden_engine()]
    engines[1]._runner.reads_stats = True

    plain, found = (
        engine.generate([wanted(name, **params) for name, params in SETTINGS.items()])
        for engine in engines
    )

    assert [one.token_ids for one in found] == [one.token_ids for one in plain]
    assert [one.usage for one in found] == [one.usage for one in plain]


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.int64)),
    ],
)
def test_the_recorder_sees_what_waits(read):
    with Recorder() as recorder:
        read(torch.ones(3))

    assert recorder.waits
