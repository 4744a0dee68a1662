"""Environment of the tests: no telemetry, no tokens in the home folder, one small Ray at most."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent.parent

# Ray reads these when it is imported, so they are set before any test module is.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
# As `python -m deployments` has it, for the proxies of Serve.
os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = (
    "deployments.request_ids:proxy_middlewares"
)
# The test models are so small that a second thread only costs.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start Ray come first: they take the longest, and much of it they wait."""
    ray_files = {item.path for item in items if item.get_closest_marker("ray") is not None}
    items.sort(key=lambda item: item.path not in ray_files)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """With -n: a process takes file after file; one takes all that use `ray_local`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = nodeid.partition("::")[0]
            return "ray" if uses_ray(name) else name

    return ByFile(config, log)


@cache
def uses_ray(name: str) -> bool:
    """Whether a file, by its path from the root, has tests for the one Ray of the session."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return "mark.ray" in text and ("ray_local" in text or "(server" in text)


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One small local Ray for every test that needs it, shut down at the end."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as temp:
        ray.init(
            address="local",
            num_cpus=8,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=temp,
        )
        yield
        ray.shutdown()
