"""What is wrong with this machine, and what to do about it: facts in, findings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["DISTRIBUTION", "PACKAGES", "Facts", "Finding", "Gpu", "Installed", "examine"]

DISTRIBUTION = "dream-cluster"
PACKAGES = ("dream", "cluster", "deployments", "jobs")

_NEW_TOKEN = "run `ray get-auth-token --generate` once and give every node the same ~/.ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One requirement of the distribution and what is there; `version` is None if nothing is."""

    name: str
    allowed: str
    version: str | None
    is_allowed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as CUDA reports it."""

    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything the doctor looks at, gathered beforehand.

    owners: the distributions that provide each of our import packages.
    tokens: where a Ray token was found: a variable's name or a file's path.
    path_python, path_ray: `python` on the PATH, and the Ray version that it imports.
    dashboard_addresses: where something listens on the dashboard's port.
    """

    python: Installed
    requirements: tuple[Installed, ...]
    owners: Mapping[str, tuple[str, ...]]
    gpus: tuple[Gpu, ...]
    auth_mode: str | None
    tokens: tuple[str, ...]
    path_python: str | None
    path_ray: str | None
    dashboard_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at; a remedy is there exactly if it is a problem."""

    name: str
    found: str
    remedy: str | None = None


def examine(facts: Facts, *, min_gpus: int = 0) -> list[Finding]:
    """Every finding, good and bad, in the order a person would mend them."""
    return [
        _installed(facts.python, "make the environment with another Python"),
        *(
            _installed(item, f"pip install '{item.name}{item.allowed}'")
            for item in facts.requirements
        ),
        *(_owner(name, facts.owners.get(name, ())) for name in PACKAGES),
        _gpus(facts.gpus, min_gpus),
        _auth(facts.auth_mode, facts.tokens),
        _path_python(facts.path_python, facts.path_ray, facts.requirements),
        _dashboard(facts.dashboard_addresses),
    ]


def _installed(item: Installed, remedy: str) -> Finding:
    found = f"{item.version or 'not installed'} (allowed: {item.allowed or 'any'})"
    return Finding(name=item.name, found=found, remedy=None if item.is_allowed else remedy)


def _owner(name: str, owners: Sequence[str]) -> Finding:
    found = " and ".join(owners) or "nobody"
    if tuple(owners) == (DISTRIBUTION,):
        return Finding(name=f"package {name}", found=f"from {found}")
    others = [owner for owner in owners if owner != DISTRIBUTION]
    remedy = f"pip install {DISTRIBUTION}"
    if others:
        remedy = f"pip uninstall {' '.join(others)}, then pip install {DISTRIBUTION} again"
    return Finding(name=f"package {name}", found=f"from {found}", remedy=remedy)


def _gpus(gpus: Sequence[Gpu], min_gpus: int) -> Finding:
    found = ", ".join(f"{gpu.name} {gpu.memory_bytes / 2**30:.1f} GiB" for gpu in gpus) or "none"
    if len(gpus) >= min_gpus:
        return Finding(name="GPUs", found=found)
    remedy = f"{min_gpus} needed: check nvidia-smi, CUDA_VISIBLE_DEVICES and that torch has CUDA"
    return Finding(name="GPUs", found=found, remedy=remedy)


def _auth(mode: str | None, tokens: Sequence[str]) -> Finding:
    """Ray's default differs between its commands, so the mode must be set, and fit the token."""
    found = f"RAY_AUTH_MODE {mode or 'not set'}, token: {', '.join(tokens) or 'none'}"
    remedy = None
    if mode not in ("token", "disabled"):
        remedy = "export RAY_AUTH_MODE=token (or disabled) in every shell that starts or calls Ray"
        if tokens:
            remedy += (
                "; a stray token makes `ray start --head` demand it while workers do not send it"
            )
    elif mode == "token" and not tokens:
        remedy = _NEW_TOKEN
    elif mode == "disabled" and tokens:
        remedy = "a stray token: remove it, or export RAY_AUTH_MODE=token"
    return Finding(name="Ray auth", found=found, remedy=remedy)


def _path_python(python: str | None, ray: str | None, here: Sequence[Installed]) -> Finding:
    """A submitted job runs `python` as the head's PATH finds it."""
    ours = next((item.version for item in here if item.name == "ray"), None)
    found = f"{python or 'none'}, with ray {ray or 'not importable'}"
    if python is not None and ray is not None and ray == ours:
        return Finding(name="python on PATH", found=found)
    remedy = f"put the environment that has ray {ours or ''} first on the PATH".replace("  ", " ")
    return Finding(name="python on PATH", found=found, remedy=remedy)


def _dashboard(addresses: Sequence[str]) -> Finding:
    """The dashboard takes jobs, so whoever reaches it runs code here."""
    open_to = [address for address in addresses if address not in ("127.0.0.1", "::1")]
    found = ", ".join(addresses) or "not running"
    remedy = "start the head with --dashboard-host=127.0.0.1 and reach it by `ray dashboard`"
    return Finding(name="dashboard", found=found, remedy=remedy if open_to else None)
