"""The card of a run that continued another one tells of both."""

from __future__ import annotations

import json
from pathlib import Path

from dream.model.loader import weights_sha256
from jobs.train.checkpoint import save
from jobs.train.config import TrainSpec
from jobs.train.export import export
from jobs.train.model import CARD
from jobs.train.record import TrainRecord, identity_of
from tests.jobs.train.trainrun import TINY, spec_of, train_here

SIZES = [name for name in TINY if name.endswith(("hidden_size", "_layers", "_heads"))]
SIZES += ["intermediate_size"]


def exported(spec: TrainSpec, work: Path, output: Path) -> dict:
    """The card of the run, after it was trained and written to `output`."""
    output.mkdir()
    train_here(spec, work, save=lambda state: save(state, work / "at", 0, 1))
    record = TrainRecord(spec=spec.dump(), identity=identity_of(spec), updates=spec.updates)
    export(work / "at", work / "base", output, record)
    return json.loads((output / CARD).read_text())


def test_a_card_tells_of_the_run_that_it_continued(tmp_path):
    first = exported(spec_of(updates=2), tmp_path / "a", tmp_path / "first")
    changes = dict.fromkeys(SIZES) | {"from": str(tmp_path / "first"), "seed": 4}

    second = exported(spec_of(updates=3, **changes), tmp_path / "b", tmp_path / "second")

    assert first["started_from"] is None
    told = second["started_from"]
    assert told.pop("weights_sha256") == weights_sha256(tmp_path / "first")
    assert told == {name: value for name, value in first.items() if name != "log"}
    assert second["recipe"]["seed"] == 4
    assert str(tmp_path) not in json.dumps(second)
