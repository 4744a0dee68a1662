"""Every Python and curl example of README.md and docs/api.md, against a running Serve."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/api.md").read_text() + (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
DOCS_URL = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_the_pages_have_examples_of_both_kinds():
    assert len(blocks("python")) >= 5
    assert len(blocks("bash")) >= 2


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_a_python_example_runs(server, index):
    code = blocks("python")[index].replace(DOCS_URL, server.url)

    exec(compile(code, f"python example {index}", "exec"), {})


@pytest.mark.parametrize("index", range(len(blocks("bash"))))
def test_a_curl_example_runs(server, index):
    command = blocks("bash")[index].replace(DOCS_URL, server.url)

    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=True)

    assert set(json.loads(done.stdout)) & {"choices", "error"}


def test_the_error_shown_is_the_error_sent(server):
    body = {"model": "embedded", "prompt": "S:", "diffusion": {"steps": 0}}

    response = server.http.post("/v1/completions", json=body)

    shown = [json.loads(text) for text in blocks("json") if '"error"' in text]
    assert shown == [response.json()]


def test_the_answer_shown_has_the_keys_of_the_answer_sent(server):
    segments = [{"text": "S:1"}, {"hole": 2, "id": "top"}, {"text": "4/3412/2143/43"}, {"hole": 2}]

    answer = server.http.post("/v1/infill", json={"model": "embedded", "segments": segments}).json()

    (shown,) = [json.loads(text) for text in blocks("json") if '"choices"' in text]
    assert shown.keys() == answer.keys()
    assert shown["choices"][0].keys() == answer["choices"][0].keys()
    assert shown["usage"].keys() == answer["usage"].keys()
    assert shown["usage"]["diffusion"].keys() == answer["usage"]["diffusion"].keys()
    assert shown["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize("name", ["complete", "infill"])
def test_an_example_file_runs(server, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [name, f"{server.url}/v1"])

    runpy.run_path(str(ROOT / f"examples/{name}.py"), run_name="__main__")

    assert capsys.readouterr().out
