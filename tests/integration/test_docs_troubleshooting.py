"""docs/troubleshooting.md: its commands run or are read as they would be, and its table is true."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest
from typer.testing import CliRunner

from cluster.__main__ import app as cluster_app
from deployments.__main__ import LaunchArgs, _values
from deployments.app import AppArgs, build_app
from tests.conftest import ROOT
from tests.deployments.test_key_file import keys
from tests.integration.test_streams import events_of

pytestmark = pytest.mark.ray

TEXT = (ROOT / "docs/troubleshooting.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
CURL = [
    command.replace("\\\n", " ")
    for name, text in BLOCKS
    if name == "bash"
    for command in re.findall(r"^curl (?:.*\\\n)*.*$", text, re.M)
]
SHELL = [line for name, text in BLOCKS if name == "sh" for line in text.splitlines()]
SETTINGS = [{}, {"block_length": 8}, {"order": "left_to_right"}]
PROMPTS = [("S:1034/0402/2100/4021=", 24), ("C:15,07,04,18=", 32)]


def test_the_page_has_commands_of_both_kinds():
    assert (len(CURL), len(SHELL)) == (5, 8)


@pytest.mark.parametrize("command", CURL)
def test_a_curl_command_works(server, command):
    command = command.replace("http://127.0.0.1:8000", server.url)

    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=True)

    if "-sN" in command:
        assert done.stdout.endswith("data: [DONE]\n\n")
    elif "-w" in command:
        assert done.stdout == "200\n"
    elif "-D" in command:
        assert "x-request-id: " in done.stdout
    else:
        assert "error" not in json.loads(done.stdout)


@pytest.mark.parametrize("command", SHELL)
def test_a_command_of_the_operator_is_one(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert keys("create", "bob", "--file", "keys.json").exit_code == 0
    words = shlex.split(command)

    if words[:3] == ["python", "-m", "deployments"]:
        args = LaunchArgs.model_validate(_values(words[3:]))
        assert args.port == 8010
        build_app(args)
    elif words[:3] == ["python", "-m", "deployments.keys"]:
        assert keys(*words[3:]).exit_code == 0
    elif words[:2] == ["serve", "run"]:
        assert words[2] == "deployments.app:build_app"
        build_app(AppArgs.model_validate(_values(words[3:])))
    elif words[:3] == ["python", "-m", "cluster"]:
        assert CliRunner().invoke(cluster_app, [*words[3:], "--help"]).exit_code == 0
    else:
        assert words in (["serve", "status"], ["ray", "status"])


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize(("prompt", "num_tokens"), PROMPTS)
def test_when_text_comes_is_what_the_page_says(server, prompt, num_tokens, setting):
    body = {"model": "embedded", "prompt": prompt, "max_tokens": num_tokens, "stream": True}
    body["diffusion"] = {"stream": "steps", "early_exit": False, **setting}
    pieces: list[tuple[str, int]] = []
    step = 0
    for chunk in events_of(server.http.post("/v1/completions", json=body)):
        told = chunk["diffusion"] or {}
        if told.get("event") == "step":
            step = told["step"] + 1
        if chunk["choices"][0]["text"]:
            pieces.append((chunk["choices"][0]["text"], step))

    text, first = "".join(piece for piece, _ in pieces), pieces[0][1]
    named = ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in setting.items())
    when = f"{first} of {num_tokens}"
    row = f"| `{prompt}`, {num_tokens} | {named or 'free order'} | {when} | `{text}` |"
    assert row in TEXT.splitlines()
