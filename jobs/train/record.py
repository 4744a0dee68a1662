"""What a run is, written beside it: a later call goes on only if all of that is the same."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dream.model.loader import resolve, weights_sha256
from jobs.common.errors import Refused
from jobs.common.files import write_atomically
from jobs.common.fingerprint import Json, differences
from jobs.fill.inputs import scan
from jobs.tasks.sources import source_sha256, task_modules
from jobs.train.config import TrainSpec
from jobs.train.corpus import TASK_VARIANTS

__all__ = ["TrainRecord", "identity_of", "row_modules"]

ROW_MAKERS = ("corpus", "data", "objective", "order", "sft", "store")
"""Modules of this package that rows and batches are made by, of a mix or of Parquet."""


class TrainRecord(BaseModel):
    """`_train/train.json`: the settings a run was begun with, and what they came to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: dict[str, Json]
    identity: dict[str, Json]
    updates: int
    rows: int | None = None
    rows_dropped: int | None = None

    def write(self, path: Path) -> None:
        """Written whole or not at all."""
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> TrainRecord | None:
        """The record of a run that was begun; None where none was."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Refused(f"{path}: not the record of a training run: {error}") from error

    def refuse_other(self, identity: dict[str, Json], output: str) -> None:
        """Refuse to go on with other settings; names each that differs."""
        if lines := differences(self.identity, identity):
            raise Refused(
                f"{output} holds another run; choose another --output, or the same settings: "
                + "; ".join(lines)
            )


def identity_of(spec: TrainSpec) -> dict[str, Json]:
    """Settings, data, its code and first weights: everything that decides what comes out."""
    identity = spec.identity()
    identity["generator_sha256"] = source_sha256(row_modules(tuple(spec.mix or ())))
    if spec.parquet is not None:
        identity["data_sha256"] = scan(spec.parquet).sha256
    if spec.from_place is not None:
        identity["from_sha256"] = weights_sha256(resolve(spec.from_place))
    return identity


def row_modules(variants: tuple[str, ...]) -> set[str]:
    """The modules that draw these task variants, their noise and the order of rows."""
    tasks = {
        name for one in variants for name in task_modules(TASK_VARIANTS[one].sample.__module__)
    }
    return tasks | {f"jobs.train.{name}" for name in ROW_MAKERS}
