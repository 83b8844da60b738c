"""Readers: from a measured row to what the program predicts for it, one module for each kind of figure.

A reader is a module with ``predict(row) -> Prediction | None``: None says that the row is another reader's, and
``NotModelled`` why the row cannot be predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from calc.errors import CalcError
from calc.measured.rows import Measurement, NotModelled, Prediction

READERS: Mapping[str, tuple[str, ...]] = {
    "training": ("training",),
    "memory": ("engine", "memory"),
    "operator": ("collectives", "operator"),
    "inference": ("inference",),
}
"""Kind of row → the modules that may read it, in order."""


class Reader(Protocol):
    """What a reader module offers."""

    def predict(self, row: Measurement) -> Prediction | None:
        """Return what the program says, or None for another reader's row."""


def predict(row: Measurement) -> Prediction:
    """Return what the program predicts for a measured figure.

    Raises:
        NotModelled: no reader knows the figure, or the row lacks what the model needs; the message says which.
    """
    if row.tier == "anchor":
        raise NotModelled("another tool's statement about itself, no measurement")
    if row.kind not in READERS:
        raise NotModelled(f"{row.kind} is not a kind of figure that is modelled")
    for name in READERS[row.kind]:
        reader = cast("Reader", import_module(f"calc.measured.readers.{name}"))
        try:
            found = reader.predict(row)
        except NotModelled:
            raise
        except CalcError as error:
            raise NotModelled(str(error)) from None
        if found is not None:
            return found
    raise NotModelled(f"{row.metric} is not a figure that is modelled")
