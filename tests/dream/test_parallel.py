"""Tensor parallelism on gloo: the same tokens from 1, 2 and 4 processes."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch.distributed as dist

from dream import Engine, EngineConfig, InvalidRequest
from dream.model.join import join_products
from tests.conftest import free_port
from tests.models import request
from tests.random_model import save_random_model

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])  # one import of torch for all processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random checkpoint with four key-value heads, in the official layout."""
    return save_random_model(tmp_path_factory.mktemp("parallel"))


def fill(engine: Engine) -> list[list[int]]:
    """Tokens of a mixed batch: algorithms, a draw, filters, a rule, a window, a history."""
    wanted = [
        request("a", [[1, 2, 3], 8]),
        request("b", [[7], 5, [9, 9], 3], alg="maskgit_plus", temperature=0.8, top_p=0.9, seed=4),
        request("c", [[5, 6], 20], steps=5, alg="topk_margin"),
        request("d", [[5, 6], 7], threshold=0.3),
        request("e", [[5, 6], 7], alg="origin", temperature=1.0, top_k=20, seed=9),
        request("f", [[8] * 7, 8], window="dual", block_length=4, threshold=0.9),
        request("g", [[4, 3], 7], history=2, history_top=3),
    ]
    return [list(done.token_ids) for done in engine.generate(wanted)]


def fill_in_parallel(
    folder: Path, rank: int, size: int, port: int, out: Path, is_joined: bool
) -> None:
    """What each process does: join the others, fill the same batch, write its tokens."""
    method = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=size)
    engine = Engine.from_pretrained(folder, EngineConfig(tensor_parallel=size))
    if is_joined:
        join_products(engine._model)
    (out / f"{rank}.json").write_text(json.dumps(fill(engine)))
    dist.destroy_process_group()


@pytest.mark.parametrize(("size", "is_joined"), [(2, False), (4, False), (2, True)])
def test_more_processes_give_the_same_tokens(folder, tmp_path, size, is_joined):
    """Also where each has its parts of query, key and value as one product, as on CUDA."""
    port = free_port()
    arguments = [(folder, rank, size, port, tmp_path, is_joined) for rank in range(size)]
    workers = [FORKS.Process(target=fill_in_parallel, args=each) for each in arguments]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=240)
        assert [worker.exitcode for worker in workers] == [0] * size
    finally:
        for worker in workers:
            worker.kill()
            worker.join()

    expected = fill(Engine.from_pretrained(folder))
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(size)]
    assert found == [expected] * size


def test_a_degree_without_its_processes_is_refused(folder):
    with pytest.raises(InvalidRequest, match="1, the number of processes"):
        Engine.from_pretrained(folder, EngineConfig(tensor_parallel=2))
