"""In what an evaluation by a preset departs from the published one it is named after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

from dream.params import SamplingParams
from jobs.common.errors import Refused
from jobs.evaluate.config import EvalSpec
from jobs.evaluate.presets import Published, find_preset
from jobs.evaluate.suite import Suite

__all__ = ["departures", "refuse_without_data"]


def refuse_without_data(spec: EvalSpec) -> None:
    """A preset asks for the published problems, or for ours by name."""
    if find_preset(spec.preset) and spec.data is None and spec.draw != "planning":
        raise Refused(
            f"preset={spec.preset!r} needs --data, a file of the published problems (eval/data of "
            "DreamLM/Dream), and --prompt-template, a file of their instruction; --draw planning "
            "asks similar problems of our own, whose scores cannot be set beside published ones"
        )


def departures(spec: EvalSpec, suites: Sequence[Suite]) -> list[str] | None:
    """What keeps the scores from being set beside published ones; None where none are named.

    The model and its precision are the caller's choice and are not looked at.
    """
    preset = find_preset(spec.preset)
    if preset is None:
        return None
    settings = preset.settings() | {"steps": [preset.steps], "alg": [preset.alg]}
    found = [
        f"{name} is {_told(getattr(spec, name))}, not {_told(value)}"
        for name, value in (_defaults() | settings).items()
        if getattr(spec, name) != value
    ]
    for suite in suites:
        found += _of_suite(suite, preset.suites[suite.name])
    return found


def _defaults() -> dict[str, object]:
    """The settings a preset is silent on, as they are by default."""
    params = {field.name for field in fields(SamplingParams)}
    names = (params & set(EvalSpec.model_fields)) - {"seed", "alg", "steps", "early_exit"}
    return {
        name: EvalSpec.model_fields[name].default for name in (*sorted(names), "max_new_tokens")
    }


def _of_suite(suite: Suite, published: Published) -> list[str]:
    """Its problems and its instruction against those of the published evaluation."""
    found = []
    buckets = Counter(question.problem.bucket for question in suite.questions)
    if suite.config["split"] != "file":
        found.append(f"{suite.name}: its problems were drawn here, not read from --data")
    elif buckets != {published.bucket: published.num}:
        asked = ", ".join(f"{num} of {bucket}" for bucket, num in buckets.items())
        found.append(f"{suite.name}: {asked}, not {published.num} of {published.bucket}")
    if suite.config.get("template_sha256") != published.template_sha256:
        found.append(f"{suite.name}: its instruction is not the published one (--prompt-template)")
    return found


def _told(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
