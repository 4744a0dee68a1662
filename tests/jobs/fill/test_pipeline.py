"""What the plan leans on in Ray Data, and what it does not leave to chance."""

from __future__ import annotations

import inspect
import warnings

import pyarrow as pa
import pytest


def test_a_plan_that_ray_would_run_without_checkpoints_is_an_error(tmp_path):
    from ray.data._internal.planner.planner import Planner

    from jobs.fill.pipeline import write

    class Ineligible:
        def write_parquet(self, *args, **kwargs):
            warnings.warn("You've enabled checkpointing, but the logical plan ...", stacklevel=2)

    assert "You've enabled checkpointing" in inspect.getsource(Planner.plan)
    with pytest.raises(UserWarning, match="enabled checkpointing"):
        write(Ineligible(), tmp_path, pa.schema([]))  # type: ignore[arg-type]


def test_no_part_name_is_a_prefix_of_another_and_a_batch_is_found_by_its_part(tmp_path):
    from jobs.fill.ledger import CommitLog, JobFolder
    from jobs.fill.parts import PartNames

    names = [PartNames().get_filename_for_task("uuid", task) for task in (1, 10, 100, 10**7)]
    stems = [name.removesuffix(".parquet") for name in names]

    for one in stems:
        assert [other for other in stems if other.startswith(one)] == [one]
        part = tmp_path / f"{one}-0.parquet"
        assert CommitLog(JobFolder(tmp_path)).batch_of(part) == one


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("died in its creation task, x\n  File y\nEngineError: not finite", False),
        ("The actor is unavailable", True),
    ],
)
def test_what_ray_raises_ends_the_job_with_its_reason_in_one_line(tmp_path, text, hint):
    from ray.exceptions import RayActorError

    from jobs.common.errors import JobError
    from jobs.fill.pipeline import write

    class Dead(RayActorError):
        def __str__(self):
            return text

    class Failing:
        def write_parquet(self, *args, **kwargs):
            raise Dead

    with pytest.raises(JobError) as end:
        write(Failing(), tmp_path, pa.schema([]))  # type: ignore[arg-type]

    assert text.splitlines()[-1] in str(end.value)
    assert ("resume goes on" in str(end.value)) is hint
    assert "\n" not in str(end.value)
