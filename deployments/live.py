"""Settings that Serve's `user_config` changes while the app runs: limits and presets."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.fields import PresetName
from dream.errors import DreamError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["LiveConfig", "LiveConfigError", "applied"]

LOG = logging.getLogger("dream.live")

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Config = TypeVar("Config", bound="DataclassInstance")


class LiveConfigError(DreamError):
    """A `user_config` that is not valid."""


class LiveConfig(BaseModel):
    """What `user_config` may say: each is an argument of the app, which it replaces.

    What is left out is as the app was started with. Both deployments take all of it and use what
    concerns them; a limit that both check, such as max_token_forwards, belongs to both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_token_forwards: Count | None = None
    max_body_bytes: Count | None = None
    body_timeout_s: Seconds | None = None
    timeout_s: Seconds | None = None
    max_step_s: Seconds | None = None
    preset: PresetName | None = None

    @classmethod
    def read(cls, user_config: object) -> LiveConfig:
        """From what Serve hands to `reconfigure`; LiveConfigError names the key that is wrong."""
        try:
            return cls.model_validate({} if user_config is None else user_config)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"])) or "user_config"
            if first["type"] == "extra_forbidden":
                allowed = ", ".join(sorted(cls.model_fields))
                raise LiveConfigError(f"user_config: {name} is none of {allowed}") from None
            raise LiveConfigError(
                f"user_config: {name}={first['input']!r} is not valid: {first['msg']}"
            ) from None


def applied(start: Config, now: Config, user_config: object) -> Config:
    """`start` with the changes of `user_config`; `now` where that is not valid.

    An error would have Serve replace a running replica by one that fails too, for ever: so a wrong
    `user_config` is logged as an error, and everything stays as it is.
    """
    try:
        live = LiveConfig.read(user_config)
    except LiveConfigError as error:
        LOG.error("%s; nothing is changed", error)
        return now
    names = {field.name for field in fields(start)}
    return replace(start, **live.model_dump(include=names, exclude_none=True))
