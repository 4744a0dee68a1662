"""pydantic fields made from declared options: type, default, bounds and help come from dream."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from deployments.allowed import WORDS
from dream.errors import InvalidRequest
from dream.options import Option, options_of
from dream.presets import NO_PRESET, find_preset, read_presets

__all__ = ["PresetName", "bounds", "checked", "refused", "with_options"]

Model = TypeVar("Model", bound=BaseModel)


def refused(message: str, *, param: str | None = None) -> PydanticCustomError:
    """What a validator raises: what is allowed, of its own field or of `param` inside it."""
    context = {"message": message} | ({} if param is None else {"param": param})
    return PydanticCustomError("refused", "{message}", context)


def _known_preset(name: str) -> str:
    try:
        find_preset(name)
    except InvalidRequest as invalid:
        raise _out_of_bounds(invalid) from None
    return name


def _name_presets(schema: dict[str, Any]) -> None:
    schema["enum"] = [NO_PRESET, *read_presets()]


PresetName = Annotated[str, AfterValidator(_known_preset), Field(json_schema_extra=_name_presets)]
"""The name of a preset that there is, or none."""


def with_options(
    owner: type,
    *,
    leave_out: Set[str] = frozenset(),
    nullable: Set[str] = frozenset(),
    is_required: bool = False,
) -> Callable[[type[Model]], type[Model]]:
    """Class decorator: one field more for each option of `owner`.

    nullable: options that may be None here although `owner` does not allow it; None is then the
    default. is_required: the fields have no defaults.
    """

    def add(model: type[Model]) -> type[Model]:
        fields: dict[str, Any] = {
            name: _field(option, is_nullable=name in nullable, is_required=is_required)
            for name, option in options_of(owner).items()
            if name not in leave_out
        }
        return create_model(
            model.__name__,
            __base__=model,
            __module__=model.__module__,
            __doc__=model.__doc__,
            **fields,
        )

    return add


def bounds(option: Option) -> dict[str, Any]:
    """The bounds as pydantic's `Field` takes them; where 0 stands beside a range, with the gap."""
    if option.pattern is not None:
        pattern, words = option.pattern
        return {"json_schema_extra": {"pattern": f"^({pattern})$", WORDS: words}}
    if option.kind is str:
        return {} if option.choices else {"min_length": 1}
    if option.low is None:
        return {}
    if option.is_open:
        return {"gt": option.low, "lt": option.high}
    if option.or_zero:
        gap = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": option.low}
        return {"ge": 0, "le": option.high, "json_schema_extra": {"not": gap}}
    return {"ge": option.low, "le": option.high}


def checked(option: Option) -> AfterValidator:
    """Refuses what `option` refuses, for bounds that pydantic has no words for."""
    return AfterValidator(partial(_check, option))


def _field(option: Option, *, is_nullable: bool, is_required: bool) -> tuple[Any, FieldInfo]:
    annotation = option.annotation | None if is_nullable else option.annotation
    if option.or_zero or option.pattern is not None:
        annotation = Annotated[annotation, checked(option)]
    default = ... if is_required else None if is_nullable else option.default
    return annotation, Field(default, description=option.help, **bounds(option))


def _check(option: Option, value: object) -> object:
    try:
        option.check(value)
    except InvalidRequest as invalid:
        raise _out_of_bounds(invalid) from None
    return value


def _out_of_bounds(invalid: InvalidRequest) -> PydanticCustomError:
    return PydanticCustomError("option", "Input should be {allowed}", {"allowed": invalid.allowed})
