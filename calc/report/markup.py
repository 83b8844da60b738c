"""Results as HTML: the tables of a report and of a notebook, from templates that escape what they are given."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from calc.errors import printable
from calc.report.layout import numeric, shown
from calc.results import Cell, Figure, Grid, Result, Row

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> Environment:
    """Return the template environment: everything is escaped, and a name that is not given is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("calc.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def table(grid: Grid) -> dict[str, Any]:
    """Return what the template of a table needs: texts, and which columns hold figures."""
    right = numeric(grid)
    columns = [(printable(name), figures) for name, figures in zip(grid.columns, right, strict=True)]
    return {
        "title": printable(grid.title),
        "columns": columns,
        "named": any(grid.columns),
        "rows": [_row(row, right) for row in grid.rows],
        "notes": [printable(note) for note in grid.notes],
    }


def _row(row: Row, right: list[bool]) -> dict[str, Any]:
    cells = [(_text(cell).strip(), _look(cell, figures)) for cell, figures in zip(row.cells, right, strict=True)]
    return {"section": printable(row.section), "cells": cells, "strong": row.emphasis}


def _text(cell: Cell) -> str:
    return shown(cell) if isinstance(cell, Figure) else "" if cell is None else printable(cell)


def _look(cell: Cell, figures: bool) -> str:
    """Return the classes of a cell."""
    how = ["number"] if figures and isinstance(cell, Figure) else []
    if isinstance(cell, str) and cell.startswith("  "):
        how.append("part")
    if isinstance(cell, Figure) and cell.provenance != "exact":
        how.append(cell.provenance)
    return " ".join(how)


def fragment(result: Result) -> str:
    """Return a result as tables for a notebook, with a style of their own."""
    template = environment().get_template("fragment.html")
    return template.render(tables=[table(grid) for grid in result.grids], notes=[printable(n) for n in result.notes])
