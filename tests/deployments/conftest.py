"""Imports Ray Serve once, past the deprecation that its own import raises."""

from __future__ import annotations

import warnings

from pydantic.warnings import PydanticDeprecatedSince20

with warnings.catch_warnings():
    # Ray 2.60 passes its own keywords to pydantic's Field (ray/serve/_private/config.py).
    warnings.simplefilter("ignore", PydanticDeprecatedSince20)
    import ray.serve  # noqa: F401
