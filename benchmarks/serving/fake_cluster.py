"""A Ray cluster on one machine whose nodes come and go, with GPUs that are only counted.

Ray's own autoscaler runs it, with its provider of fake nodes; each is a raylet of this machine.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ray

__all__ = ["HEAD_NODE_ID", "fake_cluster", "free_port"]

HEAD_NODE_ID = "f" * 51 + "00000"
IDLE_TIMEOUT_MIN = 0.1
START_S = 120.0
STOP_S = 10.0
_EMPTY = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands")
_COMMANDS = ("setup_commands", "head_setup_commands", "worker_setup_commands")
_STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


@contextmanager
def fake_cluster(max_nodes: int, node: Mapping[str, int], num_cpus: int = 4) -> Iterator[None]:
    """A head without GPUs and up to `max_nodes` nodes; this process is connected to it."""
    ip: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # as Ray has it
    address = f"{ip}:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as temp:
        config = Path(temp) / "autoscaler.json"
        config.write_text(json.dumps(_config(address, max_nodes, node)), encoding="utf-8")
        with (Path(temp) / "head.log").open("wb") as log:
            head = subprocess.Popen(
                _command(address, config, temp, num_cpus),
                env={**os.environ, **_environment(temp)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_for(address, head)
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            yield
        finally:
            ray.shutdown()
            _end(head, address)


def _config(address: str, max_nodes: int, node: Mapping[str, int]) -> dict[str, object]:
    node_type = {"resources": dict(node), "labels": {}, "node_config": {}, "min_workers": 0}
    head_type = {"resources": {"GPU": 0}, "labels": {}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "fake",
        "max_workers": max_nodes,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": address,
        },
        "available_node_types": {
            "ray.head.default": head_type,
            "gpu": {**node_type, "max_workers": max_nodes},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 10,
        "idle_timeout_minutes": IDLE_TIMEOUT_MIN,
        "file_mounts_sync_continuously": False,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in (*_EMPTY, *_COMMANDS, *_STARTS)},
    }


def _command(address: str, config: Path, temp: str, num_cpus: int) -> list[str]:
    ip, _, port = address.rpartition(":")
    options = {
        "autoscaling-config": str(config),
        "node-ip-address": ip,
        "port": port,
        "temp-dir": temp,
        "num-cpus": str(num_cpus),
        "num-gpus": "0",
        "object-store-memory": str(200 * 2**20),
        "include-dashboard": "false",
        "ray-client-server-port": str(free_port()),
        "dashboard-agent-listen-port": str(free_port()),
        "dashboard-agent-grpc-port": str(free_port()),
        "runtime-env-agent-port": str(free_port()),
        "metrics-export-port": str(free_port()),
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    ray_command = str(Path(sys.executable).parent / "ray")
    return [ray_command, "start", "--head", "--block", "--disable-usage-stats", *words]


def _environment(temp: str) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "disabled",
        "RAY_TMPDIR": temp,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "0",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_NODE_ID,
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }


def _wait_for(address: str, head: subprocess.Popen[bytes]) -> None:
    ip, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and head.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((ip, int(port))) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError(f"no head at {address}: exit code {head.poll()}")


def _end(head: subprocess.Popen[bytes], address: str) -> None:
    """Ends the processes of this cluster alone: the head's, and those that name its address."""
    ours = _processes_of(head.pid, address)
    os.killpg(head.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while head.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in ours | _processes_of(head.pid, address):
        if process in _all_processes():
            os.kill(process.id, signal.SIGKILL)
    head.wait(STOP_S)


class _Process(NamedTuple):
    """A process; with its start, since ids are used again."""

    id: int
    started: str


def _processes_of(head: int, address: str) -> set[_Process]:
    """Nodes are started by the autoscaler and belong to nobody: they are found by the address."""
    everyone = _all_processes()
    found = {one for one in everyone if one.id == head or address in _command_line(one.id)}
    while True:
        ids = {one.id for one in found}
        children = {one for one, parent in everyone.items() if parent in ids}
        if children <= found:
            return {one for one in found if one.id != os.getpid()}
        found |= children


def _all_processes() -> dict[_Process, int]:
    """Every process of this machine that has not ended, and the id of its parent."""
    found: dict[_Process, int] = {}
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            words = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if words[0] != "Z":
            found[_Process(int(path.name), words[19])] = int(words[1])
    return found


def _command_line(process: int) -> str:
    try:
        return (Path("/proc") / str(process) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def free_port() -> int:
    """A port of the loopback that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
