"""Plain text, JSON, CSV and Markdown writers."""

from __future__ import annotations

import sys

from calc.errors import printable
from calc.report.layout import lines, numeric, shown
from calc.results import Cell, Figure, Grid, Result, Row


def raw(cell: Cell) -> object:
    """Return a cell for a program: the value in base units, of a range without a middle both ends."""
    if isinstance(cell, Figure):
        return f"{cell.low}–{cell.high}" if cell.value is None and cell.low is not None else cell.value
    return "" if cell is None else printable(cell)


def units(row: Row) -> str:
    """Return the unit that all figures of a row share, or nothing."""
    found = {cell.unit for cell in row.cells if isinstance(cell, Figure)}
    return found.pop() if len(found) == 1 else ""


def write_plain(result: Result) -> None:
    """Write aligned columns without colour or width limit: what a pipe or a file gets."""
    blocks = ("\n".join("".join(text for text, _ in line) for line in lines(grid)) for grid in result.grids)
    sys.stdout.write("\n\n".join(blocks) + "\n")


def write_json(result: Result) -> None:
    """Write the JSON contract; what is invisible or foreign to the output's encoding is escaped."""
    import json

    text = result.to_json()
    if not text.isascii():
        unicode = sys.stdout.encoding.lower().startswith("utf")
        text = "".join(
            one if one.isascii() or (unicode and one.isprintable()) else json.dumps(one)[1:-1] for one in text
        )
    sys.stdout.write(text + "\n")


def write_csv(result: Result) -> None:
    """Write raw values, a unit column where each row has one unit; several grids are separated by an empty line."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    for index, grid in enumerate(result.grids):
        if index:
            sys.stdout.write("\n")
        by_row = any(units(row) for row in grid.rows) and not _column_units(grid)
        head = [
            printable(f"{name} ({unit})" if unit else name)
            for name, unit in zip(grid.columns, _units_of(grid), strict=True)
        ]
        writer.writerow(["key", *head, *(["unit"] if by_row else [])])
        for row in grid.rows:
            writer.writerow([printable(row.key), *map(raw, row.cells), *([units(row)] if by_row else [])])


def _column_units(grid: Grid) -> bool:
    """Tell whether the columns differ in unit, so that the unit belongs to the column and not to the row."""
    return len({unit for unit in _units_of(grid) if unit}) > 1


def _units_of(grid: Grid) -> list[str]:
    columns = []
    for index in range(len(grid.columns)):
        cells = [row.cells[index] for row in grid.rows if index < len(row.cells)]
        found = {cell.unit for cell in cells if isinstance(cell, Figure)}
        columns.append(found.pop() if len(found) == 1 else "")
    return columns


def write_markdown(result: Result) -> None:
    """Write GitHub-flavoured Markdown tables."""
    blocks = []
    for grid in result.grids:
        lines = [f"### {printable(grid.title)}", ""] if grid.title else []
        lines.append("| " + " | ".join(map(_escaped, grid.columns)) + " |")
        lines.append("|" + "|".join("---:" if right else "---" for right in numeric(grid)) + "|")
        for row in grid.rows:
            cells = [_escaped(shown(cell)) for cell in row.cells]
            lines.append("| " + " | ".join(f"**{cell}**" if row.emphasis and cell else cell for cell in cells) + " |")
        lines += ["", *map(printable, grid.notes)] if grid.notes else []
        blocks.append("\n".join(lines))
    sys.stdout.write("\n\n".join(blocks) + "\n")


def _escaped(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("*", "\\*")
