"""Where labels go: arithmetic on rectangles in points, without matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from calc.records import Record, record


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


DIRECTIONS = ((1, 0), (1, 1), (0, 1), (-1, 0), (-1, 1), (1, -1), (0, -1), (-1, -1))
DISTANCES = (6.0, 14.0, 26.0)


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    taken: Iterable[Box] = (),
    crossed: Sequence[tuple[float, float]] = (),
) -> list[Box | None]:
    """Return a place for a label beside each point, or None where every place would hide another label.

    Tried are eight directions at three distances; a place costs what it covers of other points and of lines
    (``crossed``: points along them) and how far it is. Points given first choose first.
    """
    placed = list(taken)
    dots = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    found: list[Box | None] = []
    for number, ((x, y), size) in enumerate(zip(points, sizes, strict=True)):
        best: tuple[float, Box] | None = None
        for far, distance in enumerate(DISTANCES):
            for turn, (right, up) in enumerate(DIRECTIONS):
                box = _beside(x, y, right, up, distance, size)
                if box.outside(bounds) or any(box.overlap(other) for other in placed):
                    continue
                covers = sum(box.overlap(dot) > 0 for other, dot in enumerate(dots) if other != number)
                hidden = sum(box.holds(*at) for at in crossed)
                cost = 40 * covers + 12 * hidden + 10 * far + turn
                if best is None or cost < best[0]:
                    best = (cost, box)
        found.append(best[1] if best else None)
        if best:
            placed.append(best[1])
    return found


def _beside(x: float, y: float, right: int, up: int, distance: float, size: tuple[float, float]) -> Box:
    wide, high = size
    near = distance if not (right and up) else distance * 0.7
    left = x + near if right > 0 else x - near - wide if right < 0 else x - wide / 2
    bottom = y + near if up > 0 else y - near - high if up < 0 else y - high / 2
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
                for turn, (right, up) in enumerate(DIRECTIONS):
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
