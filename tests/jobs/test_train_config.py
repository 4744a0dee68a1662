"""Settings of a run: recipes, files, flags, and refusals that name field and value."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import yaml

from jobs.__main__ import NOT_TRAIN_SETTINGS, train_command
from jobs.errors import Refused
from jobs.train.config import RECIPES, TrainSpec, load_train_spec
from tests.jobs.trainrun import TINY


def load(**changes):
    values = {"output": "out", **TINY, **changes}
    return load_train_spec({k: v for k, v in values.items() if v is not None})


@pytest.mark.parametrize("name", ["embedded", "nano"])
def test_recipes_ship_and_load(name):
    spec = load_train_spec({"output": "out"}, name)

    assert (RECIPES / f"{name}.yaml").is_file()
    assert spec.mix is not None
    assert spec.dtype == "bfloat16"


def test_a_flag_beats_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({**TINY, "output": "here"}))

    spec = load_train_spec({"updates": 3}, str(file))

    assert (spec.updates, spec.batch_size) == (3, TINY["batch_size"])
    assert spec.output.endswith("/here")


def test_every_flag_of_train_is_a_setting():
    flags = set(inspect.signature(train_command).parameters) - {"ctx"} - set(NOT_TRAIN_SETTINGS)

    assert flags <= set(TrainSpec.model_fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 3}, "batchsize: no such setting; did you mean batch_size?"),
        ({"batch_size": None}, "batch_size is required"),
        ({"batch_size": 0}, "batch_size=0 is not valid"),
        ({"parquet": "x"}, "mix and parquet: exactly one"),
        ({"mix": None}, "mix and parquet: exactly one"),
        ({"epochs": 2}, "updates and epochs: exactly one"),
        ({"epochs": 2, "updates": None}, "epochs=2.0 is not valid: it needs parquet"),
        ({"on_long": "drop"}, "on_long='drop' is not valid: it needs parquet"),
        ({"mix": {"sudokus": 1}}, "'sudokus' is not valid: shares of sudoku, "),
        ({"mix": {"sudoku": 0}}, "sudoku=0.0 is not valid: a share above 0"),
        ({"hidden_size": None}, "hidden_size: required for a fresh model"),
        ({"from": "embedded"}, "hidden_size=32 is not valid: a model that is continued"),
        ({"hidden_size": 33}, "hidden_size=33 is not valid"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3 is not valid"),
        ({"mask_token_id": 5}, "mask_token_id=5 is not valid: only with from: qwen2 PATH"),
        ({"num_workers": 4, "accumulate": 4}, "batch_size=12 is not valid: at least a row"),
        ({"time_weight": "1/t"}, "time_weight='1/t' is not valid"),
        ({"cart_p": 0}, "cart_p=0 is not valid"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not valid"),
        ({"parallel": "tp"}, "parallel='tp' is not valid"),
        ({"from": "qwen2"}, "PATH of a Dream checkpoint, or qwen2 PATH"),
        ({"output": "s3://bucket/x"}, "a local path"),
    ],
)
def test_a_refusal_names_the_setting_its_value_and_what_is_allowed(changes, message):
    with pytest.raises(Refused) as refusal:
        load(**changes)

    assert message in str(refusal.value)


def test_a_file_or_recipe_there_is_not_is_refused(tmp_path):
    with pytest.raises(Refused, match="a YAML file, or embedded or nano"):
        load_train_spec({}, "huge")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(Refused, match="a mapping"):
        load_train_spec({}, str(tmp_path / "list.yaml"))


def test_what_changes_no_row_is_not_of_the_identity():
    base = load()

    assert load(num_workers=2, threads=2, checkpoint_every=3).identity() == base.identity()
    assert load(seed=4).identity() != base.identity()
    turned = dict(reversed(TINY["mix"].items()))
    assert load(mix=turned).identity() != base.identity(), "forms are drawn by their number"
    fsdp = [load(parallel="fsdp", num_workers=num).identity() for num in (1, 2)]
    assert fsdp[0] != fsdp[1]


def test_the_driver_sets_rays_environment_before_ray_is_imported():
    code = "import sys, jobs.train.driver; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
