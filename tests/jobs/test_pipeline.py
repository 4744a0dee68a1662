"""What the plan leans on in Ray Data, and what it does not leave to chance."""

from __future__ import annotations

import inspect
import warnings

import pyarrow as pa
import pytest


def test_a_plan_that_ray_would_run_without_checkpoints_is_an_error(tmp_path):
    from ray.data._internal.planner.planner import Planner

    from jobs.pipeline import write

    class Ineligible:
        def write_parquet(self, *args, **kwargs):
            warnings.warn("You've enabled checkpointing, but the logical plan ...", stacklevel=2)

    assert "You've enabled checkpointing" in inspect.getsource(Planner.plan)
    with pytest.raises(UserWarning, match="enabled checkpointing"):
        write(Ineligible(), tmp_path, pa.schema([]))  # type: ignore[arg-type]


def test_no_part_name_is_a_prefix_of_another_and_a_granule_is_found_by_its_part(tmp_path):
    from jobs.ledger import CommitLog, JobFolder
    from jobs.parts import PartNames

    names = [PartNames().get_filename_for_task("uuid", task) for task in (1, 10, 100, 10**7)]
    stems = [name.removesuffix(".parquet") for name in names]

    for one in stems:
        assert [other for other in stems if other.startswith(one)] == [one]
        part = tmp_path / f"{one}-0.parquet"
        assert CommitLog(JobFolder(tmp_path)).granule_of(part) == one
