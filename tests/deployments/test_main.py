"""`python -m deployments`: one line for what is wrong, and the app at the port that was asked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import ray
from click.testing import CliRunner

import deployments.__main__
from deployments.__main__ import launch, main
from deployments.request_ids import PROXY_CALLBACK
from tests.conftest import free_port

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["model=embedded", "port"], ["'port'", "name=value"]),
        (["model=embedded", "port=0"], ["port='0'"]),
        (["model=embedded", "prot=8010"], ["prot", "port"]),
        (["model=/nowhere"], ["/nowhere: no such folder"]),
        (["model=embedded", "host=0.0.0.0"], ["host=0.0.0.0", "keys=FILE", "insecure_no_auth"]),
        (["model=embedded", "host=0.0.0.0", "keys=/nowhere.json"], ["/nowhere.json"]),
        (["model=embedded", "host=no.such.name.invalid", "insecure_no_auth=1"], ["cannot be used"]),
    ],
)
def test_a_wrong_argument_is_one_line(words, names, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", None)

    done = CliRunner().invoke(main, words)

    (line,) = done.stderr.splitlines()
    assert done.exit_code == 1
    assert all(name in line for name in names)


def test_a_port_in_use_is_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr(ray, "init", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = CliRunner().invoke(main, ["model=embedded", f"port={port}"])

    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert f"port={port}" in done.stderr


@pytest.mark.parametrize(
    ("words", "host"),
    [
        ([], "127.0.0.1"),
        (["host=localhost"], "localhost"),
        (["host=0.0.0.0", "insecure_no_auth=true"], "0.0.0.0"),
    ],
)
def test_serve_is_started_at_host_and_port(monkeypatch, words, host):
    started: list[dict[str, object]] = []
    port = free_port()
    for name in PROXY_CALLBACK:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(deployments.__main__.serve, "start", lambda **given: started.append(given))
    monkeypatch.setattr(deployments.__main__.serve, "run", lambda app, name: None)

    launch(["model=embedded", f"port={port}", *words])

    assert started == [{"http_options": {"host": host, "port": port}}]
    assert PROXY_CALLBACK.items() <= os.environ.items()


def test_make_serve_hands_on_model_and_port():
    told = subprocess.run(
        ["make", "-n", "-o", ".venv/ready", "serve", "MODEL=org/model", "PORT=8010"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "deployments model=org/model port=8010" in told


@contextmanager
def launched(*words: str, until: int = signal.SIGINT) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "deployments", *words]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=ROOT) as process:
        yield process
        process.send_signal(until)
        process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("until", [signal.SIGINT, signal.SIGTERM])
def test_the_app_answers_at_its_port_until_it_is_told_to_end(until):
    port = free_port()
    with launched("model=embedded", f"port={port}", until=until) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"ready: http://127.0.0.1:{port}")
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()

    assert answer["data"][0]["id"] == "embedded"
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.ray
def test_a_replica_that_cannot_start_is_one_line():
    with launched("model=nobody/nothing", f"port={free_port()}") as process:
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()

    assert process.returncode == 1
    assert len(lines) == 1
    assert "'nobody/nothing' is neither 'embedded', nor a folder, nor a model" in lines[0]
