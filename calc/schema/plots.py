"""Charts: the values of one, the list of all, the files of the gallery."""

from __future__ import annotations

from typing import Literal

from calc.schema.base import Answer, Document


class AxisFacts(Document):
    """A side of a panel; on an axis of ``names`` a value is the index of a name."""

    label: str
    unit: str
    scale: Literal["linear", "log", "names"]
    names: list[str]


class SeriesFacts(Document):
    """Values that belong together; ``low`` and ``high`` where they are estimated or modelled."""

    name: str
    look: Literal["line", "bar", "points", "limit"]
    x: list[int | float]
    y: list[int | float]
    low: list[int | float] | None
    high: list[int | float] | None
    provenance: Literal["exact", "modelled", "estimate"]


class MarkFacts(Document):
    """A place that is marked."""

    x: int | float
    y: int | float
    text: str


class PanelFacts(Document):
    """A pair of axes and what stands in it; ``cells`` is a matrix from the top row down."""

    title: str
    x: AxisFacts
    y: AxisFacts
    series: list[SeriesFacts]
    marks: list[MarkFacts]
    cells: list[list[int | float | None]] | None


class Plot(Answer):
    """``calc plot NAME --format json``."""

    kind: Literal["plot"]
    chart: str
    finding: str
    conventions: str
    source: str
    panels: list[PanelFacts]


class ChartFacts(Document):
    """A line of ``calc plot --list``; ``models`` are those of the gallery."""

    name: str
    about: str
    least: int
    most: int
    takes: list[str]
    models: list[str]


class Charts(Answer):
    """``calc plot --list``."""

    kind: Literal["charts"]
    charts: list[ChartFacts]


class FileFacts(Document):
    """A file that was written."""

    name: str
    bytes: int


class Gallery(Answer):
    """``calc plot --all``."""

    kind: Literal["gallery"]
    folder: str
    files: list[FileFacts]
