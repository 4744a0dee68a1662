"""An evaluation as a user calls it: killed and resumed, scored anew, repeated, and refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dream import Engine, Request, SamplingParams, Template
from jobs.fill.ledger import CommitLog, JobFolder
from jobs.fill.report import read_status
from jobs.fill.verify import verify
from tests.integration.test_jobs import call, finish, start, wait_for

pytestmark = pytest.mark.ray

GUIDE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```sh\npython -m jobs (evaluate .*) --out curve\n```", GUIDE)
NUM = 20
VARIANTS = ("entropy-confidence", "entropy-random")
STEPS = (1, 4, 16)
PLOTS = ("quality_steps", "quality_cost")
ROWS = 2 * len(STEPS) * NUM
"""Of a variant: two buckets at every steps count."""


@pytest.fixture(scope="module")
def ray_address(ray_local) -> str:
    """Address of the Ray that the drivers connect to."""
    import ray

    return ray.get_runtime_context().gcs_address


def arguments(out, **changed):
    """The example of the guide, with smaller commit batches so that a kill falls between two."""
    settings = {"--out": out, "--commit-rows": 8} | changed
    return [*shlex.split(EXAMPLE[1]), *(str(part) for pair in settings.items() for part in pair)]


@pytest.fixture(scope="module")
def killed(ray_address, tmp_path_factory) -> tuple[Path, int]:
    """An evaluation killed within its second variant, and what was committed then."""
    out = tmp_path_factory.mktemp("evaluate") / "out"
    job = JobFolder(out / "variants" / VARIANTS[1])
    driver = start(ray_address, *arguments(out))
    try:
        wait_for(lambda: next(CommitLog(job).committed(), None) is not None, driver)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    assert not (out / "results.json").exists()
    return out, read_status(job).rows_committed


@pytest.fixture(scope="module")
def out(killed, ray_address) -> Path:
    """The same evaluation after the same command was given again."""
    folder, _ = killed
    said = finish(*arguments(folder))
    assert "entropy, random" in said
    assert f"{ROWS} of {ROWS} rows" in said
    return folder


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.from_pretrained("embedded")


def filled_by(engine, samples):
    """The answers of an engine that is given the questions of the samples directly."""
    requests = []
    for number, sample in enumerate(samples):
        text = "S:" + sample["input"].replace("\n", "/")
        ids = [
            engine.mask_token_id if letter == "0" else engine.tokenizer.encode(letter)[0]
            for letter in text
        ]
        params = SamplingParams(steps=sample["steps"], order=sample["order"], seed=sample["seed"])
        template = Template.from_masked(ids, engine.mask_token_id)
        requests.append(Request(id=str(number), template=template, params=params))
    texts = [engine.tokenizer.decode(done.token_ids) for done in engine.generate(requests)]
    return [text.removeprefix("S:").replace("/", "\n") for text in texts]


def is_solved(puzzle, answer):
    """Clues kept, and every row, column and box holds 1 to 4: by hand, from the text alone."""
    given, cells = puzzle.replace("\n", ""), answer.replace("\n", "")
    if len(cells) != 16 or any(g not in ("0", c) for g, c in zip(given, cells, strict=True)):
        return False
    rows = [{4 * r + c for c in range(4)} for r in range(4)]
    columns = [{4 * r + c for r in range(4)} for c in range(4)]
    boxes = [{r, r + 1, r + 4, r + 5} for r in (0, 2, 8, 10)]
    return all({cells[i] for i in unit} == set("1234") for unit in rows + columns + boxes)


def read_results(out):
    return json.loads((out / "results.json").read_text())


def test_every_answer_is_scored_as_by_hand_and_the_results_are_their_shares(out):
    results = read_results(out)["results"]
    assert set(results) == {f"sudoku4@{steps}:{variant}" for steps in STEPS for variant in VARIANTS}

    for variant in VARIANTS:
        samples = pq.read_table(out / "samples" / f"{variant}.parquet").to_pylist()
        assert len(samples) == ROWS
        for sample in samples:
            assert sample["acc"] == is_solved(sample["input"], sample["answer"])
        for steps in STEPS:
            solved = [sample["acc"] for sample in samples if sample["steps_asked"] == str(steps)]
            entry = results[f"sudoku4@{steps}:{variant}"]
            assert entry["acc,none"] == sum(solved) / len(solved)
            assert entry["acc_wilson_low"] <= entry["acc,none"] <= entry["acc_wilson_high"]
            assert entry["num_errors"] == 0
            assert entry["forward_passes"] <= min(steps, 10)  # of 12 or 8 masked cells
            assert entry["token_forwards"] == pytest.approx(21 * entry["forward_passes"])
            assert entry["tokens_per_second"] > 0
            assert [bucket["n"] for bucket in entry["buckets"].values()] == [NUM, NUM]
    few, many = results[f"sudoku4@1:{VARIANTS[0]}"], results[f"sudoku4@16:{VARIANTS[0]}"]
    assert many["acc,none"] > few["acc,none"]


def test_the_guide_names_every_key_and_file(out):
    results = read_results(out)

    for key in results:
        assert f"`{key}`" in GUIDE
    for key in results["results"][f"sudoku4@16:{VARIANTS[1]}"]:
        words = re.sub(r"@\d", "@k", key)
        assert f"`{words}`" in GUIDE or key in ("name", "alias", "sample_len")
    names = {path.relative_to(out).as_posix() for path in out.glob("*/*")}
    plots = {f"plots/{name}.{kind}" for name in PLOTS for kind in ("png", "svg")}
    samples = {f"samples/{variant}.parquet" for variant in VARIANTS}
    variants = {f"variants/{variant}" for variant in VARIANTS}
    assert names == plots | samples | variants | {"_eval/evaluate.json", "_eval/input"}


def test_every_variant_asks_the_same_questions_with_the_same_seeds(out):
    first, second = (
        pq.read_table(out / "samples" / f"{variant}.parquet", columns=["input", "steps", "seed"])
        for variant in VARIANTS
    )

    assert first.equals(second)


def test_the_variants_are_jobs_that_verify(out):
    for variant in VARIANTS:
        folder = JobFolder(out / "variants" / variant)
        assert verify(folder, deep=True) == []
        fingerprint = folder.read_record().fingerprint
        assert read_results(out)["config"]["fingerprints"][variant] == fingerprint


def test_giving_the_command_again_changes_nothing(out):
    def snapshot():
        files = [path for path in out.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = snapshot()

    code, said = call(*arguments(out), "--json")

    assert (code or 0) == 0
    assert json.loads(said) == read_results(out)
    assert snapshot() == before


@pytest.mark.parametrize(
    ("flag", "value", "line"),
    [
        ("--steps", "1,2", 'steps: ["1", "4", "16"] -> ["1", "2"]'),
        ("--seed", 3, "seed: 0 -> 3"),
        ("--num", 21, "questions_sha256"),
        ("--order", "confidence", 'order: ["confidence", "random"] -> ["confidence"]'),
        ("--temperature", 0.5, "temperature: 0.0 -> 0.5"),
    ],
)
def test_other_settings_are_refused_with_the_difference(out, flag, value, line):
    code, said = call(*arguments(out, **{flag: value}))

    assert code == 2
    assert line in said


def test_a_killed_evaluation_goes_on_where_it_was(out, killed):
    _, committed = killed

    assert 0 < committed < ROWS
    assert CommitLog(JobFolder(out / "variants" / VARIANTS[0])).attempt == 1
    assert CommitLog(JobFolder(out / "variants" / VARIANTS[1])).attempt == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_answers_are_those_of_an_engine_alone(out, engine, variant):
    samples = pq.read_table(out / "samples" / f"{variant}.parquet").to_pylist()

    assert [sample["answer"] for sample in samples] == filled_by(engine, samples)
