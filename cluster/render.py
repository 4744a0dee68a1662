"""A complete launcher file: the part all clouds share, plus the provider's own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import yaml
from pydantic import Field, ValidationError

from cluster.errors import SpecError
from cluster.providers import PROVIDERS
from cluster.providers.base import Part, Yaml
from cluster.settings import EngineSettings
from cluster.spec import parse, read_shape, refusal

__all__ = ["PROXY", "Settings", "render", "render_command", "up_command"]


class Settings(EngineSettings):
    """Options that every provider shares."""

    cluster_name: str = "dream"
    model: str = "Dream-org/Dream-v0-Instruct-7B"
    min_replicas: int = 1
    max_replicas: int = 4
    idle_timeout_minutes: float = Field(default=15, ge=0)
    python: str = "python3"


def render(provider: str, options: Mapping[str, str]) -> str:
    """Launcher file for `provider`, checked by Ray and us, and with room for every replica."""
    settings, part = _read_options(provider, options)
    body = yaml.safe_dump(_launcher(settings, part), sort_keys=False, width=1000)
    text = _header(provider, options, part) + body
    parse(text).plan(read_shape(settings.model))
    return text


def up_command(provider: str, options: Mapping[str, str], file: str) -> str:
    """What to type to bring up the cluster of a `file` rendered from these options."""
    return _up(_read_options(provider, options)[1], file)


def render_command(provider: str, options: Mapping[str, str], *flags: str) -> str:
    """What to type to render a file from these options."""
    words = ["python", "-m", "cluster", "render", "--provider", provider, *flags]
    return shlex.join([*words, *(f"{key}={value}" for key, value in options.items())])


def _read_options(provider: str, options: Mapping[str, str]) -> tuple[Settings, Part]:
    if provider not in PROVIDERS:
        raise SpecError("provider", provider, "one of " + ", ".join(PROVIDERS))
    for key, value in options.items():
        if not value.isprintable():
            raise SpecError(key, value, "one line of printable text")
    shared = {key: value for key, value in options.items() if key in Settings.model_fields}
    own = {key: value for key, value in options.items() if key not in Settings.model_fields}
    try:
        return Settings.model_validate(shared), PROVIDERS[provider](own)
    except ValidationError as error:
        raise refusal(error) from error


def _up(part: Part, file: str) -> str:
    environment = [f"{key}={value}" for key, value in part.up_environment.items()]
    return " ".join([*environment, "ray up", shlex.quote(file)])


def _header(provider: str, options: Mapping[str, str], part: Part) -> str:
    lines = [
        f"Launcher file for provider {provider}, rendered; to change it, render it again:",
        "  " + render_command(provider, options),
        "Bring the cluster up from the repository's root, wheel and requirements.lock in dist/:",
        "  " + _up(part, "cluster.yaml"),
        *part.notes,
    ]
    return "".join(f"# {line}\n" for line in lines)


def _launcher(settings: Settings, part: Part) -> dict[str, Yaml]:
    return {
        "cluster_name": settings.cluster_name,
        "metadata": {"dream": _dream_block(settings, part)},
        **part.launcher,
        "idle_timeout_minutes": settings.idle_timeout_minutes,
        "file_mounts": {
            "~/.ray": "~/.ray",
            "~/dream-cluster": "dist",
        },
        "setup_commands": [*part.system_setup, *_setup(settings)],
        "head_setup_commands": [*part.head_setup, "python -m cluster doctor"],
        "worker_setup_commands": ["python -m cluster doctor --min-gpus 1"],
        "head_start_ray_commands": ["ray stop", _start(_head_arguments(part))],
        "worker_start_ray_commands": ["ray stop", _start("--address=$RAY_HEAD_IP:6379")],
    }


def _dream_block(settings: Settings, part: Part) -> dict[str, Yaml]:
    block: dict[str, Yaml] = {
        "model": settings.model,
        "replicas": {"min": settings.min_replicas, "max": settings.max_replicas},
        **settings.model_dump(include=set(EngineSettings.model_fields)),
        "gpu_memory_gib": dict(part.gpu_memory_gib),
    }
    if part.local_node is not None:
        block["local_node"] = dict(part.local_node)
    return block


def _setup(settings: Settings) -> list[str]:
    """A virtual environment with the wheel in it, first on the PATH of every later shell."""
    wheel = "~/dream-cluster/dream_cluster-*.whl"
    exports = 'export PATH="$HOME/dream-env/bin:$PATH" RAY_AUTH_MODE=token'
    pip = "~/dream-env/bin/pip install"
    return [
        f"test -x ~/dream-env/bin/pip || {settings.python} -m venv ~/dream-env",
        f"grep -q dream-env ~/.bashrc || echo '{exports}' >> ~/.bashrc",
        f"{pip} -c ~/dream-cluster/requirements.lock {wheel}",
        f"{pip} --force-reinstall --no-deps {wheel}",
    ]


def _head_arguments(part: Part) -> str:
    words = ["--head", "--port=6379", "--dashboard-host=127.0.0.1", part.head_flags]
    words.append("--autoscaling-config=~/ray_bootstrap_config.yaml")
    return " ".join(word for word in words if word)


PROXY = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.request_ids:proxy_middlewares"
"""Has Serve's proxies give each request an id, and send it again where an ingress dies."""


def _start(arguments: str) -> str:
    """The auth mode is explicit on every node: Ray's default differs between its commands."""
    environment = f"export RAY_AUTH_MODE=token {PROXY}; ulimit -n 65536"
    return f"{environment}; ray start {arguments} --disable-usage-stats"
