"""Field types of the specifications, and the tagged unions that read a ``kind`` from a file.

The specifications are plain dataclasses, so that a shipped preset loads without pydantic (its import is half of the
start-up time); whatever a user writes is validated by pydantic against the very same classes. Nothing here imports it
until a schema is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

LARGEST = 10**12
"""No dimension of a model is larger; a bigger one is a slip of the keyboard."""
FASTEST = 1e21
"""No single device computes or moves more in a second."""


class _Whole:
    """A whole number in a range, strictly: no floats, no booleans, no digits in quotes."""

    def __init__(self, at_least: int) -> None:
        self.at_least = at_least

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.int_schema(strict=True, ge=self.at_least, le=LARGEST)


class _Real:
    """A finite number, positive or zero too, strictly: whole numbers too, no booleans, no digits in quotes."""

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        above, least = (None, 0.0) if self.zero else (0.0, None)
        return core_schema.float_schema(strict=True, gt=above, ge=least, le=FASTEST, allow_inf_nan=False)


Rate = Annotated[float, _Real()]
"""Of something by the second, the hour or the watt: positive and finite."""
Amount = Annotated[float, _Real(zero=True)]
"""Of something there may be none of: finite, not negative."""
Positive = Annotated[int, _Whole(1)]
Natural = Annotated[int, _Whole(0)]


def load_class(target: str) -> type[Any]:
    """Import ``module:Class``."""
    module, _, name = target.partition(":")
    loaded: type[Any] = getattr(import_module(module), name)
    return loaded


def union_schema(kinds: Mapping[str, str], handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the schema of the union of all classes in a registry ``kind -> module:Class``, told apart by ``kind``."""
    from pydantic_core import core_schema

    choices = {kind: handler.generate_schema(load_class(target)) for kind, target in kinds.items()}
    return core_schema.tagged_union_schema(choices, discriminator="kind")
