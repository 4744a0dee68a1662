"""Tests of `cluster.facts`: what is read off the machine the tests run on."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import ray

from cluster.doctor import PACKAGES
from cluster.facts import gather, listening

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue\n"


def row(address, state="0A"):
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000\n"


def environment(home, **more):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": path, **more}


def test_the_installed_distribution_owns_its_packages_and_its_requirements_are_met(tmp_path):
    facts = gather(environment(tmp_path))

    assert facts.owners == dict.fromkeys(PACKAGES, ("dream-cluster",))
    assert facts.python.is_allowed
    assert {"ray", "torch", "transformers"} <= {item.name for item in facts.requirements}
    assert [item.name for item in facts.requirements if not item.is_allowed] == []
    assert not {"pytest", "mypy"} & {item.name for item in facts.requirements}


def test_the_python_on_the_path_is_asked_for_its_ray(tmp_path):
    facts = gather(environment(tmp_path))

    assert facts.path_python == str(Path(sys.executable).parent / "python")
    assert facts.path_ray == ray.__version__


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "no interpreter"])
def test_a_python_that_cannot_import_ray_has_none(tmp_path, script):
    fake = tmp_path / "python"
    fake.write_text(script)
    fake.chmod(0o755)

    facts = gather({"HOME": str(tmp_path), "PATH": str(tmp_path)})

    assert (facts.path_python, facts.path_ray) == (str(fake), None)


def test_without_a_python_on_the_path_there_is_none(tmp_path):
    facts = gather({"HOME": str(tmp_path), "PATH": str(tmp_path)})

    assert (facts.path_python, facts.path_ray) == (None, None)


def test_tokens_are_found_in_the_environment_a_named_file_and_the_home(tmp_path):
    home_token = tmp_path / ".ray" / "auth_token"
    named_token = tmp_path / "token"
    home_token.parent.mkdir()
    home_token.write_text("x")
    named_token.write_text("y")
    environ = {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "z",
        "RAY_AUTH_TOKEN_PATH": str(named_token),
    }

    facts = gather(environ)

    assert facts.auth_mode == "token"
    assert facts.tokens == ("RAY_AUTH_TOKEN", str(named_token), str(home_token))


def test_no_token_is_found_where_there_is_none(tmp_path):
    assert gather({"HOME": str(tmp_path), "PATH": str(tmp_path)}).tokens == ()


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ("0100007F:2049", "127.0.0.1"),
        ("00000000:2049", "0.0.0.0"),
        ("00000000000000000000000001000000:2049", "::1"),
        ("00000000000000000000000000000000:2049", "::"),
        ("0000000000000000FFFF00000100007F:2049", "127.0.0.1"),
    ],
)
def test_the_kernel_s_words_are_read_as_addresses(words, address):
    assert listening(HEADER + row(words), 8265) == (address,)


def test_other_ports_and_connections_are_not_listeners():
    table = HEADER + row("00000000:1F90") + row("00000000:2049", state="01")

    assert listening(table, 8265) == ()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc/net/tcp")
def test_a_real_listener_is_seen_in_the_kernel_s_table():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        table = Path("/proc/net/tcp").read_text()

        assert listening(table, server.getsockname()[1]) == ("127.0.0.1",)
