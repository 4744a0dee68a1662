"""Many callers that hang up at any moment: afterwards nothing runs, waits or is kept."""

from __future__ import annotations

import json
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from tests.integration.test_http import connect, head, until

pytestmark = pytest.mark.ray


def hang_up(server, number: int) -> None:
    """One request, streaming or not, left after some bytes of its answer or before any.

    Every fifth is a long stream that is left once it has begun, however busy the machine is.
    """
    draw = random.Random(number)
    has_begun = number % 5 == 0
    body = {
        "model": "embedded",
        "prompt": f"Once {number}",
        "max_tokens": 450 if has_begun else draw.randint(20, 300),
        "n": draw.randint(1, 3),
        "temperature": 1.0,
        "stream": has_begun or draw.choice([True, False]),
        "diffusion": {"early_exit": False, "stream": draw.choice(["text", "steps"])},
    }
    content = json.dumps(body).encode()
    with connect(server) as caller:
        caller.sendall(head("/v1/completions", len(content)) + content)
        caller.settimeout(60 if has_begun else draw.choice([0.001, 0.01, 0.05, 0.2]))
        try:
            for _ in range(1 if has_begun else draw.randint(0, 6)):
                if not caller.recv(4096):
                    return
        except TimeoutError:
            return
        finally:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def storm(server, num_callers: int) -> None:
    with ThreadPoolExecutor(8) as callers:
        list(callers.map(lambda number: hang_up(server, number), range(num_callers)))


def resident_bytes() -> int:
    """Memory of the replica's process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            status = (folder / "status").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if name.startswith(b"ray::ServeReplica:dream:DreamReplica"):
            (line,) = [line for line in status.splitlines() if line.startswith("RssAnon")]
            return int(line.split()[1]) * 1024
    raise AssertionError("no replica runs")


def unretrieved() -> list[str]:
    """What processes of this Ray wrote of exceptions that nobody took."""
    folder = Path(ray._private.worker._global_node.get_session_dir_path(), "logs")
    logs = [path.read_text(errors="replace") for path in folder.glob("worker-*.err")]
    return [log for log in logs if "never retrieved" in log]


@pytest.mark.parametrize(
    "num_callers", [60, pytest.param(1000, marks=pytest.mark.slow)], ids=["60", "1000"]
)
def test_a_storm_of_disconnects_leaves_nothing_behind(server, num_callers):
    before = server.stats()
    storm(server, 60)
    resident = resident_bytes()
    storm(server, num_callers)

    until(lambda: server.stats()["requests"] == 0, timeout_s=60)
    until(lambda: server.stats()["token_forwards_queued"] == 0)
    after = server.stats()
    answered = server.http.post(
        "/v1/completions", json={"model": "embedded", "prompt": "S:1", "max_tokens": 2}
    )
    assert answered.status_code == 200
    assert after["requests_aborted"] > before["requests_aborted"]
    assert resident_bytes() - resident < 100 * 2**20
    assert unretrieved() == []
