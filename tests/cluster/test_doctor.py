"""Tests of `cluster.doctor`: which facts are a problem, and what to do about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.doctor import PACKAGES, Facts, Gpu, Installed, examine

RAY = Installed(name="ray", allowed=">=2.60", version="2.60.0", is_allowed=True)
WELL = Facts(
    python=Installed(name="python", allowed=">=3.11", version="3.12.1", is_allowed=True),
    requirements=(RAY,),
    owners=dict.fromkeys(PACKAGES, ("dream-cluster",)),
    gpus=(Gpu(name="H100", memory_bytes=79 * 2**30),),
    auth_mode="token",
    tokens=("/home/me/.ray/auth_token",),
    path_python="/env/bin/python",
    path_ray="2.60.0",
    dashboard_addresses=("127.0.0.1", "::1"),
)


def problems(facts, **options):
    return {item.name: item.remedy for item in examine(facts, **options) if item.remedy is not None}


def test_a_machine_that_is_well_has_no_problem():
    assert problems(WELL, min_gpus=1) == {}


def test_everything_looked_at_is_reported_even_when_well():
    names = [item.name for item in examine(WELL)]

    assert names == [
        "python",
        "ray",
        *(f"package {name}" for name in PACKAGES),
        "GPUs",
        "Ray auth",
        "python on PATH",
        "dashboard",
    ]


def test_an_old_python_is_a_problem():
    old = replace(WELL.python, version="3.10.0", is_allowed=False)

    assert "another Python" in problems(replace(WELL, python=old))["python"]


def test_a_missing_requirement_comes_with_the_command_that_installs_it():
    missing = Installed(name="torch", allowed=">=2.11", version=None, is_allowed=False)

    found = problems(replace(WELL, requirements=(RAY, missing)))

    assert found == {"torch": "pip install 'torch>=2.11'"}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_second_owner_of_a_package_is_to_be_uninstalled(name):
    owners = {**WELL.owners, name: ("dream-cluster", "other-jobs")}

    found = problems(replace(WELL, owners=owners))

    assert list(found) == [f"package {name}"]
    assert "pip uninstall other-jobs" in found[f"package {name}"]


def test_a_package_that_nobody_owns_is_a_problem():
    found = problems(replace(WELL, owners={}))

    assert found == {f"package {name}": "pip install dream-cluster" for name in PACKAGES}


def test_gpus_are_a_problem_only_where_they_are_asked_for():
    bare = replace(WELL, gpus=())

    assert problems(bare) == {}
    assert "1 needed" in problems(bare, min_gpus=1)["GPUs"]


@pytest.mark.parametrize(
    ("mode", "tokens", "remedy"),
    [
        (None, (), "export RAY_AUTH_MODE"),
        (None, ("t",), "stray token"),
        ("tokne", (), "export RAY_AUTH_MODE"),
        ("token", (), "get-auth-token --generate"),
        ("disabled", ("t",), "stray token"),
    ],
)
def test_an_auth_mode_that_is_unset_or_does_not_fit_the_token_is_a_problem(mode, tokens, remedy):
    found = problems(replace(WELL, auth_mode=mode, tokens=tokens))

    assert list(found) == ["Ray auth"]
    assert remedy in found["Ray auth"]


def test_auth_may_be_disabled_where_there_is_no_token():
    assert problems(replace(WELL, auth_mode="disabled", tokens=())) == {}


@pytest.mark.parametrize(
    ("python", "ray"), [(None, None), ("/usr/bin/python", None), ("/usr/bin/python", "2.9.0")]
)
def test_the_python_on_the_path_must_have_this_ray(python, ray):
    found = problems(replace(WELL, path_python=python, path_ray=ray))

    assert "ray 2.60.0 first on the PATH" in found["python on PATH"]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1"])
def test_a_dashboard_that_others_can_reach_is_a_problem(address):
    found = problems(replace(WELL, dashboard_addresses=("127.0.0.1", address)))

    assert "--dashboard-host=127.0.0.1" in found["dashboard"]


def test_a_dashboard_that_does_not_run_is_no_problem():
    assert problems(replace(WELL, dashboard_addresses=())) == {}
