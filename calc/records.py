"""Immutable records: dataclasses that cost nothing to define.

``dataclasses`` writes and compiles six methods for every class; for the classes that each start of the command line
needs, that is a fifth of its time. The records here are dataclasses (``fields``, ``replace``, ``asdict`` and pydantic
work on them), but share the methods of one base class.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

T = TypeVar("T")


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


_Plan = tuple[tuple[str, ...], tuple[tuple[str, Any, Any], ...]]
_PLANS: dict[type, _Plan] = {}


def _plan(cls: type[Any]) -> _Plan:
    """Return the names of positional fields, and (name, default, default factory) of all of them; found once."""
    if cls not in _PLANS:
        declared = fields(cls)
        positional = tuple(field.name for field in declared if not field.kw_only)
        _PLANS[cls] = positional, tuple((field.name, field.default, field.default_factory) for field in declared)
    return _PLANS[cls]


@record
class Record:
    """Base of all records of this package: immutable, compared and hashed by value."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        positional, declared = _plan(type(self))
        if len(args) > len(positional):
            raise TypeError(f"{type(self).__name__} takes {len(positional)} positional arguments, not {len(args)}")
        given = dict(zip(positional, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise TypeError(f"{type(self).__name__} is given {', '.join(sorted(twice))} twice, by position and by name")
        given |= kwargs
        values = self.__dict__
        for name, default, factory in declared:
            if name in given:
                values[name] = given.pop(name)
            elif default is not MISSING:
                values[name] = default
            elif factory is not MISSING:
                values[name] = factory()
            else:
                raise TypeError(f"{type(self).__name__} needs {name}")
        if given:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(given)}")
        self.__post_init__()

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
