"""A Serve of a benchmark's own: on a free port, without keys, ended with the block."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve

from benchmarks.serving.null_engine import NullReplica
from deployments.app import AppArgs, bind_app
from deployments.ingress import Ingress
from deployments.replica import DreamReplica
from deployments.request_ids import PROXY_CALLBACK

__all__ = ["APP", "REPLICAS", "served"]

APP = "dream"
REPLICAS: dict[str, type[DreamReplica]] = {"null": NullReplica, "embedded": DreamReplica}
"""What stands behind the ingress, by the name of `--serve`."""

EMBEDDED = AppArgs(model="embedded")

_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **PROXY_CALLBACK}


@contextmanager
def served(
    replica: type[DreamReplica],
    front: type = Ingress,
    num_replicas: int = 1,
    args: AppArgs = EMBEDDED,
) -> Iterator[str]:
    """The URL of the app with these two classes, and the embedded model by default."""
    os.environ.update(_ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as temp:
        ray.init(
            address="local",
            num_cpus=8,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _temp_dir=temp,
        )
        try:
            port = _free_port()
            logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            app = bind_app(args, replica, front, num_replicas)
            serve.run(app, name=APP)
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]  # Serve leaves it without types
            ray.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
