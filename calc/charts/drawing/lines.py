"""Lines over a scale: each labelled at its end, estimates as bands, limits across, crossings marked."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Any

from calc.charts.data import ChartData, Panel, Series
from calc.charts.drawing.canvas import SMALL, TEXT, Canvas
from calc.charts.drawing.labels import Box, leader, nearest, place, place_along, spread
from calc.charts.drawing.ticks import limits, padded
from calc.charts.style import colour, dashes, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 8.0
WIDEST = 0.34
"""Share of a panel's width that labels at the ends of lines may take."""


def draw(data: ChartData, canvas: Canvas) -> None:
    """Draw every panel of a chart as lines, side by side."""
    for panel, slot in canvas.placed(data.panels, 2):
        draw_panel(panel, canvas, slot)


def draw_panel(panel: Panel, canvas: Canvas, slot: Box) -> Axes:
    """Draw one panel of lines."""
    axes = canvas.axes(slot)
    moving = [series for series in panel.series if series.look != "limit"]
    fixed = [series for series in panel.series if series.look == "limit"]
    x = limits(panel.x, [value for series in moving for value in series.x])
    y = padded(panel.y, *limits(panel.y, _heights(panel)))
    labels = [_label(canvas, series, (slot.right - slot.left) * WIDEST) for series in moving]
    within = _meet(panel, moving, y)
    right = 0.0 if within else max((canvas.measure(text) for label in labels for text in label), default=0) + GAP + 6
    box = canvas.fit(axes, slot, panel, x, y, right)
    axes.grid(visible=False, axis="x")
    _limits(canvas, axes, box, fixed)
    for number, series in enumerate(moving):
        _line(canvas, axes, series, number)
    if within:
        _inner_labels(canvas, axes, box, moving)
    else:
        _end_labels(canvas, axes, box, moving, labels)
    _marks(canvas, axes, box, panel, moving)
    return axes


def _meet(panel: Panel, moving: list[Series], y: tuple[float, float]) -> bool:
    """Tell whether most lines end at the same height, so that labels at their ends would not tell them apart."""
    if len(moving) < 3:
        return False
    high, low = (log(end) if panel.y.scale == "log" else end for end in (y[1], y[0]))
    ends = sorted(
        (log(s.y[-1]) if panel.y.scale == "log" else s.y[-1]) for s in moving if panel.y.scale != "log" or s.y[-1] > 0
    )
    near = sum(b - a < 0.01 * (high - low) for a, b in pairwise(ends))
    return near > len(moving) / 2


def _inner_labels(canvas: Canvas, axes: Axes, box: Box, moving: list[Series]) -> None:
    """Write the name of each line beside a place where it is apart from the others."""
    courses = [along(canvas, axes, series) for series in moving]
    names = [canvas.wrapped(series.name, (box.right - box.left) * 0.27, TEXT, most=3) for series in moving]
    line = TEXT * 1.18
    sizes = [(max(map(canvas.measure, name)), len(name) * line) for name in names]
    for number, (name, found) in enumerate(zip(names, place_along(courses, sizes, box), strict=True)):
        if found is None:
            continue
        label, at = found
        ink = _of(canvas, moving[number], number)[0]
        canvas.segment([at, nearest(label, at)], ink)
        for index, text in enumerate(name):
            y = label.top - (index + 0.78) * line
            canvas.write(label.left, y, text, colour=readable(ink, canvas.theme))


def _heights(panel: Panel) -> list[float]:
    """Return the values that the y axis must show: limits only where lines come near them."""
    moving = [series for series in panel.series if series.look != "limit"]
    found = [value for series in moving for ends in (series.y, series.low, series.high) for value in ends or ()]
    return found + [value for series in panel.series if series.look == "limit" for value in series.y]


def _of(canvas: Canvas, series: Series, number: int) -> tuple[str, object]:
    number = number if series.group is None else series.group
    return colour(canvas.theme, number), dashes(canvas.theme, number)


def _line(canvas: Canvas, axes: Axes, series: Series, number: int) -> None:
    ink, dash = _of(canvas, series, number)
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=ink, alpha=0.16, linewidth=0)
    cut = sum(x <= series.stated for x in series.x) if series.stated is not None else len(series.x)
    markers: dict[str, Any] = {"marker": "o", "linestyle": "none"} if series.look == "points" else {"linestyle": dash}
    axes.plot(series.x[:cut], series.y[:cut], color=ink, zorder=3, **markers)
    if cut < len(series.x):
        start = max(cut - 1, 0)
        axes.plot(series.x[start:], series.y[start:], color=ink, linewidth=1.1, linestyle=(0, (1, 2.2)), zorder=2.5)
        if cut:
            axes.plot(series.x[cut - 1], series.y[cut - 1], color=ink, marker="o", markersize=4, zorder=3.5)


def _label(canvas: Canvas, series: Series, width: float) -> list[str]:
    return canvas.wrapped(series.name, width, TEXT, most=2) + ([series.note] if series.note else [])


def _end_labels(canvas: Canvas, axes: Axes, box: Box, moving: list[Series], labels: list[list[str]]) -> None:
    """Write the name of each line beside its end; labels that would overlap move apart, with a thin leader."""
    room = (box.bottom - 2, box.top + 8)
    size = TEXT
    while sum(map(len, labels)) * size * 1.2 > room[1] - room[0] and size > 5.5:
        size -= 0.5
    ends = [canvas.inside(axes, series.x[-1], series.y[-1]) for series in moving]
    line = size * 1.18
    heights = [len(label) * line + 2 for label in labels]
    middles = spread([y for _, y in ends], heights, *room)
    for number, (series, label, (x, y), middle) in enumerate(zip(moving, labels, ends, middles, strict=True)):
        ink = readable(_of(canvas, series, number)[0], canvas.theme)
        left = box.right + GAP
        if abs(middle - y) > 3 or x < box.right - 2:
            canvas.segment([(x + 2, y), (left - 2, middle)], _of(canvas, series, number)[0])
        for index, text in enumerate(label):
            noted = bool(series.note) and index == len(label) - 1
            at = middle + (len(label) / 2 - index - 0.78) * line
            canvas.write(left, at, text, size=size - noted * 0.8, colour=canvas.theme.muted if noted else ink)


def _limits(canvas: Canvas, axes: Axes, box: Box, fixed: list[Series]) -> None:
    """Draw levels across the panel, each with its name at its left end, above the line unless another is near."""
    levels = [canvas.inside(axes, axes.get_xlim()[0], series.y[0])[1] for series in fixed]
    names = [SMALL * 1.25] * len(fixed)
    middles = spread([level + SMALL * 0.7 for level in levels], names, box.bottom, box.top + SMALL)
    for series, middle in zip(fixed, middles, strict=True):
        axes.axhline(series.y[0], color=canvas.theme.neutral, linewidth=0.8, linestyle=(0, (6, 3)), zorder=1.8)
        name = canvas.shortened(series.name, box.right - box.left - 10, SMALL)
        canvas.write(box.left + 5, middle - SMALL * 0.36, name, size=SMALL, colour=canvas.theme.muted, **_halo(canvas))


def _marks(canvas: Canvas, axes: Axes, box: Box, panel: Panel, moving: list[Series]) -> None:
    """Mark places with a ring and a word that hides no line."""
    if not panel.marks:
        return
    points = [canvas.inside(axes, mark.x, mark.y) for mark in panel.marks]
    sizes = [(canvas.measure(mark.text, SMALL), SMALL * 1.2) for mark in panel.marks]
    crossed = [at for series in moving for at in along(canvas, axes, series)]
    places = place(points, sizes, box, crossed=crossed)
    for mark, label, at in zip(panel.marks, places, points, strict=True):
        ring: dict[str, Any] = {"marker": "o", "markersize": 6.5, "markeredgewidth": 1.3, "zorder": 5}
        axes.plot(mark.x, mark.y, color=canvas.theme.page, markeredgecolor=canvas.theme.ink, **ring)
        if label:
            if run := leader(label, at):
                canvas.segment(list(run), canvas.theme.rule, 0.5)
            canvas.write(label.left, label.bottom + 2, mark.text, size=SMALL, **_halo(canvas))


def _halo(canvas: Canvas) -> dict[str, Any]:
    """Return a border in the page's colour, which keeps a text readable upon lines."""
    return {"bbox": {"facecolor": canvas.theme.page, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}}


def along(canvas: Canvas, axes: Axes, series: Series) -> list[tuple[float, float]]:
    """Return places along a line, near enough to one another that none of it is missed."""
    ends = [canvas.inside(axes, x, y) for x, y in zip(series.x, series.y, strict=True)]
    found = []
    for (x0, y0), (x1, y1) in pairwise(ends):
        steps = max(int(max(abs(x1 - x0), abs(y1 - y0)) / 5), 1)
        found += [(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(steps + 1)]
    return found
