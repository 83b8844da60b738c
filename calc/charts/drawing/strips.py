"""Strips: many values of each name along a scale, with the band that most lie in."""

from __future__ import annotations

from statistics import median

from calc.charts.data import ChartData
from calc.charts.drawing.bars import rows
from calc.charts.drawing.canvas import Canvas
from calc.charts.drawing.ticks import limits
from calc.charts.style import colour


def draw(data: ChartData, canvas: Canvas) -> None:
    """Draw every name of y as a strip of points, its band (``low``, ``high``) and its median; a line stands at 1."""
    for panel, slot in canvas.placed(data.panels, 1):
        x = limits(panel.x, [value for series in panel.series for value in series.x])
        axes, _ = rows(panel, canvas, slot, x, 8, share=0.42)
        axes.axvline(1, color=canvas.theme.rule, linewidth=1.2, zorder=1.5)
        for series in panel.series:
            row, ink = series.y[0], colour(canvas.theme, 0)
            if series.low and series.high:
                low, high = max(series.low[0], x[0]), min(series.high[0], x[1])
                axes.plot((low, high), (row, row), color=ink, linewidth=7, alpha=0.28, solid_capstyle="butt", zorder=2)
            axes.plot(series.x, series.y, color=ink, marker="o", markersize=2.6, linestyle="none", alpha=0.55, zorder=3)
            middle = median(series.x)
            axes.plot((middle, middle), (row - 0.32, row + 0.32), color=canvas.theme.ink, linewidth=1.6, zorder=4)
