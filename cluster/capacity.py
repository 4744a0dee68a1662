"""How many requests a second replicas serve, from the time of a step: the numbers of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Answers", "StepTime", "min_steps_load", "replicas_for", "requests_per_s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step by its packed tokens: max(floor_s, base_s + token_s * tokens).

    floor_s: what a step takes however small it is, such as reading all weights.
    """

    floor_s: float
    base_s: float
    token_s: float

    def seconds(self, tokens: float) -> float:
        """Of a step of so many tokens."""
        return max(self.floor_s, self.base_s + self.token_s * tokens)

    def token_forwards_per_s(self, tokens: float) -> float:
        """What a replica computes when every step has so many tokens."""
        return tokens / self.seconds(tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What is asked for: canvases of so many tokens, prompt and hole, filled in so many steps."""

    canvas_tokens: int
    steps: int

    @property
    def token_forwards(self) -> int:
        """What one costs."""
        return self.canvas_tokens * self.steps

    def seconds(self, step: StepTime, batch: int) -> float:
        """From its first step to its last, among so many canvases of its size in every step."""
        return self.steps * step.seconds(batch * self.canvas_tokens)

    def batch_within(self, step: StepTime, deadline_s: float) -> int:
        """The most canvases in a step with which each is done by its deadline; 0 if not one is."""
        allowed_s = deadline_s / self.steps
        if step.seconds(self.canvas_tokens) > allowed_s:
            return 0
        return int((allowed_s - step.base_s) / (step.token_s * self.canvas_tokens) + 1e-9)

    def steps_within(self, step: StepTime, deadline_s: float, batch: int) -> int:
        """The most steps that fit into a deadline among so many canvases."""
        return int(deadline_s / step.seconds(batch * self.canvas_tokens) + 1e-9)


def requests_per_s(answers: Answers, step: StepTime, batch: int, replicas: int = 1) -> float:
    """At saturation, with steps of so many canvases."""
    tokens = batch * answers.canvas_tokens
    return replicas * step.token_forwards_per_s(tokens) / answers.token_forwards


def replicas_for(
    rate: float, answers: Answers, step: StepTime, batch: int, utilisation: float = 0.7
) -> int:
    """Replicas for so many requests a second, busy for that share of the time."""
    return math.ceil(rate / (utilisation * requests_per_s(answers, step, batch)) - 1e-9)


def min_steps_load(
    rate: float, answers: Answers, min_steps: int, step: StepTime, batch: int, replicas: int
) -> float:
    """Share of the capacity that is needed if every request falls back to its fewest steps.

    Deadlines can be kept through an overload only where this is below 1.
    """
    fewest = Answers(canvas_tokens=answers.canvas_tokens, steps=min_steps)
    return rate / requests_per_s(fewest, step, batch, replicas)
