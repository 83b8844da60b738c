"""Matrices as pictures: masks, and tables of what is covered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from calc.charts.chart import Size
from calc.charts.data import ChartData, Panel
from calc.charts.drawing.canvas import LABEL, LINE, SMALL, TEXT, Canvas
from calc.charts.drawing.labels import Box
from calc.charts.style import mixed, upon

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4


def size_of_squares(data: ChartData) -> Size:
    """Return the size that suits small squares side by side."""
    columns = min(COLUMNS, len(data.panels))
    rows = -(-len(data.panels) // columns)
    return (8.0 if columns > 2 else 5.5, 1.6 + rows * (2.6 if columns > 2 else 3.1))


def size_of_table(data: ChartData) -> Size:
    """Return the size that suits a table."""
    return (8.0, min(2.0 + 0.24 * max(len(panel.y.names) for panel in data.panels), 24.0))


def draw_squares(data: ChartData, canvas: Canvas) -> None:
    """Draw each panel as a square of cells with its title above and its note below."""
    slots = canvas.slots(len(data.panels), canvas.fitting(COLUMNS), gap=16, rows_gap=14)
    wide = slots[0].right - slots[0].left
    titles = [canvas.wrapped(panel.title, wide, LABEL, "bold", most=2) for panel in data.panels]
    notes = [
        [line for part in panel.note.splitlines() for line in canvas.wrapped(part, wide, SMALL, most=2)]
        for panel in data.panels
    ]
    head, foot = max(map(len, titles)) * LABEL * LINE + 2, max(map(len, notes)) * SMALL * LINE + 5
    for slot, panel, title, note in zip(slots, data.panels, titles, notes, strict=True):
        for index, line in enumerate(title):
            canvas.write(slot.left, slot.top - LABEL - index * LABEL * LINE, line, size=LABEL, weight="bold")
        top = slot.top - head
        side = min(wide, top - slot.bottom - foot)
        _square(panel, canvas, Box(slot.left, top - side, slot.left + side, top))
        for index, line in enumerate(note):
            y = top - side - SMALL - 3 - index * SMALL * LINE
            canvas.write(slot.left, y, line, size=SMALL, colour=canvas.theme.muted)


def _square(panel: Panel, canvas: Canvas, box: Box) -> Axes:
    """Draw a matrix of zeros and ones as one path, which stays sharp at any size."""
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path

    axes = canvas.axes(box)
    cells = panel.cells
    assert cells is not None
    rows, columns = len(cells.values), len(cells.values[0])
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), columns, rows, color=canvas.theme.grid, linewidth=0))
    corners = [
        corner
        for row, values in enumerate(cells.values)
        for start, end in _runs(values)
        for corner in ((start, row), (end, row), (end, row + 1), (start, row + 1), (start, row))
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 5)
    if corners:
        ink = canvas.theme.cycle[0]
        axes.add_patch(PathPatch(Path(corners, codes), color=ink, linewidth=0.25))
    return axes


def _runs(values: Sequence[float | None]) -> Iterator[tuple[int, int]]:
    """Yield where neighbouring cells that are set begin and end.

    >>> list(_runs([1.0, 1.0, 0.0, 1.0]))
    [(0, 2), (3, 4)]
    """
    start = None
    for index, value in enumerate((*values, None)):
        if value and start is None:
            start = index
        elif not value and start is not None:
            yield start, index
            start = None


def draw_table(data: ChartData, canvas: Canvas) -> None:
    """Draw panels as tables of coloured cells with a text in each: 1 is good, 0 bad, None does not apply."""
    for panel, slot in canvas.placed(data.panels, 1):
        _table(panel, canvas, slot)


def _table(panel: Panel, canvas: Canvas, slot: Box) -> None:
    from matplotlib.patches import Rectangle

    cells = panel.cells
    assert cells is not None
    theme = canvas.theme
    left = slot.left + max(canvas.measure(name) for name in panel.y.names) + 10
    wide = (slot.right - left) / len(panel.x.names)
    heads = [canvas.wrapped(name, wide - 4, SMALL, most=3) for name in panel.x.names]
    if panel.title:
        canvas.write(slot.left, slot.top - LABEL, panel.title, size=LABEL, weight="bold")
    top = slot.top - (LABEL * 1.7 if panel.title else 0) - max(map(len, heads)) * SMALL * LINE - 4
    high = (top - slot.bottom) / len(panel.y.names)
    for column, head in enumerate(heads):
        for index, line in enumerate(head):
            y = top + 4 + (len(head) - index - 1) * SMALL * LINE
            canvas.write(left + (column + 0.5) * wide, y, line, size=SMALL, colour=theme.muted, ha="center")
    for row, name in enumerate(panel.y.names):
        middle = top - (row + 0.5) * high
        canvas.write(left - 8, middle - TEXT * 0.36, name, ha="right")
        for column, value in enumerate(cells.values[row]):
            ink = theme.grid if value is None else mixed(theme.bad, theme.good, value)
            ink = mixed(theme.page, ink, 0.45) if value is None else ink
            corner = ((left + column * wide + 1) / canvas.width, (middle - high / 2 + 1) / canvas.height)
            extent = ((wide - 2) / canvas.width, (high - 2) / canvas.height)
            patch = Rectangle(corner, *extent, color=ink, linewidth=0, transform=canvas.figure.transFigure)
            canvas.figure.add_artist(patch)
            text = cells.texts[row][column] if cells.texts else ""
            if text:
                x = left + (column + 0.5) * wide
                canvas.write(x, middle - SMALL * 0.36, text, size=SMALL, colour=upon(ink), ha="center")
