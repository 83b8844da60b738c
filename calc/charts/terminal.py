"""Charts drawn with characters: no colour, no more columns than there are, the same in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from string import ascii_letters

from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.ticks import limits, padded, said, ticks
from calc.errors import printable

ROWS = 16
NARROWEST, WIDEST = 40, 120
FULL, PARTS = "█", "▏▎▍▌▋▊▉"
FILLS = "█▓▒░▚▞"


def drawn(data: ChartData, width: int = 80) -> str:
    """Return a chart as lines of text, at most ``width`` wide."""
    width = max(NARROWEST, min(width, WIDEST))
    lines = [*wrapped(data.finding, width), ""]
    for panel in data.panels:
        lines += [*wrapped(panel.title, width)] if panel.title else []
        lines += list(_panel(panel, width))
        lines.append("")
    for text in (data.conventions, f"source: {data.source}" if data.source else ""):
        lines += wrapped(text, width) if text else []
    return "\n".join(line.rstrip() for line in lines) + "\n"


def wrapped(text: str, width: int) -> list[str]:
    """Break a text between words."""
    from textwrap import wrap

    return wrap(printable(text), width) or [""]


def shortened(text: str, width: int) -> str:
    """Return a text of at most ``width`` characters, its middle left out."""
    text = printable(text)
    if len(text) <= width:
        return text
    head = (width - 1) * 3 // 5
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _panel(panel: Panel, width: int) -> Iterator[str]:
    if panel.cells is not None:
        yield from _table(panel, width) if panel.cells.texts else _mask(panel, width)
    elif any(series.look == "bar" for series in panel.series):
        yield from _bars(panel, width)
    else:
        yield from _plot(panel, width)


# ---- bars


def bar(share: float, width: int) -> str:
    """Return a bar of a share of a width, to an eighth of a character.

    >>> bar(0.5, 4), bar(0.28, 4)
    ('██', '█▏')
    """
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return FULL * whole + (PARTS[rest - 1] if rest else "")


def _bars(panel: Panel, width: int) -> Iterator[str]:
    """Yield one line for each name: a bar of its parts in different fills, and the figure behind it."""
    parts = [series for series in panel.series if series.look == "bar"]
    totals = [0.0] * len(panel.y.names)
    for series in parts:
        for place, value in zip(series.y, series.x, strict=True):
            totals[int(place)] += value
    behind = next((series.texts for series in panel.series if series.texts), tuple(said(panel.x, t) for t in totals))
    names = [shortened(name, width // 3) for name in panel.y.names]
    label, tail = max(map(len, names)), max(map(len, behind))
    room = max(width - label - tail - 4, 8)
    yield from wrapped(panel.y.label, width)
    if len(parts) > 1:
        keys = [f"{FILLS[number % len(FILLS)]} {series.name}" for number, series in enumerate(parts)]
        yield from wrapped("   ".join(keys), width)
    top = panel.x.high or max(totals) or 1.0
    for row, (name, text) in enumerate(zip(names, behind, strict=True)):
        if len(parts) == 1:
            drawn_bar = bar(totals[row] / top, room)
        else:
            drawn_bar = _stacked([_at(series, row) / top for series in parts], room)
        yield f"{name:>{label}}  {drawn_bar:<{room}}  {text}"


def _at(series: Series, row: int) -> float:
    return sum(value for place, value in zip(series.y, series.x, strict=True) if int(place) == row)


def _stacked(shares: list[float], room: int) -> str:
    """Return parts side by side; each ends where the sum so far does, so that rounding does not add up."""
    found, total = "", 0.0
    for number, share in enumerate(shares):
        total += share
        found += FILLS[number % len(FILLS)] * (round(total * room) - len(found))
    return found


# ---- lines and points


def _plot(panel: Panel, width: int) -> Iterator[str]:
    """Yield a grid in which each series is a letter, and what the letters stand for."""
    moving = [series for series in panel.series if series.look != "limit"]
    fixed = [series for series in panel.series if series.look == "limit" and len(set(series.y)) == 1]
    x = limits(panel.x, [value for series in moving for value in series.x])
    y = padded(
        panel.y, *limits(panel.y, [v for s in (*moving, *fixed) for ends in (s.y, s.low, s.high) for v in ends or ()])
    )
    marks = {
        _line(panel.y, y, value): said(panel.y, value) for value in ticks(panel.y, *y, most=6) if y[0] <= value <= y[1]
    }
    left = max((len(text) for text in marks.values()), default=0)
    room = width - left - 2
    grid = [[" "] * room for _ in range(ROWS)]
    for series in fixed:
        row = _line(panel.y, y, series.y[0])
        if 0 <= row < ROWS:
            grid[row] = list(f"╌ {shortened(series.name, room - 4)} ".ljust(room, "╌"))
    keys = _letters(moving)
    for series, letters in zip(moving, keys, strict=True):
        for column, row, number in _course(panel, series, x, y, room):
            if 0 <= row < ROWS and 0 <= column < room:
                grid[row][column] = letters[number]
    yield from wrapped(panel.y.label, width)
    for row, cells in enumerate(grid):
        yield f"{marks.get(row, ''):>{left}} {'┤' if row in marks else '│'}{''.join(cells)}"
    yield f"{'':>{left}} └{'─' * room}"
    yield f"{'':>{left}}  {_below(panel.x, x, room)}"
    yield f"{panel.x.label:>{width}}"
    yield from _legend(panel, moving, keys, width)


def _share(axis: Axis, ends: tuple[float, float], value: float) -> float:
    low, high = ends
    if axis.scale == "log":
        return log(max(value, 1e-300) / low) / log(high / low)
    return (value - low) / (high - low)


def _line(axis: Axis, ends: tuple[float, float], value: float) -> int:
    return round((1 - _share(axis, ends, value)) * (ROWS - 1))


def _letters(moving: list[Series]) -> list[str]:
    """Return the letters of each series: one for a line, one for each point that has a text."""
    found, used = [], 0
    for series in moving:
        count = len(series.x) if series.look == "points" and series.texts else 1
        letters = "".join(ascii_letters[(used + index) % 52] for index in range(count))
        found.append(letters if count > 1 else letters * len(series.x))
        used += count
    return found


def _course(
    panel: Panel, series: Series, x: tuple[float, float], y: tuple[float, float], room: int
) -> Iterator[tuple[int, int, int]]:
    """Yield (column, row, index of the value) of what a series covers; a line covers every column between."""
    at = [(_share(panel.x, x, a), _share(panel.y, y, b)) for a, b in zip(series.x, series.y, strict=True)]
    for number, (across, up) in enumerate(at):
        yield round(across * (room - 1)), round((1 - up) * (ROWS - 1)), number
        if series.look == "line" and number + 1 < len(at):
            then = at[number + 1]
            steps = max(2 * abs(round((then[0] - across) * room)), 1)
            for step in range(1, steps):
                part = step / steps
                height = up + (then[1] - up) * part
                yield round((across + (then[0] - across) * part) * (room - 1)), round((1 - height) * (ROWS - 1)), number


def _below(axis: Axis, ends: tuple[float, float], room: int) -> str:
    for most in range(7, 1, -1):
        line = ""
        for value in ticks(axis, *ends, most=most):
            text = said(axis, value)
            column = round(_share(axis, ends, value) * (room - 1)) - len(text) // 2
            column = min(max(column, 0), room - len(text))
            if line and column < len(line) + 1:
                break
            line = line.ljust(column) + text
        else:
            return line
    return line


def _legend(panel: Panel, moving: list[Series], keys: list[str], width: int) -> Iterator[str]:
    entries = []
    for series, letters in zip(moving, keys, strict=True):
        if series.look == "points" and series.texts:
            entries += [f"{letters[i]} {shortened(text, width // 2 - 4)}" for i, text in enumerate(series.texts)]
        else:
            entries.append(
                f"{letters[0]} {shortened(series.name, width // 2 - 14)}  {said(panel.y, _rounded(series.y[-1]))}"
            )
    wide = max(map(len, entries)) + 3
    columns = max(width // wide, 1)
    rows = -(-len(entries) // columns)
    for row in range(rows):
        yield "".join(f"{entry:<{wide}}" for entry in entries[row::rows])


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


# ---- matrices


def _mask(panel: Panel, width: int) -> Iterator[str]:
    """Yield two rows of cells in each line of half blocks."""
    assert panel.cells is not None
    values = panel.cells.values
    for upper in range(0, len(values), 2):
        lower = values[upper + 1] if upper + 1 < len(values) else (0.0,) * len(values[0])
        yield "".join(" ▄▀█"[2 * bool(a) + bool(b)] for a, b in zip(values[upper], lower, strict=True))
    yield from wrapped(panel.note.replace("\n", ", "), width)


def _table(panel: Panel, width: int) -> Iterator[str]:
    """Yield a row for each name; a cell that is not whole shows its share."""
    cells = panel.cells
    assert cells is not None
    label = min(max(map(len, panel.y.names)), width // 4)
    wide = max((width - label) // len(panel.x.names) - 1, 4)
    heads = [wrapped(name, wide) for name in panel.x.names]
    for line in range(max(map(len, heads))):
        yield " " * label + "".join(f" {(head[line] if line < len(head) else ''):>{wide}}" for head in heads)
    for name, values, texts in zip(panel.y.names, cells.values, cells.texts, strict=True):
        shown = (text if value in (None, 1.0) else f"{value:.0%}!" for value, text in zip(values, texts, strict=True))
        yield f"{shortened(name, label):<{label}}" + "".join(f" {text or '·':>{wide}}" for text in shown)
