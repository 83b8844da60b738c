"""Horizontal bars, one for each name: stacked parts, or groups side by side, with figures where they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calc.charts.chart import Size
from calc.charts.data import ChartData, Panel, Series
from calc.charts.drawing.canvas import LABEL, SMALL, TEXT, Canvas
from calc.charts.drawing.labels import Box
from calc.charts.drawing.ticks import limits, padded, said
from calc.charts.style import colour, mixed, readable, upon
from calc.records import replace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = 0.3
"""Share of a panel's width that names may take."""


def height(rows: int, panels: int = 1, around: float = 2.1) -> float:
    """Return the inches that suit so many bars."""
    return min(max(around + 0.3 * rows * panels, 2.8), 24.0)


def size(data: ChartData) -> Size:
    """Return the size that suits a chart of bars."""
    return (8.0, height(max(len(panel.y.names) for panel in data.panels)))


def draw(data: ChartData, canvas: Canvas) -> None:
    """Draw stacked bars: each series a part, each name of y a bar; a legend of the parts above."""
    for panel, slot in canvas.placed(data.panels, 2):
        draw_panel(panel, canvas, slot)


def draw_panel(panel: Panel, canvas: Canvas, slot: Box) -> Axes:
    """Draw one panel of stacked bars; a series with ``texts`` names the figures that stand behind the bars."""
    parts = [series for series in panel.series if series.look == "bar"]
    slot = legend(canvas, slot, [series.name for series in parts]) if len(parts) > 1 else slot
    behind = [series for series in panel.series if series.texts]
    texts = list(behind[0].texts) if behind else []
    levels = [series for series in panel.series if series.look == "limit"]
    right = max((canvas.measure(text) for text in texts), default=0) + (10 if texts else 4)
    axes, box = rows(panel, canvas, slot, _ends(panel, parts), right)
    left = [0.0] * len(panel.y.names)
    for number, series in enumerate(parts):
        ink = colour(canvas.theme, number)
        for place, value in zip(series.y, series.x, strict=True):
            axes.barh(place, value, left=left[int(place)], height=0.68, color=ink, edgecolor=canvas.theme.page, lw=0.7)
            if len(parts) > 1 or not texts:
                _inside(canvas, axes, panel, left[int(place)], value, place, ink)
            left[int(place)] += value
    for series in levels:
        _level(canvas, axes, box, series)
    for index, text in enumerate(texts):
        _, y = canvas.inside(axes, 0, index)
        canvas.write(box.right + 6, y - TEXT * 0.36, text)
    return axes


def _level(canvas: Canvas, axes: Axes, box: Box, series: Series) -> None:
    """Draw a level across the bars, with its name at its foot where it lies inside."""
    left, right = axes.get_xlim()
    if not left < series.x[0] < right:
        return
    axes.axvline(series.x[0], color=canvas.theme.ink, linewidth=1, linestyle=(0, (4, 2)), zorder=4)
    x, _ = canvas.inside(axes, series.x[0], 0)
    wide = canvas.measure(series.name, SMALL)
    canvas.write(min(max(x - wide / 2, box.left), box.right - wide), box.top + 1, series.name, size=SMALL)


def rows(
    panel: Panel, canvas: Canvas, slot: Box, x: tuple[float, float], right: float, share: float = NAMES
) -> tuple[Axes, Box]:
    """Return axes whose rows are the names of y, written to their left and shortened where they are long."""
    axes = canvas.axes(slot)
    wide = (slot.right - slot.left) * share
    names = [canvas.shortened(name, wide) for name in panel.y.names]
    shown = replace(panel, y=replace(panel.y, names=tuple(names)))
    box = canvas.fit(axes, slot, shown, x, (len(names) - 0.45, -0.55), right)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=canvas.theme.ink)
    return axes, box


def _ends(panel: Panel, parts: list[Series]) -> tuple[float, float]:
    totals = [0.0] * len(panel.y.names)
    for series in parts:
        for place, value in zip(series.y, series.x, strict=True):
            totals[int(place)] += value
    return padded(panel.x, *limits(panel.x, totals))


def _inside(canvas: Canvas, axes: Axes, panel: Panel, left: float, value: float, place: float, ink: str) -> None:
    """Write a part's figure upon it where it fits."""
    text = f"{value:.0%}" if panel.x.unit == "percent" else said(panel.x, value)
    start, y = canvas.inside(axes, left, place)
    end, _ = canvas.inside(axes, left + value, place)
    if end - start > canvas.measure(text, SMALL) + 6:
        canvas.write((start + end) / 2, y - SMALL * 0.36, text, size=SMALL, colour=upon(ink), ha="center")


def legend(canvas: Canvas, slot: Box, names: list[str]) -> Box:
    """Write what each colour stands for in a line above a slot, and return what is left of it."""
    x, y = slot.left, slot.top - LABEL
    for number, name in enumerate(names):
        ink = colour(canvas.theme, number)
        wide = canvas.measure(name, LABEL)
        if x > slot.left and x + 13 + wide > slot.right:
            x, y = slot.left, y - LABEL * 1.6
        chip(canvas, x, y, ink)
        canvas.write(x + 13, y, name, size=LABEL, colour=readable(mixed(ink, canvas.theme.ink, 0.35), canvas.theme))
        x += 13 + wide + 14
    return Box(slot.left, slot.bottom, slot.right, y - 9)


def chip(canvas: Canvas, x: float, y: float, ink: str) -> None:
    """Draw a small square of a colour."""
    from matplotlib.patches import Rectangle

    corner, wide, high = (x / canvas.width, (y - 1) / canvas.height), 9 / canvas.width, 9 / canvas.height
    canvas.figure.add_artist(Rectangle(corner, wide, high, color=ink, transform=canvas.figure.transFigure))
