"""Tables for the terminal: the lines of the layout in rich's styles, at the terminal's width."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from calc.charts.terminal import bar
from calc.report.layout import lines
from calc.results import Result


def write(result: Result) -> None:
    """Write every grid."""
    out = Console(highlight=False)
    for index, grid in enumerate(result.grids):
        if index:
            out.print()
        for line in lines(grid, out.width, bar):
            out.print(Text.assemble(*line), soft_wrap=True)
