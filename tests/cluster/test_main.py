"""Tests of `python -m cluster`: what is printed, written and returned."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cluster.__main__ as command_line
from cluster.render import render
from cluster.serve import render_serve
from cluster.settings import EngineSettings
from dream import memory
from tests.cluster.samples import LOCAL_OPTIONS
from tests.cluster.test_doctor import WELL

COMMITTED = str(Path(__file__).parents[2] / "cluster.yaml")


HUGE = [f"{key}={value}" for key, value in {**LOCAL_OPTIONS, "gpu_memory_gib": 1e308}.items()]


def call(*words):
    return CliRunner().invoke(command_line.app, list(words))


def test_render_prints_the_file_and_nothing_else():
    result = call("render", "--provider", "aws", "machines=p5.48xlarge:1")

    assert result.exit_code == 0
    assert result.stdout == render("aws", {"machines": "p5.48xlarge:1"})


def test_render_writes_the_file_it_is_told_to(tmp_path):
    result = call("render", "--provider", "aws", "--output", str(tmp_path / "a.yaml"))

    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "a.yaml").read_text() == render("aws", {})


def test_render_prints_the_serve_config_file_when_asked(tmp_path):
    words = ("render", "--provider", "aws", "--serve", "max_logit_rows=64")
    file = tmp_path / "serve.yaml"

    printed, written = call(*words), call(*words, "--output", str(file))

    assert printed.stdout == file.read_text() == render_serve("aws", {"max_logit_rows": "64"})
    assert written.stderr.endswith(f"serve deploy -a http://127.0.0.1:8265 {file}\n")


@pytest.mark.parametrize(
    ("provider", "options", "prefix"),
    [("aws", {}, ""), ("local", LOCAL_OPTIONS, "RAY_UP_enable_autoscaler_v2=0 ")],
)
def test_render_says_what_it_wrote_and_what_to_type_next(tmp_path, provider, options, prefix):
    file = tmp_path / "my cluster.yaml"
    words = [f"{key}={value}" for key, value in options.items()]

    result = call("render", "--provider", provider, "--output", str(file), *words)

    (line,) = result.stderr.splitlines()
    assert line == f"wrote {file}; bring the cluster up with: {prefix}ray up '{file}'"


def test_a_node_s_name_is_printed_as_it_is():
    result = call("plan", COMMITTED, "--node", "[red]x:96:8:79:2")

    assert "| [red]x " in result.stdout


def test_a_refused_render_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "a.yaml").write_text("before")

    result = call("render", "--provider", "aws", "--output", str(tmp_path / "a.yaml"), "x=1")

    assert result.exit_code == 2
    assert (tmp_path / "a.yaml").read_text() == "before"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["render", "--provider", "azure"], "one of aws, gcp, local"),
        (["render", "--provider", "aws", "regoin=x"], "regoin"),
        (["render", "--provider", "aws", "region"], "key=value"),
        (["render", "--provider", "aws", "region=a", "region=b"], "each key once"),
        (["render", "--provider", "gcp"], "error: project_id is required: it must be given"),
        (
            ["render", "--provider", "gcp", "foo=1"],
            "error: foo='1' is not valid: there is no such setting; project_id is required",
        ),
        (["render", "--provider", "local", *HUGE], "gpu_memory_gib"),
        (["render", "--provider", "aws", "--output", "/nowhere/a.yaml"], "can be written"),
        (["plan", "/nowhere.yaml"], "No such file"),
        (["plan", COMMITTED, "--tensor-parallel", "3"], "one of 1, 2, 4"),
        (["plan", COMMITTED, "--tensor-parallel", "two"], "or smallest"),
        (["plan", COMMITTED, "--replicas", "99"], "tops out at 4"),
        (["plan", COMMITTED, "--node", "h100"], "NAME:CPUS:GPUS:GIB:MAX"),
        (["plan", COMMITTED, "--node", "h100:1:1:inf:1"], "NAME:CPUS:GPUS:GIB:MAX"),
        (["plan", COMMITTED, "--node", "h100:1:1:nan:1"], "NAME:CPUS:GPUS:GIB:MAX"),
        (["plan", COMMITTED, "--config", "/nowhere.json"], "config.json"),
    ],
)
def test_a_user_s_mistake_is_one_line_on_stderr_and_exit_code_2(words, message):
    result = call(*words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert message in result.stderr


def test_plan_prints_the_committed_cluster_as_a_table():
    result = call("plan", COMMITTED)

    assert result.exit_code == 0
    assert "memory per GPU: 19.7 GiB (weights 14.2 GiB, activations 2.73 GiB," in result.stdout
    assert "| p5.4xlarge | 4     | 1                 | 4        | 4    |" in result.stdout


def test_plan_prints_json_with_every_placement():
    result = call("plan", COMMITTED, "--node", "h100:96:8:79:2", "--tensor-parallel", "2", "--json")

    made = json.loads(result.stdout)
    assert made["bundles"] == [{"GPU": 1, "CPU": 1.0}] * 2
    assert made["strategy"] == "STRICT_PACK"
    assert [placement["replica"] for placement in made["placements"]] == [0, 1, 2, 3]
    assert made["nodes"] == [
        {"node_type": "h100", "num_nodes": 1, "num_replicas": 4, "replicas_per_node": 4}
    ]


def test_plan_prints_the_memory_of_the_engine_s_plan():
    made = json.loads(call("plan", COMMITTED, "--json").stdout)

    expected = memory.plan(memory.DREAM_7B, EngineSettings())
    assert made["memory"] == asdict(expected) | {"total": expected.total}


def test_plan_loads_no_torch():
    command = [sys.executable, "-X", "importtime", "-m", "cluster", "plan", COMMITTED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "dream.memory" in loaded
    assert not {"torch", "transformers"} & loaded


def test_plan_takes_the_smallest_size_when_asked():
    result = call("plan", COMMITTED, "--node", "t4:96:8:15:2", "--tensor-parallel", "smallest")

    assert "tensor_parallel: 2" in result.stdout


def test_plan_reads_the_shape_of_another_model(tmp_path):
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 512,
        "max_position_embeddings": 256,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))

    result = call("plan", COMMITTED, "--config", str(tmp_path / "config.json"))

    assert "weights 0.00" in result.stdout


def test_a_healthy_machine_gives_exit_code_0(monkeypatch):
    monkeypatch.setattr(command_line, "gather", lambda environ: WELL)

    result = call("doctor")

    assert result.exit_code == 0
    assert "PROBLEM" not in result.stdout


def test_a_problem_gives_exit_code_1_and_its_remedy(monkeypatch):
    monkeypatch.setattr(command_line, "gather", lambda environ: replace(WELL, tokens=()))

    result = call("doctor")

    assert result.exit_code == 1
    assert "PROBLEM  Ray auth" in result.stdout
    assert "-> run `ray get-auth-token --generate`" in result.stdout


def test_doctor_prints_json(monkeypatch):
    monkeypatch.setattr(command_line, "gather", lambda environ: WELL)

    findings = json.loads(call("doctor", "--min-gpus", "2", "--json").stdout)

    assert [item["name"] for item in findings if item["remedy"] is not None] == ["GPUs"]
