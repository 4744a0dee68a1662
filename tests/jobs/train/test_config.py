"""Settings of a run: recipes, files, flags, and refusals that name field and value."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import yaml

from jobs.__main__ import NOT_TRAIN_SETTINGS, train_command
from jobs.common.errors import Refused
from jobs.train.config import RECIPES, SIZES, TrainSpec, load_train_spec
from tests.jobs.train.trainrun import TINY

CONTINUED = dict.fromkeys(SIZES) | {"from": "embedded"}
PARQUET = {"mix": None, "parquet": "data"}


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
        ({"batch_size": 0}, "batch_size=0 is not valid: greater than or equal to 1"),
        ({"parquet": "x"}, "mix and parquet: exactly one"),
        ({"mix": None}, "mix and parquet: exactly one"),
        ({"epochs": 2}, "updates and epochs: exactly one"),
        ({"epochs": 2, "updates": None}, "epochs=2.0 is not valid: it needs parquet"),
        ({"on_long": "drop"}, "on_long='drop' is not valid: it needs parquet"),
        ({"mix": {"sudokus": 1}}, "'sudokus' is not valid: shares of sudoku, "),
        ({"mix": {"sudoku": 0}}, "sudoku=0.0 is not valid: a share above 0"),
        ({"hidden_size": None}, "hidden_size: required for a fresh model"),
        ({"from": "embedded"}, "hidden_size=32 is not valid: it needs a fresh model, without from"),
        ({**CONTINUED, "vocab_size": 300}, "vocab_size=300 is not valid: it needs a fresh model"),
        ({**CONTINUED, "max_position_embeddings": 64}, "max_position_embeddings=64 is not valid"),
        ({"focal_alpha": 0.5}, "focal_alpha=0.5 is not valid: it needs focal_gamma"),
        ({"cart_p": 0.5}, "cart_p=0.5 is not valid: it needs time_weight: cart"),
        ({**PARQUET, "cart_p": 0.5}, "cart_p=0.5 is not valid: it needs time_weight: cart"),
        ({"momentum": 0.9}, "momentum=0.9 is not valid: it needs optimizer: muon"),
        (
            {**PARQUET, "tail_weight": 0.5},
            "tail_weight=0.5 is not valid: it needs eos_slack above 0",
        ),
        ({**PARQUET, "max_length": 9, "eos_slack": 8}, "eos_slack=8 is not valid: below 8"),
        ({"hidden_size": 33}, "hidden_size=33 is not valid"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3 is not valid"),
        ({"mask_token_id": 5}, "mask_token_id=5 is not valid: it needs from: qwen2 PATH"),
        (
            {"mix": {"sudoku": 20, "lists": 1}, "batch_size": 8},
            "batch_size=8 is not valid: lists of mix gets no row of it; batch_size=11 gives it one",
        ),
        ({"mix": {"sudoku": "many"}}, "mix.sudoku='many' is not valid: a valid number"),
        ({"num_workers": 4, "accumulate": 4}, "batch_size=12 is not valid: at least a row"),
        ({"time_weight": "1/t"}, "time_weight='1/t' is not valid"),
        ({"cart_p": 0}, "cart_p=0 is not valid"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not valid"),
        ({"parallel": "tp"}, "parallel='tp' is not valid"),
        ({"from": "qwen2"}, "PATH of a Dream checkpoint, or qwen2 PATH"),
        ({"output": "s3://bucket/x"}, "not URIs"),
    ],
)
def test_a_refusal_names_the_setting_its_value_and_what_is_allowed(changes, message):
    with pytest.raises(Refused) as refusal:
        load(**changes)

    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"focal_alpha": 0.5, "focal_gamma": 2.0},
        {"cart_p": 0.5, "time_weight": "cart"},
        {"momentum": 0.9, "optimizer": "muon"},
        {"tail_weight": 0.5},
        {**PARQUET, "tail_weight": 0.5, "eos_slack": 7, "max_length": 9},
        {"vocab_size": 300, "max_position_embeddings": 64},
        CONTINUED,
    ],
)
def test_an_option_stands_where_it_is_read(changes):
    spec = load(**changes)

    assert TrainSpec.model_validate(spec.dump()) == spec


@pytest.mark.parametrize("kind", ["", "qwen2 "])
def test_a_home_folder_is_found_in_a_file_too(tmp_path, monkeypatch, kind):
    (tmp_path / "m").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))

    assert load(**CONTINUED | {"from": f"{kind}~/m"}).from_ == f"{kind}{tmp_path}/m"


def test_a_file_or_recipe_there_is_not_is_refused(tmp_path):
    with pytest.raises(Refused, match="a YAML file, or embedded-continued or embedded or nano"):
        load_train_spec({}, "huge")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(Refused, match="a mapping"):
        load_train_spec({}, str(tmp_path / "list.yaml"))


def test_what_changes_no_row_is_not_of_the_identity():
    base = load()

    assert load(num_workers=2, threads=2, checkpoint_every=3).identity() == base.identity()
    assert load(seed=4).identity() != base.identity()
    turned = dict(reversed(TINY["mix"].items()))
    assert load(mix=turned).identity() != base.identity(), "variants are drawn by their number"
    fsdp = [load(parallel="fsdp", num_workers=num).identity() for num in (1, 2)]
    assert fsdp[0] != fsdp[1]


def test_the_driver_sets_rays_environment_before_ray_is_imported():
    code = "import sys, jobs.train.driver; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
