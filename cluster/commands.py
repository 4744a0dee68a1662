"""The shell lines of a launcher file that start Ray: read strictly, refused where unreadable."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import SpecError

__all__ = ["RayStart", "read_ray_start"]

_OPERATORS = ";&|<>(){}#\n"
_JOINERS = ("", ";", "&&")
_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_EXPANSION = re.compile(r"`|\$[({'\"]")
_STARTS = re.compile(r"\bray\b\W+start\b")
_UNREADABLE = {"!", "[[", "alias", "case", "coproc", "do", "done", "elif", "else", "esac", "eval"}
_UNREADABLE |= {"fi", "for", "function", "if", "select", "then", "time", "until", "while"}
_MODES = {("export", f"RAY_AUTH_MODE={mode}"): mode for mode in ("token", "disabled")}


@dataclass(frozen=True, slots=True, kw_only=True)
class RayStart:
    """The one `ray start` of a list of commands: its arguments and the exported auth mode."""

    field: str
    line: str
    auth_mode: str
    arguments: tuple[str, ...]

    def check_flag(self, flag: str, value: str, *, optional: bool = False) -> None:
        """Refuse unless `flag` is given once, as `flag=value`; or not at all where optional."""
        given = [word for word in self.arguments if word.partition("=")[0] == flag]
        if given != [f"{flag}={value}"] and (given or not optional):
            verb = "may" if optional else "must"
            raise SpecError(self.field, self.line, f"it {verb} have {flag}={value} once")


@dataclass(frozen=True, slots=True)
class _Step:
    """One simple command; `needs_previous` if `&&` joins it to the one before."""

    words: tuple[str, ...]
    needs_previous: bool

    @property
    def is_ray_start(self) -> bool:
        program = self.words[0].rpartition("/")[2]
        return (program, *self.words[1:2]) == ("ray", "start")


def read_ray_start(field: str, commands: Sequence[str]) -> RayStart:
    """The one command that starts Ray; each command of a list is a shell of its own."""
    lines = [line for line in commands if _STARTS.search(line)]
    if len(lines) != 1:
        raise SpecError(field, list(commands), "exactly one command with `ray start`")
    line = lines[0]
    steps = _steps(field, line)
    starts = [at for at, step in enumerate(steps) if _STARTS.search(" ".join(step.words))]
    if len(starts) != 1 or not steps[starts[0]].is_ray_start:
        raise SpecError(field, line, "exactly one command with `ray start`, which begins with it")
    return RayStart(
        field=field,
        line=line,
        auth_mode=_auth_mode(field, line, steps[: starts[0] + 1], steps[starts[0] + 1 :]),
        arguments=steps[starts[0]].words[2:],
    )


def _auth_mode(field: str, line: str, before: Sequence[_Step], after: Sequence[_Step]) -> str:
    """What is exported where `ray start`, the last step of `before`, is certain to see it."""
    steps = [*before, *after]
    named = [at for at, step in enumerate(steps) if "RAY_AUTH_MODE" in " ".join(step.words)]
    if len(named) == 1 and named[0] < len(before):
        export, rest = before[named[0]], before[named[0] + 1 :]
        is_certain = not export.needs_previous or all(step.needs_previous for step in rest)
        if export.words in _MODES and is_certain:
            return _MODES[export.words]
    allowed = "it must export RAY_AUTH_MODE=token (or disabled) once, in a command of its own"
    raise SpecError(field, line, f"{allowed} before `ray start`")


def _steps(field: str, line: str) -> list[_Step]:
    """The commands that `;`, `&&` and newlines join."""
    steps: list[_Step] = []
    words: list[str] = []
    needs_previous = False
    for token in [*_tokens(field, line), "\n"]:
        if not token or token.strip(_OPERATORS):
            words.append(token)
            continue
        joiner = token.replace("\n", "")
        if joiner not in _JOINERS or (words and words[0] in _UNREADABLE):
            allowed = "plain commands joined by `;`, `&&` or newlines, without comments"
            raise SpecError(field, line, allowed)
        if words:
            steps.append(_Step(tuple(words), needs_previous))
            words, needs_previous = [], False
        needs_previous = needs_previous or joiner == "&&"
    return steps


def _tokens(field: str, line: str) -> list[str]:
    """Words without their quotes, and operators; what is quoted never reads as an operator."""
    if _EXPANSION.search(line):
        raise SpecError(field, line, "no `$(...)`, `${...}`, `$'...'` or backquotes")
    lexer = shlex.shlex(_QUOTED.sub(_masked, line), posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    try:
        return list(lexer)
    except ValueError as error:
        raise SpecError(field, line, f"a shell command: {error}") from error


def _masked(quoted: re.Match[str]) -> str:
    if quoted[0] == "\\\n":
        return ""
    return re.sub(f"[{re.escape(_OPERATORS)}]", "_", quoted[0])
