"""What is looked at before anything is written: inputs, columns, model, and who the job is."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dream.errors import DreamError
from dream.memory import check_degree
from dream.model.config import read_config
from dream.model.loader import resolve, weights_sha256
from dream.model.tokenizer import TOKENIZER_FILES
from dream.options import options_of
from dream.params import APPROXIMATE, SamplingParams, all_approximations
from jobs.common.errors import Refused
from jobs.common.fingerprint import Json
from jobs.common.settings import ModelSettings
from jobs.fill.columns import ColumnMap, input_columns
from jobs.fill.config import SCHEMA_VERSION, JobRecord, JobSpec
from jobs.fill.identity import RowIndex
from jobs.fill.inputs import Inputs, scan

__all__ = ["Preflight", "model_folder", "preflight"]

SEED_RULE = "blake2b(job seed, row_hash)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What was found before anything is written."""

    spec: JobSpec
    inputs: Inputs
    columns: ColumnMap
    identity: dict[str, Json]

    def new_record(self) -> JobRecord:
        """The job that begins with what was found."""
        num_rows = self.inputs.num_rows
        return JobRecord(
            job_id=uuid.uuid4().hex[:12],
            created_at=_now(),
            num_rows=min(num_rows, self.spec.limit or num_rows),
            spec=self.spec,
            identity=self.identity,
        )

    def refuse_other(self, record: JobRecord) -> None:
        """Refuse to go on with a job that would make other rows."""
        if lines := record.differences(self.identity):
            raise Refused(
                f"{self.spec.output} holds a job with other settings; nothing was changed:\n  "
                + "\n  ".join(lines)
                + "\nresume it as it was begun (python -m jobs resume -o ...), write to another "
                "--output, or move it away with --overwrite"
            )

    def provenance(self, record: JobRecord, attempt: int) -> dict[str, str]:
        """What every footer says about where its rows come from."""
        spec, engine = self.spec, self.spec.engine()
        values: dict[str, Json] = {
            "job_id": record.job_id,
            "fingerprint": record.fingerprint,
            "model_id": spec.model,
            "params": json.dumps(spec.identity(), sort_keys=True),
            "approximation": self._approximation,
            "seed": spec.seed,
            "device": engine.device,
            "dtype": engine.dtype,
            "schema_version": SCHEMA_VERSION,
            "attempt": attempt,
            "created_at": _now(),
            "code_version": version("dream-cluster"),
            "ray_version": version("ray"),
            "torch_version": version("torch"),
        }
        values |= {name: self.identity[name] for name in self.identity if "sha256" in name}
        return {f"dream.{name}": str(value) for name, value in values.items()}

    @property
    def _approximation(self) -> str:
        """The job's approximate mode, and the columns in which rows may name another."""
        options = options_of(SamplingParams)
        own = [name for name in self.columns.sampling if options[name].group == APPROXIMATE]
        of_engine = self.spec.engine().approximation
        of_job = all_approximations(of_engine, self.spec.sampling()) or "none"
        return f"{of_job}; of each row: {', '.join(own)}" if own else of_job


def preflight(spec: JobSpec) -> Preflight:
    """Check everything that can be checked without Ray and without writing."""
    inputs = scan(spec.input)
    columns = input_columns(spec, inputs.schema)
    folder = model_folder(spec)
    try:
        RowIndex(inputs.first_rows(None))
        check_degree(read_config(folder).sizes, spec.engine().tensor_parallel)
        weights = weights_sha256(folder)
    except (DreamError, OSError) as error:
        raise Refused(str(error)) from error
    for file in inputs.files:
        if Path(file.path).is_relative_to(spec.output):
            raise Refused(f"input {file.path} lies inside --output {spec.output}")
    identity = spec.identity() | {
        "input_sha256": inputs.sha256,
        "weights_sha256": weights,
        "tokenizer_sha256": _tokenizer_sha256(folder),
        "seed_rule": SEED_RULE,
        "schema_version": SCHEMA_VERSION,
    }
    return Preflight(spec=spec, inputs=inputs, columns=columns, identity=identity)


def model_folder(spec: ModelSettings) -> Path:
    """Where the model lies; refuses one that is not there, or that has no tokenizer."""
    try:
        folder = resolve(spec.model)
    except (DreamError, OSError) as error:
        raise Refused(str(error)) from error
    _tokenizer_files(folder)
    return folder


def _tokenizer_files(folder: Path) -> list[Path]:
    found = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not {"vocab.json", "tokenizer.json"} & {path.name for path in found}:
        raise Refused(f"{folder} has no tokenizer files, and rows hold text")
    return found


def _tokenizer_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _tokenizer_files(folder):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
