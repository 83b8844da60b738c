"""Points over two scales, named beside them as far as there is room; limits are lines between two points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from calc.charts.data import ChartData, Panel, Series
from calc.charts.drawing.bars import legend
from calc.charts.drawing.canvas import SMALL, TEXT, Canvas
from calc.charts.drawing.labels import Box, leader, place
from calc.charts.drawing.lines import along
from calc.charts.drawing.ticks import limits, padded
from calc.charts.style import colour, mixed, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
FURTHER = (6.0, 14.0, 26.0, 40.0, 56.0, 76.0, 100.0)
"""Distances of names from their points, tried in this order."""


def draw(data: ChartData, canvas: Canvas) -> None:
    """Draw every panel of a chart as points, side by side."""
    for panel, slot in canvas.placed(data.panels, 2):
        draw_panel(panel, canvas, slot)


def draw_panel(panel: Panel, canvas: Canvas, slot: Box) -> Axes:
    """Draw one panel of points; series of one name each, or many points with ``texts``."""
    points = [series for series in panel.series if series.look == "points"]
    guides = [series for series in panel.series if series.look == "limit"]
    lines = [series for series in panel.series if series.look == "line"]
    if len(points) > 1:
        slot = legend(canvas, slot, [series.name for series in points])
    axes = canvas.axes(slot)
    x = padded(panel.x, *limits(panel.x, _all(points + lines, "x")))
    y = padded(panel.y, *limits(panel.y, _all(points + lines, "y")))
    box = canvas.fit(axes, slot, panel, x, y)
    taken = [label for series in guides for label in _guide(canvas, axes, box, series)]
    dots = [canvas.inside(axes, x, y) for series in points for x, y in zip(series.x, series.y, strict=True)]
    for series in lines:
        axes.plot(series.x, series.y, color=canvas.theme.neutral, linewidth=1.4, zorder=2)
        taken.append(_line_name(canvas, axes, box, series, dots))
    for number, series in enumerate(points):
        _points(canvas, axes, series, number)
    crossed = [at for series in lines for at in along(canvas, axes, series)]
    _names(canvas, axes, box, points, taken, crossed)
    return axes


def _line_name(canvas: Canvas, axes: Axes, box: Box, series: Series, dots: Sequence[tuple[float, float]]) -> Box:
    """Write a line's name over its last, level part, or below: as far right as hides no point; return where that is."""
    (start, _), (end, level) = (canvas.inside(axes, x, y) for x, y in zip(series.x[-2:], series.y[-2:], strict=True))
    wide, right = canvas.measure(series.name, SMALL), min(end, box.right) - 4

    steps = range(max(int((right - wide - start) / 4), 0) + 1)
    bottoms = (level + 2, level - 5 - SMALL)
    ends = [(right - 4 * step, bottom) for bottom in bottoms for step in steps]
    places = [Box(end - wide, bottom, end, bottom + 2 + SMALL) for end, bottom in ends]
    around = [Box(x - 2, y - 2, x + 2, y + 2) for x, y in dots]
    found = min(places, key=lambda place: sum(place.overlap(dot) > 0 for dot in around))
    canvas.write(found.left, found.bottom + 2, series.name, size=SMALL, colour=canvas.theme.muted)
    return found


def _all(series: list[Series], side: str) -> list[float]:
    values = [value for each in series for value in getattr(each, side)]
    ends = [value for each in series if side == "y" for end in (each.low, each.high) for value in end or ()]
    return values + ends


def _points(canvas: Canvas, axes: Axes, series: Series, number: int) -> None:
    ink = colour(canvas.theme, number)
    if series.low is not None and series.high is not None:
        for x, low, high in zip(series.x, series.low, series.high, strict=True):
            if low < high:
                axes.plot((x, x), (low, high), color=ink, linewidth=1.4, alpha=0.55, zorder=3)
    marker = MARKERS[number % len(MARKERS)]
    how: dict[str, Any] = {"linestyle": "none", "markersize": 5.5, "markeredgewidth": 0.7, "zorder": 4}
    axes.plot(series.x, series.y, marker=marker, color=ink, markeredgecolor=canvas.theme.page, **how)


def _guide(canvas: Canvas, axes: Axes, box: Box, series: Series) -> list[Box]:
    """Draw a line that is no data (a share, a level) and its name where it leaves the panel; return where that is."""
    ink = mixed(canvas.theme.grid, canvas.theme.neutral, 0.45)
    axes.plot(series.x, series.y, color=ink, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1.5)
    ends = [canvas.inside(axes, x, y) for x, y in zip(series.x, series.y, strict=True)]
    (x0, y0), (x1, y1) = ends[0], ends[-1]
    slope = (y1 - y0) / (x1 - x0) if x1 != x0 else 0.0
    x = box.right - 4 if y0 + slope * (box.right - 4 - x0) <= box.top - 10 else x0 + (box.top - 12 - y0) / (slope or 1)
    wide = canvas.measure(series.name, SMALL)
    y = y0 + slope * (x - wide - x0)
    if box.bottom <= y <= box.top - 4 and x - wide > box.left:
        canvas.write(x - wide, y + 4, series.name, size=SMALL, colour=canvas.theme.muted)
        return [Box(x - wide, y + 2, x, y + 4 + SMALL)]
    return []


def _names(
    canvas: Canvas, axes: Axes, box: Box, points: list[Series], taken: list[Box], crossed: list[tuple[float, float]]
) -> None:
    """Name the points: those furthest from others choose first, and those without room stay unnamed.

    A name hides neither the lines (``crossed``: places along them) nor other points as long as there is room.
    """
    dots = [canvas.inside(axes, x, y) for series in points for x, y in zip(series.x, series.y, strict=True)]
    named = [
        (canvas.inside(axes, x, y), text, number)
        for number, series in enumerate(points)
        for x, y, text in zip(series.x, series.y, series.texts or (series.name,) * len(series.x), strict=True)
        if text
    ]
    size = TEXT if len(named) <= 24 else SMALL
    named.sort(key=lambda one: -_room(one[0], [other[0] for other in named]))
    wide = (box.right - box.left) * 0.35
    texts = [canvas.shortened(text, wide, size) for _, text, _ in named]
    sizes = [(canvas.measure(text, size), size * 1.15) for text in texts]
    places = place([at for at, _, _ in named], sizes, box, taken, crossed, dots, FURTHER)
    for (at, _, number), text, label in zip(named, texts, places, strict=True):
        if label is None:
            continue
        ink = colour(canvas.theme, number)
        if run := leader(label, at):
            canvas.segment(list(run), mixed(canvas.theme.page, ink, 0.55), 0.6)
        canvas.write(label.left, label.bottom + 2, text, size=size, colour=readable(ink, canvas.theme))


def _room(at: tuple[float, float], others: list[tuple[float, float]]) -> float:
    """Return the distance to the nearest other point."""
    apart = (abs(x - at[0]) + abs(y - at[1]) for x, y in others if (x, y) != at)
    return min(apart, default=0.0)
