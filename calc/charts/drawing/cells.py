"""Matrices as pictures: masks, and tables of what is covered."""

from __future__ import annotations

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
    slots = canvas.slots(len(data.panels), COLUMNS, gap=16, rows_gap=14)
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
    axes = canvas.axes(box)
    cells = panel.cells
    assert cells is not None
    axes.grid(visible=False)
    values = [[0.0 if value is None else value for value in row] for row in cells.values]
    _image(canvas, axes, values, canvas.theme.cycle[0], canvas.theme.grid)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def _image(canvas: Canvas, axes: Axes, values: list[list[float]], full: str, empty: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("cells", [empty, full])
    axes.imshow(values, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="auto")


def draw_table(data: ChartData, canvas: Canvas) -> None:
    """Draw panels as tables of coloured cells with a text in each: 1 is good, 0 bad, None does not apply."""
    for slot, panel in zip(canvas.slots(len(data.panels), 1), data.panels, strict=True):
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
