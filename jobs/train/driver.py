"""A training run from beginning to end: looked at, prepared, run on Ray Train, exported."""

from __future__ import annotations

import importlib.util
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dream.model.tokenizer import Tokenizer
from jobs.common.errors import JobError, Refused
from jobs.common.fingerprint import Json
from jobs.common.lock import Lock
from jobs.common.output import refuse_foreign
from jobs.common.session import Needs, ray_session
from jobs.train.config import TrainSpec
from jobs.train.export import export
from jobs.train.metrics import METRICS, read_metrics
from jobs.train.model import CARD, prepare
from jobs.train.paths import BASE, RECORD, STORE, WORK
from jobs.train.record import TrainRecord, identity_of

__all__ = ["train"]

KEPT_CHECKPOINTS = 2
SECONDS_BETWEEN_LOOKS = 1.0

WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4294967295",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
}
"""Freed memory stays with the process: page faults otherwise cost half of the time on CPUs."""


def train(spec: TrainSpec, say: Callable[[str], None]) -> None:
    """Train, or go on where the same run was interrupted, and write the checkpoint."""
    output = Path(spec.output)
    work = output / WORK
    if importlib.util.find_spec("tensorboard") is None:
        raise Refused("training writes for TensorBoard: pip install 'dream-cluster[train]'")
    if not (work / RECORD).exists():
        refuse_foreign(output, work)
    identity = identity_of(spec)
    with Lock(work / "lock"):
        begun = TrainRecord.read(work / RECORD)
        if begun is not None:
            begun.refuse_other(identity, spec.output)
        if begun is not None and (output / CARD).exists():
            say(f"{output} is finished: {begun.updates} updates")
            return
        with ray_session(_needs(spec)):
            record = begun or _begin(spec, work, identity)
            if record.rows is not None:
                say(f"{record.rows} rows; {record.rows_dropped} more are too long")
            say(f"{record.updates} updates of {spec.batch_size} rows; see {output / METRICS}")
            with _following(output, record.updates, say):
                checkpoint = _fit(spec, work, record)
        export(checkpoint, work / BASE, output, record)
    say(f"wrote {output}")


def _needs(spec: TrainSpec) -> Needs:
    """Each worker has its own CPUs and one more that makes its batches."""
    return Needs(
        cpus=spec.num_workers * (spec.cpus_per_worker + 1),
        gpus=spec.num_workers if spec.device == "cuda" else 0,
        asked=f"num_workers={spec.num_workers} on {spec.device}",
        advice="use fewer workers or a larger cluster",
    )


def _begin(spec: TrainSpec, work: Path, identity: Mapping[str, Json]) -> TrainRecord:
    """Prepare the base and the token store; the record says that both are whole."""
    base = work / BASE
    prepare(spec, base)
    record = TrainRecord(spec=spec.dump(), identity=dict(identity), updates=spec.updates or 0)
    if spec.parquet is None:
        _refuse_other_bytes(base)
    else:
        from jobs.train.store import build_store  # after the environment: it imports Ray

        store = build_store(spec, base, work / STORE)
        updates = spec.updates or math.ceil((spec.epochs or 0) * len(store) / spec.batch_size)
        found = {"rows": len(store), "rows_dropped": store.rows_dropped, "updates": updates}
        record = record.model_copy(update=found)
    record.write(work / RECORD)
    return record


def _refuse_other_bytes(base: Path) -> None:
    """The generated mix is bytes: ids of ASCII characters are their codes."""
    text = "".join(map(chr, range(32, 127)))
    tokenizer = Tokenizer.from_folder(base)
    if tokenizer is None or tokenizer.encode(text) != list(text.encode()):
        raise Refused(
            "mix is not valid: its texts are bytes, and this tokenizer is another; use parquet"
        )


def _fit(spec: TrainSpec, work: Path, record: TrainRecord) -> Path:
    """Run Ray Train to the last update; returns the folder of the last checkpoint."""
    from ray.train import (
        CheckpointConfig,
        FailureConfig,
        RunConfig,
        ScalingConfig,
        TrainingFailedError,
    )
    from ray.train.torch import TorchTrainer

    from jobs.train.worker import train_worker

    gpus = {"GPU": 1} if spec.device == "cuda" else {}
    environment = WORKER_ENVIRONMENT | {"OMP_NUM_THREADS": str(spec.threads)}
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"spec": spec.dump(), "updates": record.updates},
        scaling_config=ScalingConfig(
            num_workers=spec.num_workers,
            use_gpu=spec.device == "cuda",
            resources_per_worker={"CPU": spec.cpus_per_worker, **gpus},
        ),
        run_config=RunConfig(  # type: ignore[call-arg]  # mypy sees the class of Ray Train V1
            name="run",
            storage_path=str(work),
            failure_config=FailureConfig(max_failures=spec.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
            worker_runtime_env={"env_vars": environment},
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise JobError(f"training failed, and the same command goes on with it: {error}") from error
    assert result.checkpoint is not None, "the last update was saved"
    return Path(result.checkpoint.path)


@contextmanager
def _following(output: Path, last: int, say: Callable[[str], None]) -> Iterator[None]:
    """Say each new line of the metrics while the body runs."""
    ended = threading.Event()
    told = max((line["update"] for line in read_metrics(output)), default=0)

    def follow() -> None:
        nonlocal told
        while True:
            is_over = ended.wait(SECONDS_BETWEEN_LOOKS)
            for line in read_metrics(output):
                if line["update"] > told:
                    told = line["update"]
                    rate = f"{line['tokens_per_s']:,.0f} tokens/s"
                    say(f"update {told}/{last} loss {line['loss']:.4f} {rate}")
            if is_over:
                return

    follower = threading.Thread(target=follow, name="metrics", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
