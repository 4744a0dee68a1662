"""Train a small Dream from scratch on generated Sudoku, by a plain torch loop.

Letters: B rows of a batch, L tokens of a row, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from dream.model.attention import PackedLayout
from dream.model.config import DreamConfig
from dream.model.modeling import DreamModel
from dream.model.tokenizer import Tokenizer, write_byte_tokenizer
from jobs.errors import Refused
from jobs.tasks import sudoku

__all__ = ["TrainConfig", "train"]

ANSWER_TOKENS = 24
"""Length of a completed answer: 19 characters of a grid, the rest EOS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A training run; the defaults are those of the embedded checkpoint."""

    updates: int = 4000
    batch_size: int = 192
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: int = 200
    ema: float = 0.998
    seed: int = 20261121
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    intermediate_size: int = 384
    vocab_size: int = 272
    log_every: int = 100


class TokenBatch(NamedTuple):
    """Clean rows and the positions hidden behind a mask, both [B, L]."""

    token_ids: Tensor
    is_masked: Tensor


Form = Callable[[np.random.Generator, int], TokenBatch]


def train(config: TrainConfig, out: Path, say: Callable[[str], None]) -> None:
    """Train and write a checkpoint in the official layout, with its log in card.json."""
    if out.is_dir() and any(out.iterdir()):
        raise Refused(f"{out} is not empty: choose another --output")
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    special = write_byte_tokenizer(out)
    model = _new_model(config, special)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.95), weight_decay=config.weight_decay
    )
    tokenizer = Tokenizer.from_folder(out)
    assert tokenizer is not None
    forms = _forms(tokenizer, special["<|endoftext|>"])
    log: list[dict[str, float]] = []
    started, tokens = time.monotonic(), 0
    say(f"{config.updates} updates of {config.batch_size} rows; a line every {config.log_every}")
    for update in range(config.updates):
        batch = forms[update % len(forms)](rng, config.batch_size)
        loss = _loss(model, batch, special["<|mask|>"])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(update, config)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _update_average(average, model, min(config.ema, (1 + update) / (10 + update)))
        tokens += batch.token_ids.numel()
        if (update + 1) % config.log_every == 0 or update + 1 == config.updates:
            seconds = time.monotonic() - started
            log.append(
                {"update": update + 1, "loss": round(loss.item(), 5), "s": round(seconds, 1)}
            )
            say(f"update {update + 1}/{config.updates} loss {loss.item():.4f} {seconds:.0f} s")
    _write(out, model, average, config, tokens, log)
    say(f"wrote {out}; measure it with python -m benchmarks.embedded --model {out}")


def _update_average(average: dict[str, Tensor], model: DreamModel, decay: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            average[name].lerp_(parameter, 1 - decay)


def _loss(model: DreamModel, batch: TokenBatch, mask_id: int) -> Tensor:
    """Mean cross-entropy of the masked positions, each read one row earlier (Dream's shift)."""
    rows, length = batch.token_ids.shape
    noisy = torch.where(batch.is_masked, mask_id, batch.token_ids)
    targets = batch.is_masked.flatten().nonzero()[:, 0]
    hidden = model(noisy.flatten(), PackedLayout.of([length] * rows, "cpu"))
    logits = model.logits(hidden[targets - 1])
    return F.cross_entropy(logits, batch.token_ids.flatten()[targets])


def _forms(tokenizer: Tokenizer, eos: int) -> list[Form]:
    """The text forms, one a batch in turn: a grid filled in place, and a prompt with its answer.

    Each row draws t in U(.05, 1) and hides every cell, or answer token, with probability t.
    A puzzle of the held-out split is never shown: neither as visible cells nor as a prompt.
    """
    blank = tokenizer.encode("S:" + "/".join(["0000"] * 4))
    equals = tokenizer.encode("=")

    def in_place(rng: np.random.Generator, rows: int) -> TokenBatch:
        grids = _draw_grids(rng, rows)
        hidden = _hide(rng, grids.shape)
        kept = _may_train(np.where(hidden, 0, grids))
        ids = _digit_rows(blank, grids[kept])
        is_masked = np.zeros(ids.shape, np.bool_)
        is_masked[:, np.array(blank) == ord("0")] = hidden[kept]
        return TokenBatch(torch.from_numpy(ids), torch.from_numpy(is_masked))

    def answer(rng: np.random.Generator, rows: int) -> TokenBatch:
        grids = _draw_grids(rng, rows)
        num_givens = rng.integers(0, 13, (rows, 1))
        puzzles = np.where(rng.random(grids.shape).argsort(1) < num_givens, grids, 0)
        kept = _may_train(puzzles)
        prompt = _digit_rows(blank + equals, puzzles[kept])
        body = _digit_rows(blank[2:], grids[kept])
        tail = np.full((len(body), ANSWER_TOKENS - body.shape[1]), eos)
        hidden = _hide(rng, (len(body), ANSWER_TOKENS))
        is_masked = np.concatenate([np.zeros(prompt.shape, np.bool_), hidden], 1)
        ids = np.concatenate([prompt, body, tail], 1)
        return TokenBatch(torch.from_numpy(ids), torch.from_numpy(is_masked))

    return [in_place, answer]


def _hide(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return rng.random(shape) < rng.uniform(0.05, 1.0, (shape[0], 1))


def _may_train(puzzles: sudoku.Digits) -> NDArray[np.bool_]:
    """Rows outside the held-out split; the empty grid is always trained on."""
    return ~sudoku.is_held_out(puzzles) | ~puzzles.any(1)


def _draw_grids(rng: np.random.Generator, rows: int) -> sudoku.Digits:
    grids = sudoku.solved_grids()
    return grids[rng.integers(len(grids), size=rows)]


def _digit_rows(pattern: list[int], digits: sudoku.Digits) -> NDArray[np.int64]:
    """Token ids for each grid: `pattern` with its "0" bytes replaced by the digits."""
    ids = np.tile(np.array(pattern), (len(digits), 1))
    ids[:, np.array(pattern) == ord("0")] = digits + ord("0")
    return ids


def _new_model(config: TrainConfig, special: dict[str, int]) -> DreamModel:
    """A freshly initialised model: normal(0, .02) matrices, residual outputs scaled by depth."""
    shape = DreamConfig(
        architectures=["DreamModel"],
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=512,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
        mask_token_id=special["<|mask|>"],
        eos_token_id=special["<|endoftext|>"],
        pad_token_id=special["<|endoftext|>"],
        bos_token_id=special["<|beginoftext|>"],
    )
    model = DreamModel(shape)
    depth = 1.0 / math.sqrt(2 * config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            is_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            torch.nn.init.normal_(parameter, std=0.02 * (depth if is_residual else 1.0))
    model.train()
    return model


def _schedule(update: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if update < config.warmup:
        return (update + 1) / config.warmup
    progress = (update - config.warmup) / max(1, config.updates - config.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _write(
    out: Path,
    model: DreamModel,
    average: dict[str, Tensor],
    config: TrainConfig,
    tokens: int,
    log: list[dict[str, float]],
) -> None:
    """Weights (the running average, bfloat16), config.json and the training half of card.json."""
    save_file(
        {name: t.to(torch.bfloat16) for name, t in average.items()}, out / "model.safetensors"
    )
    (out / "model.safetensors").chmod(0o644)
    (out / "config.json").write_text(config_json(model.config), encoding="utf-8")
    parameters = sum(tensor.numel() for tensor in average.values())
    card = {
        "data": {
            "generator": "jobs/tasks/sudoku.py",
            "generator_sha256": hashlib.sha256(Path(sudoku.__file__).read_bytes()).hexdigest(),
            "forms": ["S:<grid filled in place>", "S:<puzzle>=<grid><EOS>"],
            "seen": "all 288 solved grids; clue patterns of the held-out split were never shown",
        },
        "recipe": asdict(config),
        "parameters": parameters,
        "tokens": tokens,
        "flops": 6 * parameters * tokens,
        "log": log,
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def config_json(config: DreamConfig) -> str:
    """config.json in the published layout, under Dream's own keys."""
    keys = [*DreamConfig.__annotations__, "architectures"]
    values = {"model_type": "Dream"} | {key: getattr(config, key) for key in keys}
    fixed = {"rope_scaling": None, "tie_word_embeddings": False, "use_sliding_window": False}
    return json.dumps(values | fixed | {"torch_dtype": "bfloat16"}, indent=2, sort_keys=True) + "\n"
