"""A chart that has been answered, to be drawn at any size, saved, shown in a notebook or a terminal."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc.charts.chart import Chart, Size
from calc.charts.data import ChartData
from calc.checks import number, one_of
from calc.errors import SpecError, shortened
from calc.files import write_whole
from calc.records import Record, record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
DPI = 150
SMALLEST, LARGEST = 2.0, 60.0
"""Inches."""


@record
class Picture(Record):
    """What ``calc.plot`` returns. Notebooks show it; ``save`` writes a file; ``text`` draws with characters."""

    kind: Chart
    data: ChartData

    def figure(self, size: Size | None = None, *, dark: bool = False) -> Figure:
        """Return a matplotlib figure, drawn in the house style without changing the global one."""
        from calc.charts.style import applied, theme

        with applied(theme(dark)):
            return self._drawn(size, dark)

    def _drawn(self, size: Size | None, dark: bool) -> Figure:
        from calc.charts.drawing.canvas import Canvas
        from calc.charts.style import theme

        size = size or self.kind.size(self.data)
        if not all(SMALLEST <= side <= LARGEST for side in size):
            raise SpecError(f"size = {size[0]:g}x{size[1]:g} is not from {SMALLEST:g} to {LARGEST:g} inches each way")
        canvas = Canvas(self.data, size, theme(dark))
        self.kind.draw(self.data, canvas)
        return canvas.figure

    def to_bytes(self, form: str, size: Size | None = None, *, dark: bool = False, dpi: int = DPI) -> bytes:
        """Return a picture as PNG, SVG or PDF: the same bytes every time.

        Raises:
            SpecError: another format, a size or resolution that cannot be.
        """
        from calc.charts.style import applied, theme

        one_of("format", form, FORMATS)
        number("dpi", dpi, least=30, most=1200)
        buffer = io.BytesIO()
        with applied(theme(dark)), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a reader's font may have it
            figure = self._drawn(size, dark)
            about: dict[str, Any] = {"Title": self.data.finding}
            about |= {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
            figure.savefig(buffer, format=form, dpi=dpi, metadata=about)
        return smaller(buffer.getvalue()) if form == "png" else buffer.getvalue()

    def svg(self, size: Size | None = None, *, dark: bool = False) -> str:
        """Return an SVG whose text stays text."""
        return self.to_bytes("svg", size, dark=dark).decode()

    def save(self, path: str | Path, size: Size | None = None, *, dark: bool = False, dpi: int = DPI) -> Path:
        """Write a picture, whole or not at all, in the format that the file's name ends in.

        Raises:
            SpecError: the name ends in none of png, svg, pdf; the file cannot be written.
        """
        target = Path(path)
        form = target.suffix.lower().removeprefix(".")
        if form not in FORMATS:
            raise SpecError(f"{shortened(str(path))} does not end in .png, .svg or .pdf")
        write_whole(target, self.to_bytes(form, size, dark=dark, dpi=dpi))
        return target

    def text(self, width: int = 80) -> str:
        """Return the chart drawn with characters, without colour."""
        from calc.charts.terminal import drawn

        return drawn(self.data, width)

    def _repr_svg_(self) -> str:
        return self.svg()


def smaller(png: bytes) -> bytes:
    """Return a PNG of 256 colours at most: charts have few, and it is a third of the size."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(colors=256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="png", optimize=True, dpi=image.info.get("dpi"))
    return buffer.getvalue()
