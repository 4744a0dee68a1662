"""Two hosts on one machine: namespaces with a switch between them, and no way out.

`private` starts a command on a machine of its own; all that follows runs there, and ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HEAD", "WORKER", "Worker", "needed", "private", "worker_host"]

HEAD, WORKER = "10.77.0.10", "10.77.0.11"
FROM = "NETWORK_OF_THE_CALLER"
NAMESPACES = ("--net", "--mount", "--pid", "--ipc")
RAY_FOLDER = "/tmp/ray"
"""Ray writes its sessions and the address of the last cluster there; each host has its own."""


def needed() -> str | None:
    """What is missing here for hosts of one's own; None where nothing is."""
    command = private(["ip", "link", "add", "br0", "type", "bridge"])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        return "unshare (util-linux)"
    return None if done.returncode == 0 else done.stderr.strip()


def private(command: Sequence[str]) -> list[str]:
    """The command on a machine of its own, which has no network; as root or as a user."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    ends = ("--fork", "--kill-child", "--mount-proc")
    network = f"{FROM}={os.readlink('/proc/self/ns/net')}"
    return ["unshare", *user, *NAMESPACES, *ends, "env", network, *command]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The other host."""

    pid: int

    def command(self, words: Sequence[str]) -> list[str]:
        """What runs these words there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", *words]

    def cut(self) -> None:
        """Pull its cable out of the switch: nobody is told."""
        _run("ip", "link", "set", "port", "down")

    def kill_raylet(self) -> None:
        """End what makes it a node of Ray."""
        network = os.readlink(f"/proc/{self.pid}/ns/net")
        (raylet,) = (pid for pid in _pids("raylet") if _network_of(pid) == network)
        os.kill(raylet, signal.SIGKILL)


@contextmanager
def worker_host() -> Iterator[Worker]:
    """Connect this host, at HEAD, with another one at WORKER."""
    _check_is_private()
    _own_folder()
    _run("ip", "link", "set", "lo", "up")
    own = f"mkdir -p {RAY_FOLDER}; mount -t tmpfs tmpfs {RAY_FOLDER}; echo; exec sleep infinity"
    sleep = ["unshare", "--net", "--mount", "sh", "-c", own]
    with subprocess.Popen(sleep, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        worker = Worker(pid=process.pid)
        _run("ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        _run("ip", "link", "add", "port", "type", "veth", "peer", "name", "eth0")
        _run("ip", "link", "set", "eth0", "netns", str(worker.pid))
        _run("ip", "link", "set", "port", "master", "switch", "up")
        _run("ip", "addr", "add", f"{HEAD}/24", "dev", "switch")
        _run("ip", "link", "set", "switch", "up")
        for words in ("addr add {}/24 dev eth0", "link set lo up", "link set eth0 up"):
            _run(*worker.command(["ip", *words.format(WORKER).split()]))
        yield worker
        process.kill()


def start_ray(worker: Worker) -> None:
    """A head here, which has the resource `front`, and a node on the other host."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
    ray += ["--num-cpus=4", "--num-gpus=0", f"--object-store-memory={100 * 2**20}"]
    head = ["--head", f"--node-ip-address={HEAD}", "--port=6379", "--include-dashboard=false"]
    _run(*ray, *head, '--resources={"front": 1}')
    _run(*worker.command([*ray, f"--address={HEAD}:6379", f"--node-ip-address={WORKER}"]))


def _check_is_private() -> None:
    """RuntimeError in a network that others use, or that leads out of this machine."""
    network = os.environ.get(FROM)
    routes = [_run("ip", family, "route", "show", "default") for family in ("-4", "-6")]
    if network in (None, os.readlink("/proc/self/ns/net")) or any(routes):
        raise RuntimeError("not on a machine of its own: start it by `private`")


def _own_folder() -> None:
    Path(RAY_FOLDER).mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "tmpfs", RAY_FOLDER)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _pids(name: str) -> list[int]:
    """Processes of a program, by its name."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            program = (path / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if Path(program).name == name:
            found.append(int(path.name))
    return found


def _network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""
