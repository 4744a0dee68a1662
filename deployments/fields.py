"""pydantic fields made from declared options: type, default, bounds and help come from dream."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from dream.errors import InvalidRequest
from dream.options import Option, options_of
from dream.presets import find_preset

__all__ = ["PresetName", "with_options"]

Model = TypeVar("Model", bound=BaseModel)


def _known_preset(name: str) -> str:
    try:
        find_preset(name)
    except InvalidRequest as invalid:
        raise _refusal(invalid) from None
    return name


PresetName = Annotated[str, AfterValidator(_known_preset)]
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


def _field(option: Option, *, is_nullable: bool, is_required: bool) -> tuple[Any, FieldInfo]:
    annotation = option.annotation | None if is_nullable else option.annotation
    if option.or_zero or option.pattern is not None:
        annotation = Annotated[annotation, AfterValidator(partial(_checked, option))]
    default = ... if is_required else None if is_nullable else option.default
    return annotation, Field(default, description=option.help, **_bounds(option))


def _bounds(option: Option) -> dict[str, Any]:
    """The bounds as pydantic's `Field` takes them; where 0 stands beside a range, with the gap."""
    if option.pattern is not None:
        return {"json_schema_extra": {"pattern": f"^({option.pattern[0]})$"}}
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


def _checked(option: Option, value: object) -> object:
    try:
        option.check(value)
    except InvalidRequest as invalid:
        raise _refusal(invalid) from None
    return value


def _refusal(invalid: InvalidRequest) -> PydanticCustomError:
    allowed = {"allowed": invalid.allowed}
    return PydanticCustomError("option", "Input should be {allowed}", allowed)
