"""Records are made as dataclasses are."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from calc.records import Record, record


@record
class Point(Record):
    """Two numbers."""

    x: int
    y: int = 0


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
