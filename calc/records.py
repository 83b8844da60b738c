"""Immutable records: dataclasses that cost nothing to define.

``dataclasses`` writes and compiles six methods for every class; for the classes that each start of the command line
needs, that is a fifth of its time. The records here are dataclasses (``fields``, ``replace``, ``asdict`` and pydantic
work on them), but share the methods of one base class.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

T = TypeVar("T")
R = TypeVar("R", bound="Record")


def _made(cls: type[T], by_name: bool) -> type[T]:
    # not ``frozen=True``, which compiles two more methods: Record's own refuse assignment
    return dataclass(init=False, repr=False, eq=False, match_args=False, kw_only=by_name)(cls)


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a subclass of ``Record`` a dataclass without compiling methods for it."""
    return _made(cls, by_name=False)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def named_record(cls: type[T]) -> type[T]:
    """Make a subclass of ``Record`` a dataclass whose fields are given by name."""
    return _made(cls, by_name=True)


class _Plan(NamedTuple):
    """How a record is made."""

    positional: tuple[str, ...]
    template: dict[str, Any]
    """Every field in order, with its default; MISSING where it has none, or a factory makes it."""
    factories: tuple[tuple[str, Any], ...]
    """Fields whose default is MISSING in the template, each with its factory or MISSING."""


_PLANS: dict[type, _Plan] = {}


def _plan(cls: type[Any]) -> _Plan:
    """Return how a record of this class is made; found once."""
    declared = fields(cls)
    _PLANS[cls] = plan = _Plan(
        tuple(field.name for field in declared if not field.kw_only),
        {field.name: field.default for field in declared},
        tuple((field.name, field.default_factory) for field in declared if field.default is MISSING),
    )
    return plan


@record
class Record:
    """Base of all records of this package: immutable, compared and hashed by value."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # searches make millions of records: what is usual is left to dict.update
        plan = _PLANS.get(type(self)) or _plan(type(self))
        values = self.__dict__
        values.update(plan.template)
        if args:
            self._check_positional(args, kwargs, plan.positional)
            values.update(zip(plan.positional, args, strict=False))
        values.update(kwargs)
        if len(values) != len(plan.template):
            unknown = ", ".join(name for name in kwargs if name not in plan.template)
            raise TypeError(f"{type(self).__name__} has no field {unknown}")
        for name, factory in plan.factories:
            if values[name] is MISSING:
                if factory is MISSING:
                    raise TypeError(f"{type(self).__name__} needs {name}")
                values[name] = factory()
        self.__post_init__()

    def _check_positional(self, args: tuple[Any, ...], kwargs: dict[str, Any], positional: tuple[str, ...]) -> None:
        if len(args) > len(positional):
            raise TypeError(f"{type(self).__name__} takes {len(positional)} positional arguments, not {len(args)}")
        if twice := kwargs.keys() & positional[: len(args)]:
            raise TypeError(f"{type(self).__name__} is given {', '.join(sorted(twice))} twice, by position and by name")

    def __post_init__(self) -> None:
        """Check what one field alone cannot tell."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({shown})"


def replace(one: R, **changes: Any) -> R:
    """Return a record with some of its fields changed, as ``dataclasses.replace`` does, in a third of its time."""
    cls = type(one)
    found = cls.__new__(cls)
    values = found.__dict__
    values.update(one.__dict__)
    values.update(changes)
    plan = _PLANS.get(cls) or _plan(cls)
    if len(values) != len(plan.template):  # an unknown name, or a property that is kept beside the fields
        return dataclasses.replace(one, **changes)
    found.__post_init__()
    return found
