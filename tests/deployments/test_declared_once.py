"""A parameter that is added to dream/params.py is at once a part of HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

THROWAWAY = """\
    throwaway: float | None = field(
        default=None, metadata=declare("A number nobody reads", APPROXIMATE, (0.5, 4))
    )

"""

CHECK = """
from pathlib import Path

from starlette.testclient import TestClient

import deployments, dream, jobs, cluster
from deployments.endpoints import Endpoints
from deployments.model_card import IngressConfig
from deployments.ingress import build_api
from deployments.requests import Diffusion
from tests.deployments.fakes import URL, FakeReplicas

assert {Path(p.__file__).parents[1] for p in (deployments, dream, jobs, cluster)} == {Path.cwd()}
shown = Diffusion.model_json_schema()["properties"]["throwaway"]
number = {"type": "number", "minimum": 0.5, "maximum": 4}
assert shown["anyOf"] == [number, {"type": "null"}], shown
assert shown["description"] == "A number nobody reads"
assert shown["default"] is None

config = IngressConfig(
    model_id="m", max_body_bytes=1000, body_timeout_s=1, timeout_s=1, max_token_forwards=1000
)
replicas = FakeReplicas()
with TestClient(build_api(Endpoints(replicas, config)), URL) as client:
    def post(**diffusion):
        body = {"model": "m", "prompt": "p", "diffusion": diffusion}
        return client.post("/v1/completions", json=body).json()

    card = client.get("/v1/models/m").json()
    assert card["defaults"]["diffusion"]["throwaway"] is None
    answer = post(throwaway=2)
    assert answer["choices"][0]["diffusion"]["resolved"]["throwaway"] == 2
    assert replicas.messages[0].params.throwaway == 2
    assert post()["choices"][0]["diffusion"]["resolved"]["throwaway"] is None
    error = post(throwaway=5)["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "diffusion.throwaway")
    error = post(thrownaway=2)["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "diffusion.thrownaway")
"""


def test_a_new_parameter_is_served_by_its_declaration_alone(tmp_path):
    for package in ("dream", "cluster", "deployments", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package)
    params = tmp_path / "dream/params.py"
    before, hook, after = params.read_text().partition("    def __post_init__")
    params.write_text(before + THROWAWAY + hook + after)

    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
