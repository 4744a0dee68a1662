"""docs/deadlines.md: its example runs, and the numbers it names are those of the code."""

from __future__ import annotations

import re

import pytest

from deployments.time_options import QUALITY_FLOORS
from dream.engine.async_engine import ELASTIC_AFTER_S
from dream.engine.deadlines import HEADROOM, LOOK_EVERY_S, RESERVE_S
from tests.conftest import ROOT

pytestmark = pytest.mark.ray

TEXT = (ROOT / "docs/deadlines.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)


def test_the_example_runs(server):
    (code,) = EXAMPLES

    exec(compile(code.replace("http://127.0.0.1:8000", server.url), "example", "exec"), {})


def test_the_numbers_are_those_of_the_code():
    assert (HEADROOM, RESERVE_S, LOOK_EVERY_S, ELASTIC_AFTER_S) == (1.2, 0.02, 0.05, 2)
    assert QUALITY_FLOORS == {"fast": 1 / 8, "balanced": 1 / 4, "best": 1 / 2}
