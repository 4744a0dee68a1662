"""Ray's own opinion of a launcher file: the one place that imports its private check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import SpecError

__all__ = ["check_launcher"]


def check_launcher(config: Mapping[str, object]) -> None:
    """Refuse what `ray up` would refuse before it calls a cloud; opens no connection.

    Ray is imported here and not above, so that `doctor` can run where Ray is missing.
    """
    import ray.autoscaler
    from click import ClickException
    from jsonschema import ValidationError, validate  # type: ignore[import-untyped]
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    try:
        # First as it is: Ray fills in its defaults before it looks at the types.
        validate(config, json.loads(schema.read_text(encoding="utf-8")))
        validate_config(prepare_config(dict(config)))
    except ValidationError as error:
        path = ".".join(str(part) for part in error.absolute_path) or "launcher file"
        raise SpecError(path, error.instance, f"Ray's schema says: {error.message}") from error
    except (ClickException, NotImplementedError, RuntimeError, ValueError) as error:
        raise SpecError("launcher file", config.get("cluster_name"), str(error)) from error
