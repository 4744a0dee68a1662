"""How the doctor's facts are gathered: the environment, the installation, GPUs and sockets."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cluster.doctor import DISTRIBUTION, PACKAGES, Facts, Gpu, Installed

__all__ = ["gather", "listening"]

_DASHBOARD_PORT = 8265
_LISTEN = "0A"
_IMPORT_TIMEOUT_S = 60


def gather(environ: Mapping[str, str]) -> Facts:
    """The facts of this machine and of the Python that asks; opens no connection."""
    python, requirements = _installation()
    owners = metadata.packages_distributions()
    path_python = shutil.which("python", path=environ.get("PATH"))
    return Facts(
        python=python,
        requirements=requirements,
        # An editable install is listed once for its finder and once for its folder.
        owners={name: tuple(sorted(set(owners.get(name, ())))) for name in PACKAGES},
        gpus=_gpus(),
        auth_mode=environ.get("RAY_AUTH_MODE"),
        tokens=_tokens(environ),
        path_python=path_python,
        path_ray=None if path_python is None else _ray_version(path_python),
        dashboard_addresses=_listening_here(_DASHBOARD_PORT),
    )


def listening(table: str, port: int) -> tuple[str, ...]:
    """Addresses that listen on `port`, from the text of /proc/net/tcp or tcp6."""
    found: list[str] = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, _, hex_port = fields[1].partition(":")
        if fields[3] == _LISTEN and int(hex_port, 16) == port:
            found.append(_address(address))
    return tuple(found)


def _address(words: str) -> str:
    """The kernel prints each 32-bit word in host order, little-endian on our machines."""
    packed = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _listening_here(port: int) -> tuple[str, ...]:
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    return tuple(
        address
        for table in tables
        if table.exists()
        for address in listening(table.read_text(encoding="ascii"), port)
    )


def _installation() -> tuple[Installed, tuple[Installed, ...]]:
    """Python and each requirement, against what the distribution itself asks for."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    try:
        ours = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return Installed(name="python", allowed="", version=version, is_allowed=True), ()
    allowed = ours.metadata["Requires-Python"]
    python = Installed(
        name="python",
        allowed=allowed,
        version=version,
        is_allowed=SpecifierSet(allowed).contains(version),
    )
    parsed = [Requirement(text) for text in ours.requires or []]
    wanted = [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return python, tuple(_requirement(requirement) for requirement in wanted)


def _requirement(requirement: Requirement) -> Installed:
    try:
        version: str | None = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        version = None
    return Installed(
        name=requirement.name,
        allowed=str(requirement.specifier),
        version=version,
        is_allowed=version is not None
        and requirement.specifier.contains(version, prereleases=True),
    )


def _gpus() -> tuple[Gpu, ...]:
    """What CUDA shows to torch; none where there is no torch."""
    try:
        import torch
    except ImportError:
        return ()
    properties = [
        torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())
    ]
    return tuple(Gpu(name=item.name, memory_bytes=item.total_memory) for item in properties)


def _tokens(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where Ray would find a token, in the order in which it looks."""
    found = ["RAY_AUTH_TOKEN"] if environ.get("RAY_AUTH_TOKEN") else []
    named = environ.get("RAY_AUTH_TOKEN_PATH")
    home = Path(environ.get("HOME", os.path.expanduser("~"))) / ".ray" / "auth_token"
    paths = [home] if named is None else [Path(named), home]
    return tuple(found + [str(path) for path in paths if path.is_file()])


def _ray_version(python: str) -> str | None:
    """The Ray that another Python imports, asked from a folder with nothing to shadow it."""
    command = [python, "-c", "import ray; print(ray.__version__)"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_IMPORT_TIMEOUT_S, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
