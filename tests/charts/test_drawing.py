"""Labels, ticks, colours: what every chart is drawn with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.charts.data import Axis
from calc.charts.drawing.labels import Box, leader, place, spread
from calc.charts.drawing.points import FURTHER
from calc.charts.drawing.ticks import limits, padded, said, ticks
from calc.charts.style import DARK, LIGHT, Theme, applied, contrast, readable, upon

POSITIONS = st.lists(st.tuples(st.floats(-50, 150), st.floats(1, 12)), min_size=1, max_size=20)


@given(POSITIONS)
def test_spread_labels_touch_but_never_overlap_while_there_is_room(wanted: list[tuple[float, float]]) -> None:
    middles = spread([at for at, _ in wanted], [height for _, height in wanted], 0, 100)
    spans = sorted((middle - h / 2, middle + h / 2) for middle, (_, h) in zip(middles, wanted, strict=True))
    if sum(height for _, height in wanted) <= 100:
        assert all(upper <= lower + 1e-6 for (_, upper), (lower, _) in pairwise(spans))
        assert spans[0][0] >= -1e-6
        assert spans[-1][1] <= 100 + 1e-6


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8, unique=True))
def test_spread_keeps_the_order_and_leaves_alone_what_is_apart(wanted: list[float]) -> None:
    middles = spread(wanted, [4.0] * len(wanted), -100, 200)
    assert sorted(range(len(wanted)), key=lambda i: wanted[i]) == sorted(range(len(wanted)), key=lambda i: middles[i])
    for index, at in enumerate(wanted):
        if all(abs(at - other) >= 30 for number, other in enumerate(wanted) if number != index):
            assert middles[index] == pytest.approx(at)


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), min_size=1, max_size=25))
def test_placed_labels_hide_none_of_each_other_and_stay_inside(points: list[tuple[float, float]]) -> None:
    bounds = Box(0, 0, 400, 300)
    boxes = [box for box in place(points, [(60.0, 10.0)] * len(points), bounds) if box]
    assert boxes
    for index, box in enumerate(boxes):
        assert box.outside(bounds) == 0
        assert not any(box.overlap(other) for other in boxes[:index])


def test_labels_of_near_points_are_all_placed_and_hide_no_point() -> None:
    points = [(300.0 + 4 * number, 250.0) for number in range(6)]
    boxes = place(points, [(60.0, 10.0)] * 6, Box(0, 0, 400, 300), unnamed=[(330.0, 240.0)], distances=FURTHER)
    assert all(boxes)
    for box, at in zip(boxes, points, strict=True):
        assert box is not None
        assert not any(box.holds(*dot) for dot in [*points, (330.0, 240.0)])
        run = leader(box, at)
        assert not run or not any(other.along(run) for other in boxes if other and other is not box)


@pytest.mark.parametrize(
    ("way", "inside"),
    [
        (((-5, 5), (15, 5)), 10),
        (((5, 5), (5, 20)), 5),
        (((-5, 11), (15, 11)), 0),
        (((0, 0), (10, 10)), 200**0.5),
        (((11, 0), (11, 10)), 0),
        (((5, 5), (5, 5)), 0),
    ],
)
def test_how_much_of_a_way_lies_in_a_box(way: Any, inside: float) -> None:
    assert Box(0, 0, 10, 10).along(way) == pytest.approx(inside)


@pytest.mark.parametrize(
    ("axis", "low", "high", "expected"),
    [
        (Axis(label="", unit="B", scale="log", base=2), 2**20, 2**40, ["1 MiB", "32 MiB", "1 GiB", "32 GiB", "1 TiB"]),
        (Axis(label="", unit="tokens", scale="log", base=2), 1000, 2**13, ["1,024", "2,048", "4,096", "8,192"]),
        (Axis(label="", unit="FLOP", scale="log"), 3e9, 2e13, ["10 GFLOP", "100 GFLOP", "1 TFLOP", "10 TFLOP"]),
        (Axis(label="", unit="FLOP", scale="log"), 1.5e9, 6e9, ["2 GFLOP", "3 GFLOP", "5 GFLOP"]),
        (Axis(label="", unit="percent"), 0, 1, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        (Axis(label=""), 0, 0.0035, ["0", "0.001", "0.002", "0.003"]),
        (Axis(label="", scale="names", names=("a", "b")), -0.5, 1.5, ["a", "b"]),
    ],
)
def test_ticks_are_few_and_round(axis: Axis, low: float, high: float, expected: list[str]) -> None:
    assert [said(axis, value) for value in ticks(axis, low, high)] == expected


@given(st.floats(1e-12, 1e24), st.floats(1, 1e12), st.integers(2, 9), st.sampled_from([2, 10]))
def test_log_ticks_are_inside_and_not_too_many(low: float, ratio: float, most: int, base: int) -> None:
    axis = Axis(label="", scale="log", base=base)
    found = ticks(axis, low, low * ratio, most)
    assert len(found) <= most + 1
    assert all(low * (1 - 1e-6) <= value <= low * ratio * (1 + 1e-6) for value in found)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
def test_linear_ticks_are_inside_and_evenly_spaced(values: list[float]) -> None:
    axis = Axis(label="")
    low, high = padded(axis, *limits(axis, values))
    if high - low < 1e-9:
        return
    found = ticks(axis, low, high)
    assert 1 <= len(found) <= 9
    steps = {round((b - a) / (high - low), 6) for a, b in pairwise(found)}
    assert len(steps) <= 1


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_everything_can_be_read(theme: Theme) -> None:
    assert contrast(theme.ink, theme.page) >= 12
    assert contrast(theme.muted, theme.page) >= 4.5
    for colour in theme.cycle:
        assert contrast(colour, theme.page) >= 2.2
        assert contrast(readable(colour, theme), theme.page) >= 4.5
        assert contrast(upon(colour), colour) >= 4.5
    assert len(set(theme.cycle)) == len(theme.cycle)


def test_the_style_of_the_process_is_left_alone() -> None:
    before = dict(mpl.rcParams)
    with applied(LIGHT):
        assert mpl.rcParams["axes.spines.top"] is False
        assert mpl.rcParams["svg.hashsalt"] == "calc"
    assert dict(mpl.rcParams) == before


def test_a_style_of_the_user_changes_no_chart() -> None:
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}), applied(DARK):
        assert mpl.rcParams["font.size"] == 9
        assert mpl.rcParams["axes.facecolor"] == DARK.page
