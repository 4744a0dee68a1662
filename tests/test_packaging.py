"""The four import packages belong to this one distribution, and the wheel carries the model."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import dream

ROOT = Path(__file__).parent.parent
PACKAGES = ("dream", "cluster", "deployments", "jobs")
PUBLIC = [
    "AsyncEngine",
    "Completion",
    "DreamError",
    "Engine",
    "EngineConfig",
    "Fixed",
    "Hole",
    "InvalidRequest",
    "Request",
    "SamplingParams",
    "Span",
    "StepEvent",
    "Template",
    "TokenLogprobs",
    "Tokenizer",
    "Usage",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_belongs_to_this_distribution_alone(package):
    owners = packages_distributions().get(package, [])

    assert set(owners) == {"dream-cluster"}


def test_the_public_names_are_these():
    assert sorted(dream.__all__) == PUBLIC
    assert all(hasattr(dream, name) for name in PUBLIC)


def test_the_packages_are_listed_and_not_remapped():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]

    assert {name.rstrip("*") for name in setuptools["packages"]["find"]["include"]} == set(PACKAGES)
    assert "package-dir" not in setuptools


def test_the_lock_pins_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]

    for requirement in wanted:
        name = requirement.split(">=")[0].split("[")[0].lower().replace("_", "-")
        assert name in pinned, requirement
    assert "torch==2.13.0" in lock.splitlines()


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_and_the_embedded_checkpoint(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(tmp_path), str(ROOT)], check=True)

    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()

    tops = {name.split("/")[0] for name in names if not name.startswith("dream_cluster-")}
    assert tops == set(PACKAGES)
    for file in ("config.json", "model.safetensors", "vocab.json", "merges.txt", "card.json"):
        assert f"dream/embedded/{file}" in names
    assert {"deployments/serve/node.yaml", "deployments/nginx.conf"} <= set(names)
    assert "deployments/grafana/dream.json" in names
    presets = {f"dream/presets/{path.name}" for path in (ROOT / "dream/presets").glob("*.yaml")}
    assert presets
    assert presets <= set(names)
