"""The loop: schedule, collate, run, apply."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from dream.canvas import Canvas
from dream.dtypes import QUANTIZED
from dream.engine.batch import Batch, collate
from dream.engine.canvases import Canvases
from dream.engine.capture import CaptureCuda
from dream.engine.commits import commits_of
from dream.engine.config import EngineConfig
from dream.engine.exactness import is_bit_exact
from dream.engine.graphs import StepGraphs
from dream.engine.history import HistoryPool
from dream.engine.limits import Limits
from dream.engine.prepare import prepare
from dream.engine.readback import HostCommit
from dream.engine.runner import Launched, ModelRunner, Stage
from dream.engine.scheduler import Scheduler
from dream.engine.slots import SlotPool
from dream.engine.startup import check_start
from dream.engine.stats import EngineStats
from dream.engine.vocabulary import end_ids, suppressed_ids
from dream.errors import EngineError, InvalidRequest
from dream.likelihood import LikelihoodParams, estimate_log_likelihood
from dream.model.cache import KeyValueCache
from dream.model.device import on_device
from dream.model.family import preset_of
from dream.model.loader import DTYPES, load_model
from dream.model.modeling import DreamModel
from dream.model.parallel import check_processes
from dream.model.tokenizer import Tokenizer
from dream.presets import Preset
from dream.request import Completion, Request, StepEvent
from dream.template import Fixed, Template

__all__ = ["Engine"]


class Engine:
    """Fills templates: many requests of any length, step and algorithm share each forward.

    One thread owns an engine. Where `is_bit_exact`, others change no bit of a request's result.
    """

    def __init__(
        self, model: DreamModel, tokenizer: Tokenizer | None, config: EngineConfig
    ) -> None:
        shape = model.config
        self.config = config
        self.tokenizer = tokenizer
        self.stats = EngineStats()
        self.vocab_size: int = shape.vocab_size
        self.mask_token_id: int = shape.mask_token_id
        self.eos_token_ids = end_ids(shape, tokenizer)
        self.preset: Preset | None = None
        self.max_model_len = min(config.max_model_len, shape.max_position_embeddings)
        self.limits = Limits(
            max_model_len=self.max_model_len,
            max_cache_tokens=config.max_cache_tokens,
            vocab_size=self.vocab_size,
            max_num_batched_tokens=config.max_num_batched_tokens,
            length_tokens={} if tokenizer is None else tokenizer.length_tokens,
        )
        self._device = model.device
        self._model = model
        with on_device(self._device):
            prepare(model, config)
        self.is_bit_exact = is_bit_exact(model, config)
        self._cache = KeyValueCache(
            shape,
            config.max_cache_tokens,
            DTYPES[config.compute_dtype],
            self._device,
            config.tensor_parallel,
        )
        self._runner = ModelRunner(
            model,
            suppressed=suppressed_ids(shape, tokenizer, parity=config.parity),
            eos_ids=self.eos_token_ids,
            max_logit_rows=config.max_logit_rows,
            histories=HistoryPool(config.max_cache_tokens, self._device),
            graphs=StepGraphs(model, CaptureCuda(), config.max_logit_rows)
            if config.cuda_graphs
            else None,
            is_batch_invariant=config.batch_invariant,
        )
        self._scheduler = Scheduler(
            max_num_batched_tokens=config.max_num_batched_tokens,
            quantum=config.quantum,
            max_shared_tokens=config.max_shared_tokens or 0,
            slots=SlotPool(config.max_cache_tokens),
            halves=bool(config.async_scheduling),
        )
        self._make = Canvases(
            mask_id=self.mask_token_id,
            eos_ids=self.eos_token_ids,
            is_parity=config.parity,
            is_bit_exact=self.is_bit_exact,
            approximation=config.approximation,
        )
        self._launched: deque[Launched] = deque()
        self._canvases: dict[str, Canvas] = {}
        self._finished: dict[str, Completion] = {}

    @classmethod
    def from_pretrained(cls, model: str | Path, config: EngineConfig | None = None) -> Engine:
        """An engine over "embedded", a checkpoint folder, or a Hugging Face Hub id."""
        config = config or EngineConfig()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        folder = check_start(model, config)
        check_processes(config.tensor_parallel)
        network = load_model(
            folder,
            dtype=DTYPES[config.compute_dtype],
            quantized=config.dtype if config.dtype in QUANTIZED else None,
            device=config.device,
            backend=config.attention_backend,
            tensor_parallel=config.tensor_parallel,
        )
        engine = cls(network, Tokenizer.from_folder(folder), config)
        engine.preset = preset_of(model, folder, engine.tokenizer)
        return engine

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished."""
        return len(self._canvases) > 0

    @property
    def pending_token_forwards(self) -> int:
        """Tokens x forward passes still to run for everything waiting or running, at most."""
        return self._scheduler.pending_token_forwards

    def trace(self, on_stage: Callable[[Stage], None]) -> None:
        """Call `on_stage` where a stage of a step begins; it only looks, and never calls back."""
        self._runner.trace = on_stage

    def add(self, request: Request, so_far: Sequence[StepEvent] = ()) -> None:
        """Queue a request, to go on after events of another engine; InvalidRequest if it cannot.

        With `window`, `history` or parity it begins anew.
        """
        if request.id in self._canvases or request.id in self._finished:
            raise InvalidRequest("id", request.id, "not the id of a request that is under way")
        self.limits.check(request)
        self._place(self._make.resume(request, so_far))

    def replan(self, request_id: str, steps: int) -> None:
        """Have a request's timetable end after so many steps in all, or as soon as it can."""
        if (canvas := self._canvases.get(request_id)) is not None:
            is_running = any(canvas in step.batch.canvases for step in self._launched)
            canvas.replan(steps, is_running=is_running)
            self._scheduler.update(canvas)

    def abort(self, request_id: str) -> None:
        """Drop a request: it takes no part in the next step and gives no completion."""
        self._finished.pop(request_id, None)
        canvas = self._canvases.get(request_id)
        if canvas is not None:
            self._retire(canvas)
            self.stats.requests_aborted += 1

    def close(self, request_id: str) -> Completion:
        """End a request now: what it has filled so far, and what that cost."""
        if (canvas := self._canvases.get(request_id)) is not None:
            self._retire(canvas)
            canvas.close()
            self._complete(canvas)
        elif request_id not in self._finished:
            raise InvalidRequest("id", request_id, "the id of a request that is under way")
        return self._finished.pop(request_id)

    def step(self) -> list[StepEvent]:
        """Run one packed forward for as many requests as fit, and commit their next tokens."""
        if not self._launched:
            self._launch()
        if self.config.async_scheduling:  # the next step's work, while the device runs this one
            self._launch()
        if not self._launched:
            return []
        step = self._launched.popleft()
        self._scheduler.mark(step.batch.canvases, is_running=False)
        with on_device(self._device):
            return self._apply(step.batch, self._runner.read(step))

    def check_health(self) -> None:
        """Nothing: an engine of one process is as well as its thread."""

    def shutdown(self) -> None:
        """Nothing: what an engine holds goes with it."""

    def collect(self) -> list[Completion]:
        """Completions since the last call, in the order they finished."""
        finished = list(self._finished.values())
        self._finished.clear()
        return finished

    def generate(self, requests: Iterable[Request]) -> list[Completion]:
        """Run requests to their end; completions in the order of the requests."""
        ids: list[str] = []
        try:
            for request in requests:
                self.add(request)
                ids.append(request.id)
            while any(request_id in self._canvases for request_id in ids):
                self.step()
            return [self._finished[request_id] for request_id in ids]
        finally:
            for request_id in ids:
                self.abort(request_id)

    def log_likelihood(
        self,
        prefix_ids: Sequence[int],
        target_ids: Sequence[int],
        params: LikelihoodParams | None = None,
    ) -> float:
        """Estimate of log p(target | prefix) in nats by the rule of `dream.likelihood`.

        No id is suppressed. InvalidRequest and ContextLengthExceeded say what is wrong.
        """
        if not len(target_ids):
            raise InvalidRequest("target", list(target_ids), "at least one token to score")
        prefix, target = Fixed(prefix_ids), Fixed(target_ids)
        template = Template([prefix, target])
        self.limits.check_template(template)
        estimate = estimate_log_likelihood(
            self._model,
            prefix.token_ids,
            target.token_ids,
            params or LikelihoodParams(),
            max_rows=self.config.max_num_batched_tokens,
            max_logit_rows=self.config.max_logit_rows,
        )
        self.stats.forward_passes += estimate.forward_passes
        self.stats.token_forwards += estimate.forward_passes * template.num_tokens
        return estimate.log_likelihood

    def _launch(self) -> None:
        """Put the next step on the device, if one is due."""
        if not (canvases := self._scheduler.schedule()):
            return
        self._runner.trace("collate")
        with on_device(self._device):
            batch = collate(canvases, self._device, self._cache)
            self._launched.append(self._runner.launch(batch))
            self._scheduler.mark(canvases, is_running=True)

    def _apply(self, batch: Batch, commit: HostCommit) -> list[StepEvent]:
        """Write each canvas's tokens, retire the finished, and say what happened."""
        if not np.isfinite(commit.probs_C).all():
            raise EngineError("the model's probabilities are not finite: check the weights")
        commits = commits_of(batch, commit)
        self.stats.count_step(*batch.work, sum(len(one.positions) for one in commits))
        events: list[StepEvent] = []
        for one in commits:
            canvas = one.canvas
            if self._canvases.get(canvas.request.id) is not canvas:
                continue  # aborted since the step was launched
            event = canvas.commit(
                one.positions, one.token_ids, one.probs, one.num_forced, one.logprobs
            )
            events.append(event)
            if canvas.is_finished:
                self._retire(canvas)
                self._place(canvas)
            else:
                self._scheduler.update(canvas)
        return events

    def _place(self, canvas: Canvas) -> None:
        """Have a canvas run, or the larger one after it, or complete its request."""
        canvas = self._make.follow(canvas) or canvas
        if canvas.is_finished:
            self._complete(canvas)
        else:
            self._canvases[canvas.request.id] = canvas
            self._scheduler.add(canvas)

    def _complete(self, canvas: Canvas) -> None:
        self._finished[canvas.request.id] = canvas.completion()
        self.stats.requests_finished += 1

    def _retire(self, canvas: Canvas) -> None:
        if canvas.slots is not None:
            self._runner.forget(canvas.slots)
        self._scheduler.remove(canvas)
        del self._canvases[canvas.request.id]
