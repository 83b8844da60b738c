"""Charts inside a page: SVG without fixed colours, so that one drawing serves a light page, a dark one and paper."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

from calc.charts.chart import Size
from calc.charts.picture import Picture
from calc.records import Record, record

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
DROPPED = ("metadata",)
LARGER = 1.65
"""Most pixels of a page for each point of a drawing: beyond, text would be larger than the page's."""


@record
class Inline(Record):
    """An ``<svg>`` element for a page, and the custom properties that it is coloured with: (light, dark) by name."""

    markup: str
    colours: Mapping[str, tuple[str, str]]


def inline(picture: Picture, size: Size | None, prefix: str) -> Inline:
    """Return a picture as an element of a page: ids begin with ``prefix``, the finding is its accessible name.

    The picture is drawn light and dark; where the two differ, a custom property takes the place of the colour.
    """
    light, dark = (_parsed(picture.svg(size, dark=dark)) for dark in (False, True))
    colours: dict[str, tuple[str, str]] = {}
    for one, other in zip(light.iter(), dark.iter(), strict=True):
        for name in ("style", "fill", "stroke"):
            if name in one.attrib:
                one.attrib[name] = _merged(one.attrib[name], other.attrib[name], colours)
        _rename(one, prefix)
    for child in [child for child in light if child.tag.partition("}")[2] in DROPPED]:
        light.remove(child)
    wide = float(light.attrib["viewBox"].split()[2])
    for name in ("width", "height", "version"):
        light.attrib.pop(name, None)
    light.attrib["style"] = f"max-width: {wide * LARGER:.0f}px"
    _described(light, picture, prefix)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return Inline(ElementTree.tostring(light, encoding="unicode"), colours)


def _parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.sub(r"<!DOCTYPE.*?>", "", text, flags=re.DOTALL))


def _merged(light: str, dark: str, colours: dict[str, tuple[str, str]]) -> str:
    """Return a style in which colours that differ between the pages are custom properties."""
    others = iter(COLOUR.findall(dark))

    def property_of(match: re.Match[str]) -> str:
        other = next(others)
        if match[0] == other:
            return match[0]
        name = f"--c-{match[0][1:]}-{other[1:]}"
        colours[name] = (match[0], other)
        return f"var({name})"

    return COLOUR.sub(property_of, light)


def _rename(element: ElementTree.Element, prefix: str) -> None:
    """Make ids, and what refers to them, the chart's own."""
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.attrib[name] = prefix + value
        elif name in ("href", f"{{{XLINK}}}href") and value.startswith("#"):
            element.attrib[name] = f"#{prefix}{value[1:]}"
        elif "url(#" in value:
            element.attrib[name] = value.replace("url(#", f"url(#{prefix}")


def _described(root: ElementTree.Element, picture: Picture, prefix: str) -> None:
    """Give a drawing its name and description for those who do not see it."""
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}title {prefix}desc"}
    title, described = (ElementTree.Element(f"{{{SVG}}}{tag}", {"id": prefix + tag}) for tag in ("title", "desc"))
    title.text, described.text = picture.data.finding, " ".join(description(picture))
    root.insert(0, title)
    root.insert(1, described)


def description(picture: Picture) -> Iterator[str]:
    """Yield sentences that say what a chart shows to somebody who does not see it: axes, series, their ends."""
    from calc.charts.drawing.ticks import said

    for panel in picture.data.panels:
        yield f"{panel.title or panel.y.label}." if panel.title or panel.y.label else ""
        if panel.x.label:
            yield f"Against {panel.x.label}."
        for series in panel.series:
            if series.look == "line" and series.x:
                first, last = (said(panel.y, float(f"{series.y[at]:.4g}")) for at in (0, -1))
                yield f"{series.name}: from {first} to {last}."
        if panel.note:
            yield panel.note.replace("\n", ", ") + "."
