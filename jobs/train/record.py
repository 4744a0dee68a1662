"""What a run is, written beside it: a later call goes on only if all of that is the same."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dream.model.loader import resolve, weights_sha256
from jobs.errors import Refused
from jobs.inputs import scan
from jobs.train.config import Plain, TrainSpec
from jobs.train.corpus import FORMS

__all__ = ["TrainRecord", "generator_sha256", "identity_of"]


class TrainRecord(BaseModel):
    """`_train/train.json`: the settings a run was begun with, and what they came to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: dict[str, Plain]
    identity: dict[str, Plain]
    updates: int
    rows: int | None = None
    rows_dropped: int | None = None

    def write(self, path: Path) -> None:
        """Written whole or not at all."""
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)

    @classmethod
    def read(cls, path: Path) -> TrainRecord | None:
        """The record of a run that was begun; None where none was."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Refused(f"{path}: not the record of a training run: {error}") from error

    def refuse_other(self, identity: dict[str, Plain], output: str) -> None:
        """Refuse to go on with other settings; names each that differs."""
        lines = [
            f"{name}: {json.dumps(self.identity.get(name))} -> {json.dumps(identity.get(name))}"
            for name in sorted(self.identity.keys() | identity.keys())
            if self.identity.get(name) != identity.get(name)
        ]
        if lines:
            raise Refused(
                f"{output} holds another run; choose another --output, or the same settings: "
                + "; ".join(lines)
            )


def identity_of(spec: TrainSpec) -> dict[str, Plain]:
    """Settings, data and first weights: everything that decides what the weights become."""
    identity = spec.identity()
    if spec.mix is not None:
        identity["generator_sha256"] = generator_sha256(tuple(spec.mix))
    if spec.parquet is not None:
        identity["data_sha256"] = scan(spec.parquet).sha256
    if spec.from_place is not None:
        identity["from_sha256"] = weights_sha256(resolve(spec.from_place))
    return identity


def generator_sha256(forms: tuple[str, ...]) -> str:
    """Digest of the code that draws these forms and their noise."""
    names = {FORMS[form].sample.__module__ for form in forms}
    names |= {"jobs.tasks.base", "jobs.train.corpus", "jobs.train.objective"}
    digest = hashlib.sha256()
    for name in sorted(names):
        path = importlib.import_module(name).__file__
        assert path is not None
        digest.update(name.encode() + hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()
