"""The model `dream` of lm-evaluation-harness: its requests become requests of the engine."""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from dream import Engine, Fixed, Hole, Request, Template
from dream.chat import DEFAULT_SYSTEM, ROLES
from dream.errors import CheckpointError, DreamError, InvalidRequest
from jobs.common.seeds import derive_seed
from jobs.harness.args import GenerationArgs, ModelArgs, checked

try:
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.utils import simple_parse_args_string
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "lm_eval":
        raise
    wanted = "jobs.harness needs lm_eval: pip install 'dream-cluster[eval]'"
    raise ModuleNotFoundError(wanted, name="lm_eval") from error

__all__ = ["DreamLM", "NotServed", "main"]

START, END = "<|im_start|>", "<|im_end|>"


class NotServed(DreamError, NotImplementedError):
    """A kind of request that Dream's evaluation has no rule for."""


class Pair(NamedTuple):
    """What is given and what is scored; the target ends with an EOS."""

    prefix: tuple[int, ...]
    target: tuple[int, ...]


@register_model("dream")
class DreamLM(LM):
    """The harness's interface over one engine: one process, one device.

    A context that begins with `<|im_start|>` is a chat rendered by `apply_chat_template`; any
    other text is plain. All noise is keyed by the seed and the prompt, never by the order of
    requests; the n-th repeat of a prompt has noise of its own.
    """

    def __init__(self, engine: Engine, args: ModelArgs) -> None:
        super().__init__()
        if engine.tokenizer is None:
            raise CheckpointError(f"{args.pretrained}: has no tokenizer files, and tasks hold text")
        self._engine = engine
        self._args = args
        self._tokenizer = engine.tokenizer
        self._eos = min(engine.eos_token_ids)
        bos = engine.tokenizer.bos_token_id
        self._bos = [] if bos is None else [bos]
        if args.add_bos_token and bos is None:
            raise InvalidRequest("add_bos_token", True, "False, as this tokenizer has no bos token")

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, object] | None = None
    ) -> DreamLM:
        """A model from `pretrained=embedded,steps=16,...`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, object], additional_config: Mapping[str, object] | None = None
    ) -> DreamLM:
        """A model from `model_args`, which beat the harness's own flags (`--device`)."""
        flags = {k: v for k, v in (additional_config or {}).items() if v is not None}
        for name in ("batch_size", "max_batch_size"):
            if str(flags.pop(name, 1)) != "1":
                message = f"{name} is not used: the engine packs by max_num_batched_tokens"
                warnings.warn(message, UserWarning, stacklevel=2)
        args = checked(ModelArgs, {**flags, **arg_dict})
        return cls(args.load(), args)

    @property
    def tokenizer_name(self) -> str:
        """Key of the harness's cache of requests."""
        return self._args.pretrained.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The one template by an example; a named one is refused."""
        if isinstance(chat_template, str):
            allowed = "no name: a Dream checkpoint has one chat template"
            raise InvalidRequest("apply_chat_template", chat_template, allowed)
        return self.apply_chat_template([{"role": "user", "content": "..."}])

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Chat as text in Qwen2.5's template; without the prompt its last turn stays open."""
        turns = [(message["role"], message["content"]) for message in chat_history]
        for role, content in turns:
            if role not in ROLES:
                raise InvalidRequest("role", role, "one of " + ", ".join(ROLES))
            if START in content or END in content:
                raise InvalidRequest("content", content, f"text without {START} and {END}")
        if not turns or turns[0][0] != "system":
            turns.insert(0, ("system", DEFAULT_SYSTEM))
        text = "".join(f"{START}{role}\n{content}{END}\n" for role, content in turns)
        return f"{text}{START}assistant\n" if add_generation_prompt else text[: -len(END) - 1]

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers cut before the first `until`; all requests are denoised together."""
        calls = [(str(i.args[0]), self._generation(i.args[1])) for i in requests]
        repeats: Counter[tuple[str, str]] = Counter()
        wanted: list[Request] = []
        for number, (context, args) in enumerate(calls):
            key = (context, repr(args))
            params = args.of_request()
            prompt = self._prompt(context, args.max_gen_toks, params.grow_to or 0)
            params = replace(params, seed=_prompt_seed(params.seed or 0, prompt, repeats[key]))
            template = Template([Fixed(prompt), Hole(args.max_gen_toks)])
            wanted.append(Request(id=str(number), template=template, params=params))
            repeats[key] += 1
        done = self._engine.generate(wanted)
        return [
            self._answer(context, completion.spans[0].token_ids, args.until)
            for completion, (context, args) in zip(done, calls, strict=True)
        ]

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The estimate, and whether greedy denoising fills a hole of this size with the target."""
        pairs = [self._pair(*instance.args) for instance in requests]
        is_greedy = self._greedy(pairs) if self._args.greedy else dict.fromkeys(pairs, False)
        bar = track(pairs, "likelihood", console=Console(stderr=True), disable=disable_tqdm)
        results: list[tuple[float, bool]] = []
        for instance, pair in zip(requests, bar, strict=True):
            params = self._args.likelihood(_prompt_seed(self._args.seed, pair.prefix))
            result = (self._engine.log_likelihood(*pair, params), is_greedy[pair])
            self.cache_hook.add_partial("loglikelihood", instance.args, result)
            results.append(result)
        return results

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Refused: NotServed."""
        raise NotServed(
            "loglikelihood_rolling: Dream's estimate scores a target after a prefix; its "
            "evaluation has no rule for the likelihood (perplexity) of a whole text"
        )

    def _generation(self, kwargs: Mapping[str, object]) -> GenerationArgs:
        given = dict(kwargs)
        if "max_new_tokens" in given:
            size = given.pop("max_new_tokens")
            if given.setdefault("max_gen_toks", size) != size:
                allowed = f"the same as max_gen_toks={given['max_gen_toks']!r}: give one of them"
                raise InvalidRequest("max_new_tokens", size, allowed)
        return checked(GenerationArgs, self._args.sampling_values() | given)

    def _prompt(self, context: str, max_gen_toks: int, grow_to: int) -> list[int]:
        sizes = {"max_gen_toks": max_gen_toks, "grow_to": grow_to}
        for name, num_new in sizes.items():
            if num_new >= self._engine.max_model_len:
                allowed = f"below {self._engine.max_model_len}, the context with its prompt"
                raise InvalidRequest(name, num_new, allowed)
        room = self._engine.max_model_len - max(sizes.values())
        return self._cut(self._encode(context) or self._bos, room)

    def _pair(self, context: str, continuation: str) -> Pair:
        """Spaces between the two belong to the target, as in the harness and in Dream's code."""
        given = context.rstrip()
        prefix = self._encode(given)
        target = self._encode(context + continuation)[len(prefix) :]
        if not target:
            raise InvalidRequest("continuation", continuation, "text with a token to score")
        room = max(0, self._engine.max_model_len - len(target) - 1)
        return Pair(tuple(self._cut(prefix or self._bos, room)), (*target, self._eos))

    def _cut(self, ids: list[int], room: int) -> list[int]:
        if len(ids) <= room:
            return ids
        message = f"a context is cut on the left to fit in {self._engine.max_model_len} tokens"
        warnings.warn(message, UserWarning, stacklevel=2)
        return ids[len(ids) - room :]

    def _encode(self, text: str) -> list[int]:
        ids = self._bos[:] if self._args.add_bos_token else []
        if not text.startswith(START):
            return ids + self._tokenizer.encode(text)
        for piece in re.split(f"({re.escape(START)}|{re.escape(END)})", text):
            is_mark = piece in (START, END)
            ids += [self._tokenizer.token_id(piece)] if is_mark else self._tokenizer.encode(piece)
        return ids

    def _answer(self, context: str, token_ids: Sequence[int], until: Sequence[str]) -> str:
        """Text up to the first stop; turn marks are ids, which decoding would leave out."""
        marks = {START, END} if context.startswith(START) else {START, END} & {*until}
        ends = {self._tokenizer.token_id(mark) for mark in marks}
        length = next((n for n, token in enumerate(token_ids) if token in ends), len(token_ids))
        text = self._tokenizer.decode(token_ids[:length])
        return text[: min((text.find(s) for s in until if s and s in text), default=len(text))]

    def _greedy(self, pairs: Sequence[Pair]) -> dict[Pair, bool]:
        """Greedy denoising between prefix and EOS, once for each prefix and number of tokens."""
        shapes = {(pair.prefix, len(pair.target) - 1) for pair in pairs}
        names = {shape: str(number) for number, shape in enumerate(sorted(shapes))}
        # Greedy, and of this size.
        params = self._args.sampling(temperature=0.0, egi_temperature=None, grow_to=None)
        wanted = [
            Request(
                id=name,
                template=Template([Fixed(prefix), Hole(size), Fixed([self._eos])]),
                params=params,
            )
            for (prefix, size), name in names.items()
        ]
        filled = {done.id: tuple(done.token_ids) for done in self._engine.generate(wanted)}
        return {
            pair: filled[names[pair.prefix, len(pair.target) - 1]] == pair.prefix + pair.target
            for pair in pairs
        }


def _prompt_seed(seed: int, token_ids: Sequence[int], repeat: int = 0) -> int:
    """The seed of one prompt: what is asked after it shares its noise."""
    return derive_seed(seed, np.array([repeat, *token_ids], "<i8").tobytes())


def main() -> None:
    """The harness's command line with `--model dream`; our errors in their own words."""
    try:
        cli_evaluate()
    except DreamError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
