"""The Ray that a run trains on: one that is there already, RAY_ADDRESS's, or a small local one."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.errors import Refused
from jobs.train.config import TrainSpec

__all__ = ["train_session"]

OBJECT_STORE_BYTES = 300 * 2**20


@contextmanager
def train_session(spec: TrainSpec) -> Iterator[None]:
    """Ray while the run lasts; refuses a cluster that the workers would wait on for ever."""
    _set_environment()
    import ray  # after the environment: Ray reads it when it is imported

    if ray.is_initialized():
        _check_resources(spec)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="dt", dir="/tmp", ignore_cleanup_errors=True) as short:
        if address := os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                num_cpus=_cpus_wanted(spec),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _temp_dir=short,
            )
        try:
            _check_resources(spec)
            yield
        finally:
            ray.shutdown()


def _cpus_wanted(spec: TrainSpec) -> int:
    """Each worker has its own CPUs and one more that makes its batches."""
    return spec.num_workers * (spec.cpus_per_worker + 1)


def _check_resources(spec: TrainSpec) -> None:
    import ray

    present: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = spec.num_workers if spec.device == "cuda" else 0
    for kind, wanted in (("CPU", _cpus_wanted(spec)), ("GPU", gpus)):
        if present.get(kind, 0) < wanted:
            raise Refused(
                f"num_workers={spec.num_workers} on {spec.device} takes {wanted} {kind}s, and Ray "
                f"has {present.get(kind, 0):.0f}: use fewer workers or a larger cluster"
            )


def _set_environment() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")  # Ray starts 32 by itself
    if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
