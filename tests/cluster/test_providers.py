"""Tests of `cluster.providers` and `cluster.render`: one valid file for every cloud."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.errors import PlanError, SpecError
from cluster.providers import PROVIDERS
from cluster.render import PROXY, render
from cluster.spec import parse
from deployments.request_ids import PROXY_CALLBACK
from dream.memory import DREAM_7B
from tests.cluster.samples import LOCAL_OPTIONS, OPTIONS

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
FILES = {name: render(name, options) for name, options in OPTIONS.items()}


def test_every_provider_of_the_table_is_tested_here():
    assert set(OPTIONS) == set(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_ray_accepts_the_rendered_file(name):
    config = yaml.safe_load(FILES[name])

    jsonschema.validate(config, SCHEMA)
    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_rendered_file_has_room_for_every_replica(name):
    spec = parse(FILES[name])

    assert spec.plan(DREAM_7B).num_replicas == spec.dream.replicas.max == 4


@pytest.mark.parametrize("name", PROVIDERS)
def test_rendering_is_deterministic(name):
    assert render(name, OPTIONS[name]) == FILES[name]


def test_the_committed_file_is_the_one_rendered_for_aws():
    assert (ROOT / "cluster.yaml").read_text() == FILES["aws"]


def test_the_committed_file_passes_ray_s_own_checks():
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())

    jsonschema.validate(config, SCHEMA)
    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_header_has_the_command_that_renders_the_file(name):
    command = FILES[name].splitlines()[1]

    assert command.startswith(f"#   python -m cluster render --provider {name}")
    for key in OPTIONS[name]:
        assert f"{key}=" in command


def test_only_local_is_brought_up_with_the_first_autoscaler():
    assert "RAY_UP_enable_autoscaler_v2=0 ray up cluster.yaml" in FILES["local"]
    assert "RAY_UP_enable_autoscaler_v2" not in FILES["aws"] + FILES["gcp"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_ray_is_started_with_the_token_a_closed_dashboard_and_a_head_without_work(name):
    config = yaml.safe_load(FILES[name])
    none = " --num-cpus=0 --num-gpus=0" if name == "local" else ""
    before, after = (
        f"export RAY_AUTH_MODE=token {PROXY}; ulimit -n 65536; ray start",
        "--disable-usage-stats",
    )
    head = f"--head --port=6379 --dashboard-host=127.0.0.1{none}"
    head += " --autoscaling-config=~/ray_bootstrap_config.yaml"

    assert config["head_start_ray_commands"] == ["ray stop", f"{before} {head} {after}"]
    assert config["worker_start_ray_commands"] == [
        "ray stop",
        f"{before} --address=$RAY_HEAD_IP:6379 {after}",
    ]


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_secret_and_no_open_dashboard_is_rendered(name):
    assert "0.0.0.0" not in FILES[name]
    assert "RAY_AUTH_TOKEN" not in FILES[name]
    assert "redis-password" not in FILES[name]


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(SpecError, match="regoin"):
        render(name, {**OPTIONS[name], "regoin": "us-east-1"})


def test_an_option_cannot_write_lines_of_the_file():
    with pytest.raises(SpecError, match="printable"):
        render("aws", {"model": "x\nhead_node_type: other\n#"})


@pytest.mark.parametrize(
    ("name", "key"),
    [("gcp", "project_id"), *(("local", key) for key in LOCAL_OPTIONS)],
)
def test_a_missing_option_is_named(name, key):
    options = {k: value for k, value in OPTIONS[name].items() if k != key}

    with pytest.raises(SpecError, match=f"^{key} is required: it must be given$"):
        render(name, options)


@pytest.mark.parametrize(
    "machines", ["", "p5.4xlarge", "p5.4xlarge:0", "p5.4xlarge:x", "p9.large:1", "a:1,a:2"]
)
@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_machines_that_are_unknown_or_not_counted_are_refused(name, machines):
    with pytest.raises(SpecError, match="machines"):
        render(name, {**OPTIONS[name], "machines": machines})


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(SpecError, match="aws, gcp, local"):
        render("azure", {})


def test_options_of_the_common_part_reach_our_block():
    options = {"tensor_parallel": "2", "max_replicas": "2", "machines": "p5.48xlarge:1"}
    budgets = {"max_num_batched_tokens": 8192, "max_logit_rows": 64, "max_cache_tokens": 0}
    budgets |= {"max_model_len": 1024}

    block = parse(render("aws", options | {k: str(v) for k, v in budgets.items()})).dream

    assert (block.tensor_parallel, block.replicas.max) == (2, 2)
    assert {name: getattr(block, name) for name in budgets} == budgets


def test_a_file_whose_replicas_do_not_fit_is_not_rendered():
    with pytest.raises(PlanError, match="tops out at 4"):
        render("aws", {"max_replicas": "5"})


def test_a_tensor_parallel_group_that_no_machine_holds_is_not_rendered():
    with pytest.raises(PlanError, match="fit in one node: needs 2 GPUs"):
        render("aws", {"tensor_parallel": "2"})


@pytest.mark.parametrize("ips", ["", "10.0.0.1", "10.0.0.1,10.0.0.2"])
def test_provider_local_needs_workers_besides_the_head(ips):
    with pytest.raises(SpecError, match="besides the head"):
        render("local", {**LOCAL_OPTIONS, "worker_ips": ips})


def test_provider_local_counts_a_machine_once():
    with pytest.raises(SpecError, match="each machine once"):
        render("local", {**LOCAL_OPTIONS, "worker_ips": "10.0.0.2,10.0.0.2"})


def test_the_notes_on_aws_go_away_with_what_they_warn_of():
    text = render("aws", {"image": "ami-1", "security_groups": "sg-1,sg-2"})

    config = yaml.safe_load(text)
    assert "port 22" not in text
    assert "AmazonSSM" not in text
    for entry in config["available_node_types"].values():
        assert entry["node_config"]["SecurityGroupIds"] == ["sg-1", "sg-2"]


def test_a_private_key_is_passed_on_only_if_given():
    assert "ssh_private_key" not in FILES["local"]
    text = render("local", {**LOCAL_OPTIONS, "ssh_private_key": "~/.ssh/key"})

    assert yaml.safe_load(text)["auth"]["ssh_private_key"] == "~/.ssh/key"


def test_proxies_of_a_cluster_have_the_middleware_of_a_laptop():
    assert PROXY_CALLBACK.items() == {tuple(PROXY.split("="))}
