"""The files of a job, and which rows are committed: what a resume may trust."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from jobs.common.errors import Refused
from jobs.common.files import replacing, write_atomically
from jobs.common.validation import explained
from jobs.fill.config import JobRecord

__all__ = ["CommitLog", "JobFolder"]

PENDING = ".pending.parquet"
COMMITTED = ".parquet"
PART = "part-"


@dataclass(frozen=True, slots=True)
class JobFolder:
    """Where everything of a job lies; `out` is what `--output` names."""

    out: Path

    @property
    def data(self) -> Path:
        """The parts."""
        return self.out / "data"

    @property
    def meta(self) -> Path:
        """What is not a part; readers of Parquet skip names that begin with `_`."""
        return self.out / "_dream"

    @property
    def success(self) -> Path:
        """Written last: it exists when the output is complete."""
        return self.out / "_SUCCESS"

    @property
    def manifest(self) -> Path:
        """The parts that count, their rows and totals."""
        return self.meta / "manifest.json"

    @property
    def lock(self) -> Path:
        """Who is writing."""
        return self.meta / "lock.json"

    @property
    def is_job(self) -> bool:
        """Whether a job was begun here."""
        return (self.meta / "job.json").is_file()

    def read_record(self) -> JobRecord:
        """The job as it was begun; refuses a folder that holds none."""
        path = self.meta / "job.json"
        try:
            return JobRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise Refused(f"{self.out} holds no job: {path} is missing") from error
        except ValidationError as error:
            problems = explained(error, JobRecord)
            raise Refused(
                f"{path} is not a job of this version ({problems}): "
                "finish it with the version that began it, or begin again with --overwrite"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{path} is not a job: {error}") from error

    def begin(self, record: JobRecord, inputs: pa.Table) -> None:
        """Write what the job is, job.json last."""
        self.data.mkdir(exist_ok=True)
        with replacing(self.meta / "inputs.parquet") as unfinished:
            pq.write_table(inputs, unfinished)
        write_atomically(self.meta / "fingerprint", record.fingerprint + "\n")
        write_atomically(self.meta / "job.json", record.model_dump_json(indent=1) + "\n")

    def log(self, event: str, **values: str | int | float | None) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **values})
        with (self.meta / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def parts(self) -> list[Path]:
        """Every part on disk, committed or not."""
        return sorted(self.data.glob(f"{PART}*.parquet")) if self.data.is_dir() else []


class CommitLog:
    """Names of the commit batches that are committed, each with its parts.

    Ray Data keeps it: ids are written to a pending file before the part, and the pending file is
    renamed after it. Each attempt has a folder of its own, and a new attempt takes the folder
    over by renaming it; writers of an attempt that is thought dead then find no folder, and
    can commit nothing any more.
    """

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._root = folder.meta / "ckpt"

    @property
    def attempt(self) -> int:
        """Number of the attempt that holds the ledger; 0 before the first."""
        numbers = [int(path.name) for path in self._root.glob("[0-9]" * 6)]
        return max(numbers, default=0)

    @property
    def path(self) -> Path:
        """Folder of the present attempt."""
        return self._root / f"{self.attempt:06d}"

    def take_over(self) -> Path:
        """Begin a new attempt; what is committed stays committed, and older writers are cut off."""
        old, new = self.path, self._root / f"{self.attempt + 1:06d}"
        if self.attempt == 0:
            new.mkdir(parents=True)
        else:
            old.rename(new)
        return new

    def committed(self) -> Iterator[str]:
        """Name of every committed batch."""
        if self.path.is_dir():
            for path in self.path.iterdir():
                if path.name.endswith(COMMITTED) and not path.name.endswith(PENDING):
                    yield path.name.removesuffix(COMMITTED)

    def batch_of(self, part: Path) -> str:
        """The commit batch a part belongs to: Ray adds `-0`, `-1`... to its name."""
        return part.stem.rpartition("-")[0]

    def parts(self) -> dict[str, list[Path]]:
        """Every committed batch with its parts."""
        found: dict[str, list[Path]] = {name: [] for name in self.committed()}
        for part in self._folder.parts():
            if (name := self.batch_of(part)) in found:
                found[name].append(part)
        return found

    def check(self) -> None:
        """Refuse a ledger that a resume would lose rows by, and say what to do."""
        for name, parts in self.parts().items():
            entry = self.path / f"{name}{COMMITTED}"
            remedy = f"delete {entry} and resume: its rows are computed again"
            try:
                num_ids = pq.read_metadata(entry).num_rows
                num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
            except (OSError, pa.ArrowException) as error:
                raise Refused(f"commit batch {name} is not readable ({error}); {remedy}") from error
            if num_ids != num_rows:
                raise Refused(
                    f"commit batch {name} has {num_rows} rows on disk, not {num_ids}; {remedy}"
                )

    def drop_uncommitted(self) -> list[Path]:
        """Delete parts that no committed batch owns, and pending entries."""
        owned = set(self.committed())
        stray = [part for part in self._folder.parts() if self.batch_of(part) not in owned]
        for path in (*stray, *self.path.glob(f"*{PENDING}")):
            path.unlink(missing_ok=True)
        return stray
