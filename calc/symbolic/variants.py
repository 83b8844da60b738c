"""A model with some structural options of its mechanisms changed: naive against absorbed, with or without biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calc.errors import SpecError, UnknownName
from calc.mechanism import Mechanism
from calc.model import Layer, Model
from calc.records import replace
from calc.symbolic.mechanisms import read_option

PLACES = ("attention", "beside", "cross", "ffn_beside", "ffn")


def with_options(model: Model, options: Mapping[str, str]) -> Model:
    """Change options in every mechanism of the stack that has them.

    Raises:
        UnknownName: an option that no mechanism of the model has.
        SpecError: a value that it cannot have.
    """
    known: set[str] = set()
    stack = tuple(
        replace(stack, layer=tuple(_changed(layer, options, known) for layer in stack.layer)) for stack in model.stack
    )
    for name in options:
        if name not in known:
            raise UnknownName(f"option of the mechanisms of {model.name}", name, known)
    return replace(model, stack=stack) if options else model


def _changed(layer: Layer, options: Mapping[str, str], known: set[str]) -> Layer:
    found: dict[str, Any] = {}
    for place in PLACES:
        mechanism: Mechanism | None = getattr(layer, place)
        if mechanism is None:
            continue
        names = set(mechanism.field_names()) - {"kind"}
        known |= names
        new = {name: read_option(type(mechanism), name, text) for name, text in options.items() if name in names}
        if any(isinstance(value, type) for value in new.values()):
            raise SpecError("a mask has sizes of its own: choose it for a mechanism alone, or write it into a preset")
        found |= {place: replace(mechanism, **new)} if new else {}
    return replace(layer, **found) if found else layer
