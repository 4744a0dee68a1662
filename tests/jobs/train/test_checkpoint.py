"""Checkpoints of several workers that hold the same: one file, which each of them reads."""

from __future__ import annotations

import torch

from jobs.train.checkpoint import restore, save
from jobs.train.network import local_of
from tests.jobs.train.trainrun import fresh, spec_of, train_here


def moments_of(state) -> dict[str, torch.Tensor]:
    """What the optimisers remember, by the number of the parameter."""
    return {
        f"{number} {index} {name}": value
        for number, optimizer in enumerate(state.optimizers)
        for index, kept in optimizer.state_dict()["state"].items()
        for name, value in kept.items()
        if isinstance(value, torch.Tensor)
    }


def test_every_worker_goes_on_from_the_one_file_of_unsharded_weights(tmp_path):
    spec = spec_of(num_workers=2, updates=3)
    whole, _ = train_here(spec, tmp_path, save=lambda state: save(state, tmp_path / "at", 0, 1))
    assert [path.name for path in (tmp_path / "at").glob("*.safetensors")] == [
        "shard-00000.safetensors"
    ]

    for rank in (0, 1):
        state, _, _ = fresh(spec, tmp_path)
        restore(state, tmp_path / "at", rank, 1)

        assert state.progress == whole.progress
        for name, parameter in whole.parameters.items():
            assert torch.equal(local_of(state.parameters[name]), local_of(parameter))
            assert torch.equal(state.average[name], whole.average[name])
        kept = moments_of(whole)
        assert kept.keys() == moments_of(state).keys() != set()
        assert all(torch.equal(kept[name], value) for name, value in moments_of(state).items())
