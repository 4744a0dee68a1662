"""Tests of `cluster.commands`: which start commands are read, and which are refused."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from cluster.errors import SpecError
from cluster.render import render
from cluster.spec import parse
from tests.cluster.samples import LOCAL_OPTIONS

EXPORT = "export RAY_AUTH_MODE=token"
HEAD = "ray start --head --dashboard-host=127.0.0.1"
AWS = render("aws", {})
LOCAL = render("local", LOCAL_OPTIONS)


def parsed(line, text=AWS, field="head_start_ray_commands"):
    return parse(yaml.safe_dump({**yaml.safe_load(text), field: ["ray stop", line]}))


@pytest.mark.parametrize(
    "line",
    [
        f"{EXPORT}; {HEAD}",
        f"{EXPORT} && ulimit -n 65536 && {HEAD}",
        f"ulimit -n 65536 && true; {EXPORT}\n{HEAD}\n",
        f"ulimit -n 65536\n\n{EXPORT} &&\n {HEAD}",
        f"'export' \"RAY_AUTH_MODE=token\"; {HEAD}",
        f"{EXPORT}; ~/dream-env/bin/{HEAD}",
        f"{EXPORT}; {HEAD} \\\n  --resources='{{\"a;b\": 1}}'",
        f"{EXPORT}; ray start --head --dashboard-host='127.0.0.1'",
    ],
)
def test_plain_commands_are_read_however_they_are_joined_and_quoted(line):
    assert parsed(line).provider == "aws"


@pytest.mark.parametrize(
    "line",
    [
        f"echo RAY_AUTH_MODE=token; {HEAD}",
        f"echo ';' {EXPORT}; {HEAD}",
        f"echo \\; {EXPORT}; {HEAD}",
        f"echo '\n'{EXPORT}; {HEAD}",
        f"{EXPORT}; unset RAY_AUTH_MODE; {HEAD}",
        f"{EXPORT}; export -n RAY_AUTH_MODE; {HEAD}",
        f"{EXPORT}; export RAY_AUTH_MODE=disabled; {HEAD}",
        f"{EXPORT}; RAY_AUTH_MODE=disabled {HEAD}",
        f"{EXPORT}; env -u RAY_AUTH_MODE {HEAD}",
        f"{EXPORT}; eval 'unset RAY_AUTH_''MODE'; {HEAD}",
        f"{HEAD}; {EXPORT}",
        f"false && {EXPORT}; {HEAD}",
        f"true || {EXPORT}; {HEAD}",
        f"({EXPORT}); {HEAD}",
        f"{EXPORT} & {HEAD}",
        f"{EXPORT} | {HEAD}",
        f"if false\nthen\n{EXPORT}\nfi\n{HEAD}",
        f"cat <<X\n{EXPORT}\nX\n{HEAD}",
        f"true # {EXPORT}\n{HEAD}",
        f"true # ; {EXPORT}\n{HEAD}",
        f"true # it's ; {EXPORT}\n{HEAD}",
        f'echo "$(echo "; {EXPORT}; echo ")"; {HEAD}',
        f"{EXPORT}\r; {HEAD}",
        f"{EXPORT}; {HEAD} '",
    ],
)
def test_an_auth_mode_that_ray_start_may_not_see_is_refused(line):
    with pytest.raises(SpecError, match="head_start_ray_commands"):
        parsed(line)


@pytest.mark.parametrize(
    "line",
    [
        f"{EXPORT}; {HEAD} --dashboard-host=0.0.0.0",
        f"{EXPORT}; {HEAD} --dashboard-host 0.0.0.0",
        f"{EXPORT}; {HEAD} '--dashboard-host=0.0.0.0'",
        f"{EXPORT}; {HEAD} --dashboard-host=127.0.0.1",
        f"{EXPORT}; {HEAD} --{{dashboard-host=0.0.0.0,block}}",
        f"{EXPORT}; ray start --head; echo --dashboard-host=127.0.0.1",
        f"{EXPORT}; ray start --head # --dashboard-host=127.0.0.1",
        f"{EXPORT}; {HEAD}; ray start --head --dashboard-host=0.0.0.0",
        f"{EXPORT}; echo {HEAD}",
        f"{EXPORT}; {HEAD} --num-cpus=8",
        f"{EXPORT}; {HEAD} --num-gpus=8",
    ],
)
def test_a_dashboard_host_or_a_head_s_resource_given_otherwise_is_refused(line):
    with pytest.raises(SpecError, match="head_start_ray_commands"):
        parsed(line)


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--num-cpus=0",
        "--num-gpus=0",
        "--num-cpus=0 --num-gpus=8",
        "--num-cpus=0 --num-cpus=8 --num-gpus=0",
        "--num-cpus=0 --num-gpus=0 --num-gpus 8",
    ],
)
def test_the_local_head_must_have_no_cpus_and_no_gpus_said_once(flags):
    assert parsed(f"{EXPORT}; {HEAD} --num-cpus=0 --num-gpus=0", LOCAL).provider == "local"
    with pytest.raises(SpecError, match="once"):
        parsed(f"{EXPORT}; {HEAD} {flags}", LOCAL)


def test_a_second_start_in_another_command_is_seen_whatever_its_spaces():
    commands = [f"{EXPORT}; {HEAD}", "ray  start --head --dashboard-host=0.0.0.0"]
    config = {**yaml.safe_load(AWS), "head_start_ray_commands": commands}

    with pytest.raises(SpecError, match="exactly one command"):
        parse(yaml.safe_dump(config))


@pytest.mark.parametrize("joiner", [";", " &&", "\n"])
def test_what_is_accepted_is_what_a_shell_hands_to_ray(tmp_path, joiner):
    fake = tmp_path / "ray"
    fake.write_text('#!/bin/sh\necho "$RAY_AUTH_MODE" "$@"\n')
    fake.chmod(0o755)
    line = f"true{joiner} {EXPORT}{joiner} {HEAD} \\\n --labels='a;b'"

    assert parsed(line).provider == "aws"
    done = subprocess.run(
        ["bash", "-c", line], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True
    )
    expected = "token start --head --dashboard-host=127.0.0.1 --labels=a;b\n"
    assert done.stdout.decode() == expected
