"""A figure with its frame: the finding above, source and conventions below, room for panels between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from calc.charts.data import Axis, ChartData, Panel
from calc.charts.drawing.labels import Box
from calc.charts.drawing.ticks import said, ticks
from calc.charts.style import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGE = 14.0
"""Margin around everything, in points."""
FINDING, LABEL, TEXT, SMALL = 12.5, 9.0, 8.5, 7.5
"""Sizes of type, in points."""
LINE = 1.28
"""Height of a line of text over its size."""
NARROW = 360.0
"""Points below which a page is narrow."""
FINE = 8
"""Texts are measured this much finer than points, so that rounding to pixels does not add up."""


@cache
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    make: Any = RendererAgg
    return make(1, 1, 72 * FINE)


@lru_cache(maxsize=2**15)
def _width(text: str, size: float, weight: str, fonts: tuple[str, ...]) -> float:
    """Return the width of a line in points; kept, since a page draws each chart light and dark with the same texts."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(size=size, weight=weight)
    wide, _, _ = _renderer().get_text_width_height_descent(text, font, ismath=False)
    return float(wide) / FINE


class Canvas:
    """Lays a chart out in points and measures its texts; a chart draws its panels in ``slots``."""

    def __init__(self, data: ChartData, size: tuple[float, float], theme: Theme) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.data, self.theme = data, theme
        self.figure: Figure = Figure(figsize=size, dpi=72)  # a pixel is a point
        self.canvas = FigureCanvasAgg(self.figure)
        self.width, self.height = size[0] * 72, size[1] * 72
        top = self._finding()
        bottom = self._footer()
        self.body = Box(EDGE, bottom, self.width - EDGE, top)

    # ---- text

    def measure(self, text: str, size: float = TEXT, weight: str = "normal") -> float:
        """Return the width of a line of text in points."""
        from matplotlib import rcParams

        return _width(text, size, weight, (*rcParams["font.family"], *rcParams["font.sans-serif"]))

    def shortened(self, text: str, width: float, size: float = TEXT) -> str:
        """Return a text that fits a width: its middle left out where it is too long."""
        if self.measure(text, size) <= width:
            return text
        for kept in range(len(text) - 1, 1, -1):
            head = -(-kept * 3 // 5)
            found = f"{text[:head].rstrip()}…{text[len(text) - (kept - head) :].lstrip()}"
            if self.measure(found, size) <= width:
                return found
        return "…"

    def wrapped(self, text: str, width: float, size: float, weight: str = "normal", most: int = 4) -> list[str]:
        """Break a text into lines that fit a width; what is beyond the last is left out with an ellipsis."""
        lines: list[str] = []
        for word in text.split():
            word = self.shortened(word, width, size * (1.1 if weight == "bold" else 1))
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.measure(longer, size, weight) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        if len(lines) > most:
            lines = [*lines[: most - 1], f"{lines[most - 1]} …"]
        return lines

    def write(self, x: float, y: float, text: str, *, size: float = TEXT, colour: str = "", **how: Any) -> None:
        """Write a line of text at a place in points from the lower left."""
        how.setdefault("va", "baseline")
        x, y = x / self.width, y / self.height
        self.figure.text(x, y, text, fontsize=size, color=colour or self.theme.ink, parse_math=False, **how)

    def _finding(self) -> float:
        y = self.height - EDGE - FINDING
        wide = self.width - 2 * EDGE
        for line in self._balanced(self.data.finding, wide):
            self.write(EDGE, y, line, size=FINDING, weight="bold")
            y -= FINDING * LINE
        return y + FINDING * LINE - 12

    def _balanced(self, text: str, width: float) -> list[str]:
        """Break the finding into as few lines as it needs, of about the same length."""
        found = self.wrapped(text, width, FINDING, "bold")
        for narrower in range(int(width), int(width / 2), -12):
            lines = self.wrapped(text, narrower, FINDING, "bold")
            if len(lines) > len(found) or "…" in "".join(lines) + text:
                break
            found = lines
        return found

    def _footer(self) -> float:
        wide = self.width - 2 * EDGE
        parts = (self.data.conventions, f"Source: {self.data.source}" if self.data.source else "")
        lines = [line for part in parts if part for line in self.wrapped(part, wide, SMALL, most=3)]
        y = EDGE
        for line in reversed(lines):
            self.write(EDGE, y, line, size=SMALL, colour=self.theme.muted)
            y += SMALL * LINE
        return y + (6 if lines else 0)

    # ---- panels

    def slots(self, count: int, columns: int, gap: float = 22.0, rows_gap: float = 20.0) -> list[Box]:
        """Return equal rectangles for panels, row by row."""
        columns = max(1, min(columns, count))
        rows = -(-count // columns)
        wide = (self.body.right - self.body.left - gap * (columns - 1)) / columns
        high = (self.body.top - self.body.bottom - rows_gap * (rows - 1)) / rows
        found = []
        for index in range(count):
            row, column = divmod(index, columns)
            left = self.body.left + column * (wide + gap)
            top = self.body.top - row * (high + rows_gap)
            found.append(Box(left, top - high, left + wide, top))
        return found

    def fitting(self, columns: int) -> int:
        """Return how many columns of panels a page of this width takes: half as many on a narrow one."""
        return columns if self.width >= NARROW else max(columns // 2, 1)

    def placed(self, panels: Sequence[Panel], columns: int) -> Iterator[tuple[Panel, Box]]:
        """Yield every panel with its slot, in as many columns as the page takes."""
        yield from zip(panels, self.slots(len(panels), self.fitting(columns)), strict=True)

    def axes(self, slot: Box) -> Axes:
        """Return axes that fill a slot; ``fit`` gives them room for what stands around them."""
        axes = self.figure.add_axes((0, 0, 1, 1))
        self.move(axes, slot)
        return axes

    def move(self, axes: Axes, box: Box) -> None:
        """Put axes into a rectangle."""
        wide, high = max(box.right - box.left, 10), max(box.top - box.bottom, 10)
        axes.set_position((box.left / self.width, box.bottom / self.height, wide / self.width, high / self.height))

    def fit(
        self, axes: Axes, slot: Box, panel: Panel, x: tuple[float, float], y: tuple[float, float], right: float = 0
    ) -> Box:
        """Scale axes, set their ticks and labels, and shrink them so that all of it stays in the slot.

        The label of y stands above the axis, where it is read without turning the head. ``right`` is room for labels
        beside the axes. Returns the rectangle of the axes.
        """
        for side, axis, ends in (("x", panel.x, x), ("y", panel.y, y)):
            if axis.scale == "log":
                getattr(axes, f"set_{side}scale")("log", base=axis.base)
            low, high = ends
            getattr(axes, f"set_{side}lim")(*((low / 2, high * 2) if low == high else ends))  # a single place
        up = max((slot.top - slot.bottom) / 38, 2)
        texts = self._ticks(axes, "y", panel.y, y, int(min(up, 8)))
        texts_below = self._below(axes, panel.x, x, slot.right - slot.left - right - 40)
        left = max((self.measure(text) for text in texts), default=0) + 7
        top = slot.top
        if panel.title:
            self.write(slot.left, top - LABEL, panel.title, size=LABEL, weight="bold")
            top -= LABEL * 1.5
        for line in self.wrapped(panel.y.label, slot.right - slot.left, LABEL, most=2) if panel.y.label else ():
            self.write(slot.left, top - LABEL, line, size=LABEL, colour=self.theme.muted)
            top -= LABEL * LINE
        top -= 7 if panel.y.label or panel.title else 0
        bottom = slot.bottom + (TEXT * 1.3 + 4 if texts_below else 0) + (LABEL * 1.35 if panel.x.label else 0)
        last = max((self.measure(said(panel.x, x[1])) / 2 + 2, right)) if panel.x.scale != "names" else right
        box = Box(slot.left + left, bottom, slot.right - last, top)
        self.move(axes, box)
        if panel.x.label:
            self.write(box.right, slot.bottom + 1, panel.x.label, size=LABEL, colour=self.theme.muted, ha="right")
        return box

    def _below(self, axes: Axes, axis: Axis, ends: tuple[float, float], room: float) -> list[str]:
        """Set as many ticks below the axes as there is room for."""
        for most in range(9, 2, -1):
            texts = self._ticks(axes, "x", axis, ends, most)
            if sum(self.measure(text) + 22 for text in texts) < room:
                return texts
        return self._ticks(axes, "x", axis, ends, 2)

    def _ticks(self, axes: Axes, side: str, axis: Axis, ends: tuple[float, float], most: int) -> list[str]:
        from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

        at = ticks(axis, *ends, most=max(most, 2))
        texts = [said(axis, value) for value in at]
        line = getattr(axes, f"{side}axis")
        line.set_major_locator(FixedLocator(at))
        line.set_minor_locator(NullLocator())
        line.set_major_formatter(FixedFormatter(texts))
        return texts

    def inside(self, axes: Axes, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the data lies on the page, in points."""
        found = axes.transData.transform((x, y))
        return float(found[0]), float(found[1])

    def segment(self, points: Sequence[tuple[float, float]], colour: str, width: float = 0.7) -> None:
        """Draw a thin line through places on the page."""
        from matplotlib.lines import Line2D

        xs, ys = ([place[side] / of for place in points] for side, of in ((0, self.width), (1, self.height)))
        self.figure.add_artist(Line2D(xs, ys, color=colour, linewidth=width, transform=self.figure.transFigure))
