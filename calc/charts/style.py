"""Colours of a light and a dark page, and the style applied while one chart is drawn: never at import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calc.records import Record, named_record

HOUSE = Path(__file__).parent / "house.mplstyle"


@named_record
class Theme(Record):
    """The colours of a page.

    ``cycle`` is the colour-blind-safe palette of Okabe and Ito (2008, jfly.uni-koeln.de/color) without its yellow,
    which no line on white can have; on a dark page the same hues, lighter.
    """

    name: str
    page: str
    ink: str
    muted: str
    rule: str
    grid: str
    cycle: tuple[str, ...]
    neutral: str
    """For what is not compared: limits, guides."""
    good: str
    bad: str


LIGHT = Theme(
    name="light",
    page="#ffffff",
    ink="#1b1f24",
    muted="#57606a",
    rule="#8c959f",
    grid="#e6e9ed",
    cycle=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#4d4d4d"),
    neutral="#7a838d",
    good="#009e73",
    bad="#d55e00",
)
DARK = Theme(
    name="dark",
    page="#0d1117",
    ink="#e6edf3",
    muted="#9aa4af",
    rule="#6e7681",
    grid="#21262d",
    cycle=("#58a6e6", "#ff8a4c", "#2fc498", "#e59bc5", "#f2b33d", "#93d3f7", "#b49ae0", "#c2c9d1"),
    neutral="#87909b",
    good="#2fc498",
    bad="#ff8a4c",
)
DASHES: tuple[object, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.4)), (0, (5, 1.5, 1, 1.5)))
"""Line styles, one for each round through the colours, so that nothing is told apart by colour alone."""


def theme(dark: bool) -> Theme:
    """Return the colours of a page."""
    return DARK if dark else LIGHT


def colour(theme: Theme, index: int) -> str:
    """Return the colour of the series with this number."""
    return theme.cycle[index % len(theme.cycle)]


def dashes(theme: Theme, index: int) -> object:
    """Return the dashes of the series with this number."""
    return DASHES[index // len(theme.cycle) % len(DASHES)]


def luminance(hexadecimal: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    channels = (int(hexadecimal[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2): 1 to 21.

    >>> round(contrast("#ffffff", "#000000"))
    21
    """
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def mixed(one: str, other: str, share: float) -> str:
    """Return a colour between two: ``share`` of the other.

    >>> mixed("#000000", "#ffffff", 0.5)
    '#808080'
    """
    pairs = ((int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def readable(colour: str, theme: Theme, ratio: float = 4.5) -> str:
    """Return a colour for text: moved towards the ink until its contrast with the page is enough.

    >>> contrast(readable("#e69f00", LIGHT), LIGHT.page) >= 4.5
    True
    """
    for step in range(21):
        found = mixed(colour, theme.ink, step / 20)
        if contrast(found, theme.page) >= ratio:
            return found
    return theme.ink


def upon(colour: str) -> str:
    """Return black or white, whichever is easier to read on a colour; not quite black, which SVG would leave out."""
    return max(("#010101", "#ffffff"), key=lambda ink: contrast(ink, colour))


@contextmanager
def applied(theme: Theme) -> Iterator[None]:
    """Apply the house style and a page's colours to matplotlib, and restore what was set before."""
    import matplotlib

    colours: Any = {
        "figure.facecolor": theme.page,
        "savefig.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "axes.edgecolor": theme.rule,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "text.color": theme.ink,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "grid.color": theme.grid,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(matplotlib.rc_params_from_file(HOUSE, use_default_template=False))
        matplotlib.rcParams.update(colours)
        yield
