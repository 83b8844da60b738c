"""What a chart shows, as plain data: the same for a picture, a terminal and a program."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from calc.records import Record, named_record
from calc.results import Cell, Figure, Grid, Provenance, Result, Row

Scale: TypeAlias = Literal["linear", "log", "names"]
Look: TypeAlias = Literal["line", "bar", "points", "limit"]
"""``limit``: one level to hold the others against (a memory, a ridge), drawn across the chart."""
Values: TypeAlias = tuple[float, ...]


@named_record
class Axis(Record):
    """What is laid off along a side: its name, the base unit of its values, and how they are spaced.

    On an axis of ``names`` a value is the index of a name.
    """

    label: str
    unit: str = ""
    scale: Scale = "linear"
    names: tuple[str, ...] = ()
    base: int = 10
    """Of a logarithmic axis: ticks stand at powers of 10 or of 2."""
    low: float | None = None
    high: float | None = None
    """Ends that the data do not decide."""


@named_record
class Series(Record):
    """Values that belong together: a line, a set of bars, points, or a limit."""

    name: str
    look: Look = "line"
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None
    """Where the values are estimated or modelled: the least and the most they may be."""
    stated: float | None = None
    """Up to where on x the values are asked of what its maker states; beyond, the line is dotted."""
    texts: tuple[str, ...] = ()
    """A label for each value; without them, a line is labelled at its end by its name."""
    group: int | None = None
    """Series of one group share a colour and differ in their dashes; by default each has its own."""
    provenance: Provenance = "exact"
    note: str = ""


@named_record
class Mark(Record):
    """A place in a panel that deserves a word."""

    x: float
    y: float
    text: str


@named_record
class Cells(Record):
    """A matrix: rows from the top, values from 0 to 1 or None; a text in a cell where it has one."""

    values: tuple[tuple[float | None, ...], ...]
    texts: tuple[tuple[str, ...], ...] = ()


@named_record
class Panel(Record):
    """One pair of axes and what is drawn in it."""

    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    marks: tuple[Mark, ...] = ()
    cells: Cells | None = None
    title: str = ""
    note: str = ""


@named_record
class ChartData(Record):
    """Everything that a chart says.

    ``finding`` is computed from the values: the sentence that a reader should take away. ``conventions`` says what is
    counted, ``source`` where the inputs are from.
    """

    chart: str
    finding: str
    panels: tuple[Panel, ...]
    conventions: str = ""
    source: str = ""
    command: str = ""
    notes: tuple[str, ...] = ()

    @property
    def panel(self) -> Panel:
        """The first panel."""
        return self.panels[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract: raw base units."""
        return {
            "chart": self.chart,
            "finding": self.finding,
            "conventions": self.conventions,
            "source": self.source,
            "panels": [_panel_data(panel) for panel in self.panels],
        }

    def result(self) -> Result:
        """Return the plotted values as a result: what ``calc plot --format`` prints."""
        grids = tuple(_grid(self, number, panel) for number, panel in enumerate(self.panels))
        return Result(kind="plot", data=self.to_dict(), grids=grids, notes=self.notes)


def _axis_data(axis: Axis) -> dict[str, Any]:
    return {"label": axis.label, "unit": axis.unit, "scale": axis.scale, "names": list(axis.names)}


def _panel_data(panel: Panel) -> dict[str, Any]:
    series = [
        {
            "name": each.name,
            "look": each.look,
            "x": list(each.x),
            "y": list(each.y),
            "low": None if each.low is None else list(each.low),
            "high": None if each.high is None else list(each.high),
            "provenance": each.provenance,
        }
        for each in panel.series
    ]
    return {
        "title": panel.title,
        "x": _axis_data(panel.x),
        "y": _axis_data(panel.y),
        "series": series,
        "marks": [{"x": mark.x, "y": mark.y, "text": mark.text} for mark in panel.marks],
        "cells": None if panel.cells is None else [list(row) for row in panel.cells.values],
    }


def _grid(data: ChartData, number: int, panel: Panel) -> Grid:
    """Return a panel as a table: one line for each value, or the matrix."""
    title = data.finding if not number else ""
    title = " – ".join(filter(None, (title, panel.title)))
    notes = tuple(filter(None, (data.conventions, f"source: {data.source}" if data.source else "")))
    notes = notes if number == len(data.panels) - 1 else ()
    if panel.cells is not None:
        return _matrix(title, panel, notes)
    columns = ("series", panel.x.label or "value", panel.y.label)
    rows = tuple(
        Row(f"{each.name}.{index}", (each.name, _cell(panel.x, x), _value(panel.y, each, index)))
        for each in panel.series
        for index, x in enumerate(each.x)
    )
    return Grid(title, columns, rows, notes)


def _cell(axis: Axis, value: float) -> Cell:
    return axis.names[int(value)] if axis.names else Figure(value, axis.unit)


def _value(axis: Axis, series: Series, index: int) -> Cell:
    if axis.names:
        return axis.names[int(series.y[index])]
    low, high = (None if ends is None else ends[index] for ends in (series.low, series.high))
    return Figure(series.y[index], axis.unit, series.provenance, low=low, high=high)


def _matrix(title: str, panel: Panel, notes: tuple[str, ...]) -> Grid:
    cells = panel.cells
    assert cells is not None
    rows = []
    for index, values in enumerate(cells.values):
        name = panel.y.names[index] if panel.y.names else str(index)
        rows.append(Row(name, (name, *(Figure(value) for value in values))))
    width = len(cells.values[0])
    columns = panel.x.names or tuple(str(index) for index in range(width))
    return Grid(title, ("", *columns), tuple(rows), notes)
