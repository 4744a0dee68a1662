"""The Ray of a command: one that is there already, that of RAY_ADDRESS, or a small local one."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from jobs.common.errors import Refused
from jobs.common.settings import ModelSettings

__all__ = ["Needs", "check_resources", "ray_session", "row_needs"]

LEAST_CPUS = 3
"""Read, checkpoint filter and write take one each; with fewer a resume never starts."""

OBJECT_STORE_BYTES = 300 * 2**20


class Needs(NamedTuple):
    """What has to be placed, and how a refusal names what asked for it and what would help."""

    cpus: int
    gpus: int
    asked: str
    advice: str


def row_needs(spec: ModelSettings) -> Needs:
    """A CPU for each thread of replicas without a GPU, and two that every job needs beside.

    With tensor_parallel each rank takes as many, on GPUs, too.
    """
    engine = spec.engine()
    on_gpu, degree = engine.device.startswith("cuda"), engine.tensor_parallel
    threads = 0 if on_gpu and degree == 1 else spec.replicas * degree * (engine.threads or 1)
    ranks = f" of {degree} ranks" if degree > 1 else ""
    return Needs(
        cpus=max(LEAST_CPUS, 2 + threads),
        gpus=spec.replicas * degree if on_gpu else 0,
        asked=f"--replicas {spec.replicas}{ranks} on {engine.device}",
        advice="use fewer replicas or threads, another --device or a larger cluster",
    )


@contextmanager
def ray_session(needs: Needs) -> Iterator[None]:
    """Ray while the body runs; refuses a cluster that it would wait on for ever.

    A session inside another one uses the other's Ray and leaves it running.
    """
    _set_environment()
    import ray  # after the environment: Ray reads it when it is imported

    if ray.is_initialized():
        check_resources(needs, _resources())
        yield
        return
    with tempfile.TemporaryDirectory(prefix="dj", dir="/tmp", ignore_cleanup_errors=True) as short:
        if address := os.environ.get("RAY_ADDRESS"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                num_cpus=needs.cpus + 1,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _temp_dir=short,
            )
        try:
            check_resources(needs, _resources())
            yield
        finally:
            ray.shutdown()


def check_resources(needs: Needs, resources: Mapping[str, float]) -> None:
    """Refuse what could never be placed."""
    for kind, wanted in (("CPU", needs.cpus), ("GPU", needs.gpus)):
        if (present := resources.get(kind, 0)) < wanted:
            raise Refused(
                f"{needs.asked} takes {wanted} {kind}s, and Ray has {present:.0f}: {needs.advice}"
            )


def _set_environment() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")  # Ray starts 32 by itself
    if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _resources() -> Mapping[str, float]:
    """What the cluster has, or may grow to where an autoscaler has told Ray its limits."""
    import ray
    from ray._private.state import state  # the limits have no public name

    limits = state.get_max_resources_from_cluster_config() or {}
    present: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return {kind: max(present.get(kind, 0), limits.get(kind, 0)) for kind in ("CPU", "GPU")}
