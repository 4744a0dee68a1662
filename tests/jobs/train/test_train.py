"""The loop: it learns, repeats, goes on where it was, and any number of workers agree."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.quality_speed import measure
from dream import Engine
from dream.model.loader import load_model
from jobs.common.errors import JobError, Refused
from jobs.evaluate.suites import SuiteOptions, build_suite
from jobs.train.checkpoint import final_weights, restore, save
from jobs.train.driver import train
from jobs.train.loop import rate, run_updates
from jobs.train.metrics import Metrics, read_metrics
from jobs.train.network import collate, local_of
from tests.jobs.train.trainrun import TINY, fresh, spec_of, train_here


def quiet(line: str) -> None:
    """Progress that nobody reads."""


def weights_of(state) -> dict[str, torch.Tensor]:
    """Everything a worker trains, copied."""
    kept = {name: local_of(parameter).clone() for name, parameter in state.parameters.items()}
    return kept | {f"average {name}": value.clone() for name, value in state.average.items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_batch_is_learnt_by_heart(tmp_path):
    spec = spec_of(updates=150, learning_rate=1e-2, mix={"lists": 1}, batch_size=4, ema=None)
    state, source, mask_id = fresh(spec, tmp_path)
    batch = source.share(0, 0, 1)
    lines: list[dict] = []

    run_updates(
        state,
        [batch] * 150,
        spec,
        mask_id=mask_id,
        variant_names=source.variant_names,
        last=150,
        tell=lines.append,
        save=lambda: None,
    )

    assert lines[0]["loss"] > 4
    assert lines[-1]["loss"] < 0.02
    seen = collate(batch, mask_id, "cpu")
    logits = state.network.model.logits(state.network.model(seen.noisy_T, seen.layout))
    assert (logits[seen.sources_N].argmax(-1) == seen.targets_N).all()


def test_a_run_repeats_to_the_bit_and_accumulation_only_rounds(tmp_path):
    once, _ = train_here(spec_of(), tmp_path)
    again, lines = train_here(spec_of(), tmp_path)
    in_parts, other = train_here(spec_of(accumulate=3, recompute=True), tmp_path)

    assert same(weights_of(once), weights_of(again))
    assert [line["loss"] for line in other] == pytest.approx(
        [line["loss"] for line in lines], rel=1e-5
    )
    assert in_parts.progress == once.progress


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_blocks_give_the_losses_of_plain_ones(tmp_path):
    _, plain = train_here(spec_of(updates=3), tmp_path)
    _, compiled = train_here(spec_of(updates=3, compile=True), tmp_path)

    assert [line["loss"] for line in compiled] == pytest.approx(
        [line["loss"] for line in plain], rel=1e-4
    )


def test_the_average_starts_fast_and_bfloat16_stays_close(tmp_path):
    spec = spec_of(updates=2)
    state, _ = train_here(spec, tmp_path)
    lowered, _ = train_here(spec_of(updates=2, dtype="bfloat16"), tmp_path)

    name = "lm_head.weight"
    start = fresh(spec, tmp_path)[0].parameters[name]
    assert state.average[name].dtype == lowered.average[name].dtype == torch.float32
    moved = (state.parameters[name] - start).norm()
    assert 0 < (state.average[name] - state.parameters[name]).norm() < 0.5 * moved
    difference = (lowered.parameters[name] - state.parameters[name]).norm()
    assert 0 < difference < 0.3 * moved


def test_the_rate_warms_up_and_falls_to_its_least():
    spec = spec_of(learning_rate=2.0, warmup=4, least_rate=0.1)

    assert [rate(update, spec, 104) for update in (0, 1, 3, 4)] == [0.5, 1.0, 2.0, 2.0]
    assert rate(54, spec, 104) == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rate(104, spec, 104) == pytest.approx(0.2)


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    saved: list[int] = []

    def keep(state):
        saved.append(state.progress.updates)
        state.parameters["lm_head.weight"].data[3, 5] = math.nan  # the next update keeps it

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, most: torch.ones(()))
    monkeypatch.setattr("jobs.train.loop.math.isfinite", lambda value: True)

    with pytest.raises(JobError, match="update 6: weights are not finite"):
        train_here(spec_of(checkpoint_every=3), tmp_path, save=keep)

    assert saved == [3]


def test_a_restored_run_ends_as_the_uninterrupted_one_to_the_bit(tmp_path):
    spec = spec_of(checkpoint_every=5)
    saved: list[Path] = []

    def keep(state):
        saved.append(tmp_path / f"{state.progress.updates}")
        save(state, saved[-1], 0, 1)

    whole, _ = train_here(spec, tmp_path, save=keep)
    state, source, mask_id = fresh(spec, tmp_path)
    restore(state, saved[0], 0, 1)
    assert state.progress.updates == 5
    run_updates(
        state,
        (source.share(update, 0, 1) for update in range(5, 8)),
        spec,
        mask_id=mask_id,
        variant_names=source.variant_names,
        last=8,
        tell=lambda line: None,
        save=lambda: None,
    )

    assert same(weights_of(state), weights_of(whole))
    assert same(dict(final_weights(saved[1])), whole.average)
    with pytest.raises(JobError, match="num_workers=1"):
        restore(state, saved[0], 0, 2)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    state, source, mask_id = fresh(spec_of(), tmp_path)
    batch = source.share(0, 0, 1)
    batch = batch._replace(weights=np.where(batch.is_masked, np.float32(math.inf), np.float32(0)))

    with pytest.raises(JobError, match="update 1: loss"):
        run_updates(
            state,
            [batch],
            spec_of(),
            mask_id=mask_id,
            variant_names=source.variant_names,
            last=1,
            tell=lambda line: None,
            save=lambda: None,
        )


def test_metrics_go_on_after_the_checkpoint_they_go_on_from(tmp_path):
    with Metrics(tmp_path, 0) as metrics:
        for update in (1, 2, 3):
            metrics.write({"update": update, "loss": 1.0, "cross_entropy": {"lists": 2.0}})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 4, "lo')

    with Metrics(tmp_path, 2) as metrics:
        metrics.write({"update": 3, "loss": 0.5})

    lines = read_metrics(tmp_path)
    assert [line["update"] for line in lines] == [1, 2, 3]
    assert lines[-1]["loss"] == 0.5
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 2


def test_a_folder_that_holds_something_is_not_written_over(tmp_path):
    (tmp_path / "model.safetensors").write_text("mine")

    with pytest.raises(Refused, match="holds no job"):
        train(spec_of(tmp_path), quiet)

    assert (tmp_path / "model.safetensors").read_text() == "mine"


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(output)]


def kill_a_worker(output: Path, after_update: int, killed: list[int]) -> None:
    """SIGKILL the first worker once it has told of an update; its files of events name it."""
    while not any(line["update"] >= after_update for line in read_metrics(output)):
        time.sleep(0.02)
    (events,) = (output / "tensorboard").glob("events.out.tfevents.*")
    killed.append(int(events.name.split(".")[-2]))
    os.kill(killed[0], signal.SIGKILL)


@pytest.mark.ray
def test_a_run_on_ray_train_gives_the_losses_of_the_loop(tmp_path, ray_local):
    """And the output of a run; two workers, one of them killed, are a slow test."""
    spec = spec_of(tmp_path / "out", updates=20, checkpoint_every=10)

    train(spec, quiet)

    alone, lines = train_here(on_one_worker(spec), tmp_path / "alone")
    assert losses(tmp_path / "out") == pytest.approx([line["loss"] for line in lines], rel=1e-4)
    check_output(tmp_path / "out", alone)
    train(spec, quiet)  # finished: nothing is done
    with pytest.raises(Refused, match=r"learning_rate: 0\.003 -> 0\.1"):
        train(spec.model_copy(update={"learning_rate": 0.1}), quiet)


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_one_of_them_killed_give_the_losses_of_one(tmp_path, ray_local):
    """On gloo: the same losses to rounding, through a SIGKILL and the checkpoint before it."""
    spec = spec_of(tmp_path / "out", updates=60, num_workers=2, checkpoint_every=20)
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "out", 25, killed))
    killer.start()

    train(spec, quiet)

    killer.join()
    alone, lines = train_here(on_one_worker(spec), tmp_path / "alone")
    events = list((tmp_path / "out" / "tensorboard").glob("events.out.tfevents.*"))
    assert len(killed) == 1
    assert len(events) == 2, "killed before the last update, and begun again"
    assert losses(tmp_path / "out")[:12] == pytest.approx(
        [line["loss"] for line in lines[:12]], rel=1e-5
    )
    assert losses(tmp_path / "out") == pytest.approx([line["loss"] for line in lines], rel=2e-2)
    check_output(tmp_path / "out", alone)


def on_one_worker(spec):
    """The same run without others to add to."""
    return spec.model_copy(update={"num_workers": 1, "parallel": "ddp"})


def check_output(output: Path, state) -> None:
    """The folder is a checkpoint in the official layout, with the card of its training."""
    card = json.loads((output / "card.json").read_text())
    assert card["flops"] == 6 * card["parameters"] * card["tokens"] > 0
    assert card["tokens"] == state.progress.tokens
    assert card["log"][-1]["update"] == state.progress.updates
    assert set(card["data"]) == {"generator", "rows_sha256", "seen"}
    assert card["started_from"] is None
    model = load_model(output, dtype=torch.float32, device="cpu")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state.average[name], rtol=2e-2, atol=2e-2)
    assert Engine.from_pretrained(output).tokenizer is not None


def start(config: Path, output: Path, log) -> subprocess.Popen:
    """`python -m jobs train` in its own process group."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "jobs", "train", "--config", str(config), "-o", str(output)]
    return subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_driver_killed_hard_and_run_again_gives_the_uninterrupted_weights(tmp_path):
    """SIGKILL of the command itself; the same command again; bit for bit, float32, one worker."""
    config, output = tmp_path / "run.yaml", tmp_path / "out"
    settings = {**TINY, "updates": 400, "checkpoint_every": 100}
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    with (tmp_path / "log").open("w") as log:
        driver = start(config, output, log)
        while not any(line["update"] >= 150 for line in read_metrics(output)):
            assert driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        driver.kill()
        driver.wait()
        assert not (output / "card.json").exists()
        time.sleep(6)  # what the driver left behind ends by itself

        assert start(config, output, log).wait(timeout=300) == 0, (tmp_path / "log").read_text()

    whole, _ = train_here(spec_of(updates=400), tmp_path / "whole")
    last = output / "_train" / "run" / "update-00000400"
    assert same(dict(final_weights(last)), whole.average)
    assert [line["update"] for line in read_metrics(output)] == list(range(1, 401))


@pytest.mark.ray
@pytest.mark.slow
def test_sharded_training_gives_the_losses_of_one_worker(tmp_path, ray_local):
    """FSDP2 on gloo and CPUs: the wrapping, the shards of the checkpoint, the export."""
    spec = spec_of(tmp_path / "out", parallel="fsdp", num_workers=2, checkpoint_every=5)

    train(spec, quiet)

    alone, lines = train_here(on_one_worker(spec), tmp_path / "alone")
    assert losses(tmp_path / "out") == pytest.approx([line["loss"] for line in lines], rel=1e-5)
    shards = tmp_path / "out" / "_train" / "run" / "update-00000008"
    for name, tensor in final_weights(shards):
        torch.testing.assert_close(tensor, alone.average[name], rtol=1e-4, atol=1e-5)


@pytest.mark.ray
@pytest.mark.slow
def test_the_nano_recipe_learns_to_trade_steps_for_quality(tmp_path):
    """About three minutes: at 8 givens sixteen steps solve far more than one."""
    with (tmp_path / "log").open("w") as log:
        run = start(Path("nano"), tmp_path / "out", log)
        assert run.wait(timeout=1800) == 0, (tmp_path / "log").read_text()
    engine = Engine.from_pretrained(tmp_path / "out")

    suite = build_suite("sudoku4", SuiteOptions(num=400, givens=(8,)))
    solved = [measure(engine, suite, steps=steps).right for steps in (1, 16)]

    assert solved[1] - solved[0] >= 0.3
