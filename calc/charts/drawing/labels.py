"""Where labels go: arithmetic on rectangles in points, without matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import hypot, inf
from typing import TypeAlias

from calc.records import Record, record

Point: TypeAlias = tuple[float, float]
Way: TypeAlias = tuple[Point, Point]


@record
class Box(Record):
    """A rectangle; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area that two rectangles share."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return wide * high if wide > 0 and high > 0 else 0.0

    def holds(self, x: float, y: float) -> bool:
        """Tell whether a point lies inside."""
        return self.left <= x <= self.right and self.bottom <= y <= self.top

    def along(self, way: Way) -> float:
        """Return how much of a straight way lies inside.

        >>> Box(0, 0, 10, 10).along(((-5, 5), (5, 5)))
        5.0
        """
        (x0, y0), (x1, y1) = way
        start, end = 0.0, 1.0
        for at, run, low, high in ((x0, x1 - x0, self.left, self.right), (y0, y1 - y0, self.bottom, self.top)):
            if run:
                ends = ((low - at) / run, (high - at) / run)
                start, end = max(start, min(ends)), min(end, max(ends))
            elif not low <= at <= high:
                return 0.0
        return max(end - start, 0.0) * hypot(x1 - x0, y1 - y0)

    def outside(self, bounds: Box) -> float:
        """Return how far a rectangle sticks out of another."""
        return sum(
            max(0.0, excess)
            for excess in (
                bounds.left - self.left,
                self.right - bounds.right,
                bounds.bottom - self.bottom,
                self.top - bounds.top,
            )
        )


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return the middles of labels in a column: as near to the wanted ones as they get without overlaps.

    Labels that touch are moved together by the mean of what each wants (the pool-adjacent-violators rule), which keeps
    the squared distances least. Where they need more room than there is, they share it evenly.

    >>> spread([10, 11, 50], [4, 4, 4], 0, 100)
    [8.5, 12.5, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    room = high - low
    total = sum(heights)
    scale = min(1.0, room / total) if total else 1.0
    pools: list[tuple[list[int], float]] = []  # members from below, and the lower edge of the first
    for index in order:
        pools.append(([index], wanted[index] - heights[index] * scale / 2))
        while len(pools) > 1 and _upper(pools[-2], heights, scale) > pools[-1][1] + 1e-9:
            members = pools[-2][0] + pools.pop()[0]
            pools[-1] = (members, _edge(members, wanted, heights, scale))
        pools[-1] = (pools[-1][0], _within(pools[-1], heights, scale, low, high))
        while len(pools) > 1 and _upper(pools[-2], heights, scale) > pools[-1][1] + 1e-9:
            members = pools[-2][0] + pools.pop()[0]
            edge = _edge(members, wanted, heights, scale)
            pools[-1] = (members, _within((members, edge), heights, scale, low, high))
    found = [0.0] * len(wanted)
    for members, edge in pools:
        at = edge
        for index in members:
            found[index] = at + heights[index] * scale / 2
            at += heights[index] * scale
    return found


def _upper(pool: tuple[list[int], float], heights: Sequence[float], scale: float) -> float:
    return pool[1] + sum(heights[index] for index in pool[0]) * scale


def _edge(members: list[int], wanted: Sequence[float], heights: Sequence[float], scale: float) -> float:
    """Return the lower edge that lets the members be as near as possible to what they want."""
    total, before = 0.0, 0.0
    for index in members:
        total += wanted[index] - before - heights[index] * scale / 2
        before += heights[index] * scale
    return total / len(members)


def _within(pool: tuple[list[int], float], heights: Sequence[float], scale: float, low: float, high: float) -> float:
    size = sum(heights[index] for index in pool[0]) * scale
    return max(low, min(pool[1], high - size))


DIRECTIONS: tuple[tuple[float, float], ...] = (
    (1, 0), (1, 1), (0, 1), (-1, 0), (-1, 1), (1, -1), (0, -1), (-1, -1),
    (0.3, 1), (-0.3, 1), (0.3, -1), (-0.3, -1), (1, 0.3), (-1, 0.3), (1, -0.3), (-1, -0.3),
)  # fmt: skip
DISTANCES = (6.0, 14.0, 26.0)
BESIDE = 11.0
"""Up to this far from its point a label needs no leader."""
SWEEPS = 12
"""Times that labels look for a better place, once all the others have one."""


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    taken: Iterable[Box] = (),
    crossed: Sequence[tuple[float, float]] = (),
    unnamed: Sequence[tuple[float, float]] = (),
    distances: Sequence[float] = DISTANCES,
) -> list[Box | None]:
    """Return a place for a label beside each point, or None where every place would hide another label.

    Tried are sixteen directions at some distances; a place costs what it covers of other points (``unnamed``: those
    that have no label), of lines (``crossed``: places along them) and of other labels' leaders, what its own leader
    runs through, and how far it is. Labels choose one after the other and again, in several orders; the best is taken.
    """
    every = dict.fromkeys((*points, *unnamed))
    fixed, dots = list(taken), {(x, y): Box(x - 4, y - 4, x + 4, y + 4) for x, y in every}
    choices = [
        _choices(at, size, bounds, fixed, [dot for other, dot in dots.items() if other != at], crossed, distances)
        for at, size in zip(points, sizes, strict=True)
    ]
    numbers = range(len(choices))
    across = sorted(numbers, key=lambda number: points[number])
    settled = [_settled(choices, order) for order in (numbers, numbers[::-1], across, across[::-1])]
    _, best = min(settled, key=lambda one: one[0])
    return _apart([one.box if one else None for one in best])


def _settled(choices: Sequence[Sequence[_Place]], order: Sequence[int]) -> tuple[float, list[_Place | None]]:
    """Return places that no label alone would change for another, and what they cost together."""
    found: list[_Place | None] = [None] * len(choices)

    def others(number: int) -> list[_Place]:
        return [other for index, other in enumerate(found) if other and index != number]

    for _ in range(SWEEPS):
        before = list(found)
        for number in order:
            found[number] = _cheapest(choices[number], others(number))
        if found == before:
            break
    return sum(one.cost + one.beside(others(number)) / 2 for number, one in enumerate(found) if one), found


def _cheapest(choices: Sequence[_Place], others: Sequence[_Place]) -> _Place | None:
    """Return the place that costs least beside others; ``choices`` stand in the order of what they cost alone."""
    best, least = None, inf
    for one in choices:
        if one.cost >= least:
            break
        if (cost := one.cost + one.beside(others)) < least:
            best, least = one, cost
    return best


def _apart(boxes: Sequence[Box | None]) -> list[Box | None]:
    """Leave out what still overlaps a label that stands before it."""
    found: list[Box | None] = []
    for box in boxes:
        hides = box and any(box.overlap(other) for other in found if other)
        found.append(None if hides else box)
    return found


@record
class _Place(Record):
    """Where a label may go, the leader to it, and what that costs whatever other labels do."""

    box: Box
    run: Way | None
    whole: Box
    """What both together take up."""
    cost: float

    def beside(self, others: Iterable[_Place]) -> float:
        """Return what it costs that labels overlap, that leaders run through them, or that leaders cross."""
        total = 0.0
        for other in others:
            if not self.whole.overlap(other.whole):
                continue
            total += 200 if self.box.overlap(other.box) else 0
            total += 10 * other.box.along(self.run) if self.run else 0
            total += 10 * self.box.along(other.run) if other.run else 0
            total += 30 if self.run and other.run and _cross(self.run, other.run) else 0
        return total


def _choices(
    at: tuple[float, float],
    size: tuple[float, float],
    bounds: Box,
    taken: Sequence[Box],
    dots: Sequence[Box],
    crossed: Sequence[tuple[float, float]],
    distances: Sequence[float],
) -> list[_Place]:
    found = []
    for far, distance in enumerate(distances):
        for turn, (right, up) in enumerate(DIRECTIONS):
            box = _beside(*at, right, up, distance, size)
            if abs(right) < 1:  # above or below: moved into the panel
                box = _moved(box, max(bounds.left - box.left, 0.0) - max(box.right - bounds.right, 0.0))
            if box.outside(bounds) or any(box.overlap(other) for other in taken):
                continue
            run = leader(box, at)
            covers = sum(box.overlap(dot) > 0 for dot in dots)
            hidden = sum(box.holds(*along) for along in crossed)
            through = sum(one.along(run) for one in (*taken, *dots)) if run else 0
            cost = 80 * covers + 12 * hidden + 10 * through + 10 * far + turn
            found.append(_Place(box, run, _around(box, at), cost))
    return sorted(found, key=lambda one: one.cost)


def _around(box: Box, at: tuple[float, float]) -> Box:
    x, y = at
    return Box(min(box.left, x), min(box.bottom, y), max(box.right, x), max(box.top, y))


def _cross(one: Way, other: Way) -> bool:
    """Tell whether two ways cross."""

    def side(a: Point, b: Point, c: Point) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    (a, b), (c, d) = one, other
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def nearest(box: Box, at: tuple[float, float]) -> tuple[float, float]:
    """Return the place of a rectangle that is nearest to a point."""
    return min(max(at[0], box.left), box.right), min(max(at[1], box.bottom), box.top)


def leader(box: Box, at: Point) -> Way | None:
    """Return the line that joins a point and its label, None where the label is beside it.

    >>> leader(Box(10, 0, 20, 8), (0, 0)), leader(Box(20, 0, 30, 8), (0, 4))
    (None, ((0, 4), (20, 4)))
    """
    end = nearest(box, at)
    return (at, end) if max(abs(end[0] - at[0]), abs(end[1] - at[1])) > BESIDE else None


def _moved(box: Box, right: float) -> Box:
    return Box(box.left + right, box.bottom, box.right + right, box.top)


def _beside(x: float, y: float, right: float, up: float, distance: float, size: tuple[float, float]) -> Box:
    wide, high = size
    near = distance if not (right and up) else distance * 0.7
    left = x + near * right - (wide if right < 0 else 0 if right > 0 else wide / 2)
    bottom = y + near * up - (high if up < 0 else 0 if up > 0 else high / 2)
    return Box(left, bottom, left + wide, bottom + high)


def place_along(
    courses: Sequence[Sequence[tuple[float, float]]], sizes: Sequence[tuple[float, float]], bounds: Box
) -> list[tuple[Box, tuple[float, float]] | None]:
    """Return a place for the label of each line and the place on the line that it belongs to, or None.

    Every label tries several places along its line. It costs to cover lines, to be far, and to belong to a place where
    another line is near.
    """
    placed: list[Box] = []
    found: list[tuple[Box, tuple[float, float]] | None] = []
    for number, (course, size) in enumerate(zip(courses, sizes, strict=True)):
        others = [at for other, line in enumerate(courses) if other != number for at in line]
        best: tuple[float, Box, tuple[float, float]] | None = None
        for at in course[len(course) // 10 :: max(len(course) // 14, 1)]:
            apart = min((abs(x - at[0]) + abs(y - at[1]) for x, y in others), default=99.0)
            lonely = max(0.0, 24 - apart)
            for far, distance in enumerate(DISTANCES[:2]):
                for turn, (right, up) in enumerate(DIRECTIONS[:8]):
                    box = _beside(*at, right, up, distance, size)
                    if box.outside(bounds) or any(box.overlap(other) for other in placed):
                        continue
                    near = Box(box.left - 3, box.bottom - 2, box.right + 3, box.top + 2)
                    hidden = sum(near.holds(*place) for place in others)
                    hidden += sum(box.holds(*place) for place in course)
                    cost = 12 * hidden + 8 * far + turn + 2 * lonely
                    if best is None or cost < best[0]:
                        best = (cost, box, at)
        found.append((best[1], best[2]) if best else None)
        if best:
            placed.append(best[1])
    return found
