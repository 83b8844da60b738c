"""What every command ends in: figures with unit and provenance, in grids for people and as data for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from calc.records import Record, record

SCHEMA_VERSION = 1

Provenance: TypeAlias = Literal["exact", "modelled", "estimate"]
"""``exact``: counted, and proven against the reference. ``modelled``: carries a measured error. ``estimate``: from an
input that its maker never published."""


@record
class Figure(Record):
    """One number in base units, with what it is measured in and how it is known."""

    value: float | None
    unit: str = ""
    provenance: Provenance = "exact"
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    """To the first of what is compared."""


Cell: TypeAlias = Figure | str | None


@record
class Row(Record):
    """A line of a grid. ``key`` is stable (CSV, tests); ``emphasis`` marks totals; ``section`` starts a new group.

    ``share`` is the line's part of a whole, from 0 to 1: a terminal draws it as a bar where there is room.
    """

    key: str
    cells: tuple[Cell, ...]
    emphasis: bool = False
    section: str = ""
    share: float | None = None


@record
class Grid(Record):
    """A table: column names, rows of cells. The first column is the row's label."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@record
class Result(Record):
    """The answer of a command: ``data`` is the JSON contract (raw base units), ``grids`` are what a person reads.

    ``notes`` go to standard error beside a table, and into the JSON.
    """

    kind: str
    data: Mapping[str, Any]
    grids: tuple[Grid, ...]
    notes: tuple[str, ...] = ()
    failed: bool = field(default=False)
    """The question was answered, and the answer is no (a proof that does not hold): exit 1."""

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--format json`` prints."""
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {"schema_version": SCHEMA_VERSION, "kind": self.kind, **self.data, **notes}

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tables."""
        return str(_above("calc.report.markup:fragment")(self))

    def plot(self) -> Any:
        """Return a chart of this answer, where there is one (``calc.plot`` draws others).

        Raises:
            CalcError: there is no chart of answers of this kind.
        """
        return _above("calc.charts.answers:plot_result")(self)

    def to_json(self) -> str:
        """Return the JSON text."""
        import json

        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def _above(place: str) -> Any:
    """Return a function of a module above this one, which shows results and which no result needs in order to be."""
    from importlib import import_module

    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
