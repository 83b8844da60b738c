"""Records are made as dataclasses are."""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError
from functools import cached_property

import pytest

from calc.records import Record, record, replace


@record
class Point(Record):
    """Two numbers."""

    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")

    @cached_property
    def total(self) -> int:
        """Their sum."""
        return self.x + self.y


def test_fields_are_given_by_position_or_by_name() -> None:
    assert Point(1, 2) == Point(1, y=2) == Point(x=1, y=2)
    assert Point(1).y == 0


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((1,), {"x": 2}, "is given x twice"),
        ((1, 2), {"x": 1, "y": 2}, "is given x, y twice"),
        ((1, 2, 3), {}, "takes 2 positional arguments, not 3"),
        ((), {}, "needs x"),
        ((1,), {"z": 1}, "has no field z"),
    ],
)
def test_what_cannot_be_given(args: tuple[int, ...], kwargs: dict[str, int], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Point(*args, **kwargs)


def test_a_record_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Point(1).x = 2  # type: ignore[misc]


def test_replacing_does_what_dataclasses_do() -> None:
    point = Point(1, 2)
    assert point.total == 3
    for one in (point, Point(1, 2)):
        changed = replace(one, y=5)
        assert changed == dataclasses.replace(one, y=5) == Point(1, 5)
        assert hash(changed) == hash(Point(1, 5))
        assert changed.total == 6
        with pytest.raises(TypeError, match="z"):
            replace(one, z=1)
        with pytest.raises(ValueError, match="negative"):
            replace(one, x=-1)
