"""How a grid becomes lines of text: aligned columns that fit a width, figures never broken.

Where a table is too wide, its text columns wrap; where that does not suffice, its columns are dealt out to several
tables that repeat the first column. Without a width (a pipe, a file) it stays in one piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import isclose
from typing import TypeAlias

from calc.errors import printable
from calc.records import replace
from calc.results import Cell, Figure, Grid, Row
from calc.units import figure, span

Line: TypeAlias = list[tuple[str, str]]
"""Pieces of text with a style each: "" (plain) or one of rich's."""

GAP = "  "
Bar: TypeAlias = Callable[[float, int], str]
"""Draws a share at a width."""
NARROWEST_BAR, WIDEST_BAR = 8, 20
NARROWEST = 10
"""A text column is not wrapped to less than this, while columns can move to a further table."""


def shown(cell: Cell) -> str:
    """Write a cell for a person: a figure in its unit, the range of an estimate, the ratio to the first compared."""
    text, ratio = _halves(cell)
    return f"{text} {ratio}".rstrip()


def _halves(cell: Cell) -> tuple[str, str]:
    if cell is None:
        return "–", ""
    if isinstance(cell, str):
        return printable(cell), ""
    related = "" if cell.ratio is None else ratio(cell.ratio)
    if cell.low is None or cell.high is None:
        text = figure(cell.value, cell.unit)
        return f"≈ {text}" if cell.provenance == "estimate" else text, related
    if cell.provenance == "estimate":
        return f"≈ {span(cell.low, cell.high, cell.unit, 3)}", _ratios(cell)
    ends = span(cell.low, cell.high, cell.unit, around=cell.value)
    return ends if cell.value is None else f"{figure(cell.value, cell.unit)} [{ends}]", related


def _ratios(cell: Figure) -> str:
    """Write how many times the first of what is compared the ends of an estimate are."""
    if cell.ratio is None or not cell.value or cell.low is None or cell.high is None:
        return "" if cell.ratio is None else ratio(cell.ratio)
    ends = [ratio(float(f"{cell.ratio * end / cell.value:.2g}")) for end in (cell.low, cell.high)]
    if ends[0][0] != ends[1][0] or "=" in ends:
        return "–".join(ends)
    return "–".join([ends[0], ends[1][1:]] if ends[0][0] == "×" else [ends[1], ends[0][1:]])


def ratio(value: float) -> str:
    """Write how many times the first of what is compared.

    >>> ratio(21.74), ratio(1), ratio(0.999_999_999_999), ratio(0.000713), ratio(1403)
    ('×21.7', '=', '=', '÷1,403', '×1,403')
    """
    sign, times = ("÷", 1 / value) if 0 < value < 0.1 else ("×", value)
    return "=" if isclose(value, 1, rel_tol=1e-9) else f"{sign}{times:,.0f}" if times >= 1000 else f"{sign}{times:.3g}"


def numeric(grid: Grid) -> list[bool]:
    """Tell for each column whether it holds figures, which stand to the right."""
    return [any(isinstance(row.cells[index], Figure) for row in grid.rows) for index in range(len(grid.columns))]


def lines(grid: Grid, width: int | None = None, bar: Bar | None = None) -> Iterator[Line]:
    """Yield the lines of a grid: title, header, rows, notes; ``bar`` draws shares beside it where there is room."""
    grid = replace(grid, columns=tuple(map(printable, grid.columns)))
    for line in wrapped(printable(grid.title), width) if grid.title else ():
        yield [(line, "bold")]
    columns = [_column(name, [row.cells[index] for row in grid.rows]) for index, name in enumerate(grid.columns)]
    floors = _floors(grid, columns)
    for number, panel in enumerate(_panels(floors, width)):
        if number:
            yield []
        yield from _table(grid, columns, panel, width, bar if len(panel) == len(columns) else None)
    for note in grid.notes:
        for line in wrapped(printable(note), width):
            yield [(line, "dim")]


def _column(name: str, cells: list[Cell]) -> list[str]:
    """Write a column; the ratios in it stand under one another, and what its name says is not said in every cell."""
    halves = [_halves(cell) for cell in cells]
    if name == "FLOPs":
        halves = [(text.removesuffix("FLOP").rstrip(), ratio) for text, ratio in halves]
    wide = max((len(ratio) for _, ratio in halves), default=0)
    if not wide:
        return [text for text, _ in halves]
    pairs = zip(halves, cells, strict=True)
    return [f"{text} {ratio:<{wide}}" if isinstance(cell, Figure) else text for (text, ratio), cell in pairs]


def _floors(grid: Grid, columns: list[list[str]]) -> list[tuple[int, int]]:
    """Return the least and the natural width of every column; figures are not broken, headers are between words."""
    found = []
    for name, right, texts in zip(grid.columns, numeric(grid), columns, strict=True):
        widest = max(map(cells, texts), default=0)
        natural = max(widest, cells(name))
        words = max(map(cells, name.split()), default=0)
        found.append((max(widest, words) if right else min(natural, max(NARROWEST, words)), natural))
    return found


def _panels(floors: list[tuple[int, int]], width: int | None) -> list[list[tuple[int, int]]]:
    """Deal the columns out to tables that fit: for each table, its columns and how wide each is."""
    everything = list(range(len(floors)))
    if width is None or _total([natural for _, natural in floors]) <= width:
        return [[(index, floors[index][1]) for index in everything]]
    names = floors[0][1]
    one = [(max(floors[0][0], min(names, NARROWEST + 2)), names), *floors[1:]]
    if _total([least for least, _ in one]) <= width:
        return [_fitted(everything, one, width)]
    label = max(floors[0][0], min(names, width // 3))  # the first column, which every table repeats
    floors = [(label, min(names, max(width // 2, label))), *floors[1:]]
    parts = [everything]
    for count in range(2, len(floors) + 1):
        size = -(-(len(floors) - 1) // count)
        parts = [[0, *everything[1:][start : start + size]] for start in range(0, len(floors) - 1, size)]
        if all(_total([floors[index][0] for index in part]) <= width for part in parts):
            break
    return [_fitted(part, floors, width) for part in parts]


def _fitted(part: list[int], floors: list[tuple[int, int]], width: int) -> list[tuple[int, int]]:
    """Widen the columns of a table from their least width towards their natural one, the narrowest first."""
    widths = {index: floors[index][0] for index in part}
    if _total([floors[index][1] for index in part]) <= width:
        return [(index, floors[index][1]) for index in part]
    excess = _total(list(widths.values())) - width
    if excess > 0 and len(part) > 1:  # one figure wider than the terminal: the label gives what it can
        widths[part[0]] = max(widths[part[0]] - excess, 4)
    while _total(list(widths.values())) < width:
        open_ = [index for index in part if widths[index] < floors[index][1]]
        if not open_:
            break
        widths[min(open_, key=lambda index: widths[index])] += 1
    return list(widths.items())


def _total(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _table(
    grid: Grid, columns: list[list[str]], panel: list[tuple[int, int]], width: int | None, bar: Bar | None
) -> Iterator[Line]:
    right = numeric(grid)
    total = _total([size for _, size in panel])
    room = min((width or 0) - total - len(GAP), WIDEST_BAR) if bar else 0
    rule = "─" * _total([size for _, size in panel])
    header = [wrapped(grid.columns[index], size) for index, size in panel]
    if any(map(any, header)):
        yield from _cells(header, panel, right, ["bold"] * len(panel), bottom=True)
    yield [(rule, "")]
    for number, row in enumerate(grid.rows):
        if row.section:
            yield from ([], [(printable(row.section), "bold cyan")])[not number :]
        elif row.key == "total":
            yield [(rule, "")]
        texts = [wrapped(columns[index][number], size) for index, size in panel]
        drawn = _cells(texts, panel, right, [_style(row, row.cells[index]) for index, _ in panel])
        for level, line in enumerate(drawn):
            if bar and room >= NARROWEST_BAR and not level and row.share and bar(row.share, room):
                wide = sum(cells(text) for text, _ in line)
                line.append((" " * (total - wide) + GAP + bar(row.share, room), "cyan"))
            yield line


def _style(row: Row, cell: Cell) -> str:
    if isinstance(cell, Figure) and cell.provenance == "estimate":
        return "yellow"
    ratios = [each.ratio for each in row.cells if isinstance(each, Figure) and each.ratio is not None]
    return "bold" if row.emphasis else "dim" if ratios and all(ratio == 1 for ratio in ratios) else ""


def _cells(
    texts: list[list[str]], panel: list[tuple[int, int]], right: list[bool], styles: list[str], bottom: bool = False
) -> Iterator[Line]:
    """Yield the lines of a row whose cells may take several; ``bottom``: they stand on the last."""
    height = max(map(len, texts))
    for level in range(height):
        line: Line = []
        for place, ((index, size), text, style) in enumerate(zip(panel, texts, styles, strict=True)):
            at = level - (height - len(text)) if bottom else level
            piece = text[at] if 0 <= at < len(text) else ""
            padding = " " * max(size - cells(piece), 0)
            piece = padding + piece if right[index] else piece + padding
            line.append(((GAP if place else "") + piece, style))
        while line and not line[-1][0].strip():
            line.pop()
        if line:
            line[-1] = (line[-1][0].rstrip(), line[-1][1])
        yield line


def wrapped(text: str, width: int | None) -> list[str]:
    """Break a text into lines: between words, else after ``·`` and ``,``, before ``->``, else anywhere.

    >>> wrapped("btkgh,bskh->bkgts", 12)
    ['btkgh,bskh', '->bkgts']
    """
    if width is None or cells(text) <= width:
        return [text]
    found: list[str] = []
    line = text[: len(text) - len(text.lstrip())]
    for word in text.split():
        for number, piece in enumerate(_pieces(word, width)):
            glue = " " if line.strip() and not number else ""
            if line.strip() and cells(line + glue + piece) > width:
                found.append(line)
                line, glue = "", ""
            line += glue + piece
    return [*found, line]


def _pieces(word: str, width: int) -> Iterator[str]:
    if cells(word) <= width:
        yield word
        return
    for piece in re.split(r"(?<=[·,_/])|(?=->)", word):
        while cells(piece) > width > 0:
            yield piece[:width]
            piece = piece[width:]
        if piece:
            yield piece


def cells(text: str) -> int:
    """Return how many places a text takes on a terminal; East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)
