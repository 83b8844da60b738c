"""Tables on a terminal: they fit, and no figure is broken."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import calc
from calc.report.layout import cells, lines, shown, wrapped
from calc.results import Figure, Grid, Result, Row

NAMES = ["llama-3-8b", "gpt-3", "mistral-7b-v0.1", "falcon-180b", "bert-large-uncased", "t5-11b", "gpt-3-2.7b"]
FIGURE = re.compile(r"\d[\d,.]* (?:[KMBT]|[kMGTPE]?FLOP|[KMGTP]iB)")


def text(result: Result, width: int | None) -> list[str]:
    """Return the lines of all grids."""
    return ["".join(piece for piece, _ in line) for grid in result.grids for line in lines(grid, width)]


ANSWERS = {
    **{f"compare {count}": calc.compare(NAMES[:count]) for count in range(1, 8)},
    "show": calc.show("llama-3-8b"),
    "ops": calc.operation_table("llama-3-8b"),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_fits_and_its_figures_stay_whole(name: str, width: int) -> None:
    narrow, wide = text(ANSWERS[name], width), text(ANSWERS[name], None)
    assert max(map(cells, narrow)) <= width
    found, expected = FIGURE.findall("\n".join(narrow)), FIGURE.findall("\n".join(wide))
    assert sorted(found) == sorted(expected)
    assert found


def test_columns_without_room_move_to_a_further_table_that_repeats_the_names() -> None:
    answer = replace(ANSWERS["compare 4"], grids=ANSWERS["compare 4"].grids[:1])
    narrow = text(answer, 80)
    assert sum(line.startswith("parameters") for line in narrow) == 2
    assert not any("gpt-3" in line and "falcon-180b" in line for line in narrow)
    assert sum(line.startswith("parameters") for line in text(answer, None)) == 1


def test_ratios_stand_under_one_another() -> None:
    rows = (
        Row("a", ("a", Figure(1000, "B"), Figure(5, "B", ratio=0.005))),
        Row("b", ("b", Figure(2), Figure(2, ratio=1))),
    )
    assert ["".join(piece for piece, _ in line) for line in lines(Grid("", ("", "x", "y"), rows))][2:] == [
        "a  1,000 B  5 B ÷200",
        "b        2    2 =",
    ]


def test_what_is_equal_everywhere_is_quiet_and_dense_models_have_no_active_share() -> None:
    model = calc.load("llama-3-8b")
    same = calc.compare([model, replace(model, name="twin", title="Its twin")])
    styles = {style for line in lines(same.grids[0]) for _, style in line if line[0][0].startswith("parameters")}
    assert styles == {"dim"}
    assert not [row for row in same.grids[0].rows if "active" in row.key]
    assert [row for row in calc.compare(["llama-3-8b", "mixtral-8x7b"]).grids[0].rows if "active" in row.key]


@pytest.mark.parametrize("width", [5, 12, 40])
def test_wrapping_loses_nothing(width: int) -> None:
    long = "2·n_layers·(d_model + 羊驼·n_kv_heads) btkgh,bskh->bkgts " + "x" * 50
    pieces = wrapped(long, width)
    assert "".join(pieces).replace(" ", "") == long.replace(" ", "")
    assert all(cells(piece) <= max(width, 8) for piece in pieces)


def test_a_cell_for_a_person() -> None:
    assert shown(None) == "–"
    assert shown("a\x1b[0m") == r"a\x1b[0m"
    assert shown(Figure(2**30, "B", "estimate", low=2**29, high=2**31)) == "≈ 0.5 – 2 GiB"
    assert shown(Figure(3 * 10**9, "FLOP", "modelled", low=10**9, high=4 * 10**9)) == "3 GFLOP [1 – 4 GFLOP]"
    assert shown(Figure(None, "percent", low=0.1, high=0.4)) == "10 – 40 %"
    assert shown(Figure(7, "", "estimate")) == "≈ 7"


@pytest.mark.parametrize(
    ("low", "value", "high", "ratio", "text"),
    [
        (50, 100, 200, 4, "≈ 50 – 200 B ×2–8"),
        (50, 100, 200, 0.001, "≈ 50 – 200 B ÷500–2,000"),
        (50, 100, 200, 0.11, "≈ 50 – 200 B ÷18.2–×0.22"),
        (100, 100, 200, 1, "≈ 100 – 200 B =–×2"),
    ],
)
def test_the_ratio_of_an_estimate_has_two_ends(low: int, value: int, high: int, ratio: float, text: str) -> None:
    assert shown(Figure(value, "B", "estimate", low=low, high=high, ratio=ratio)) == text


def test_a_table_of_one_column_and_one_without_rows() -> None:
    alone = Grid("", ("a",), (Row("x", (Figure(10**9),)),))
    assert ["".join(piece for piece, _ in line) for line in lines(alone, 4)][-1] == "1,000,000,000"
    assert list(lines(Grid("", ("a", "b"), ()), 80))


def test_shares_are_drawn_beside_a_table_where_there_is_room() -> None:
    from calc.charts.terminal import bar

    grid = calc.show("gpt2").grids[0]

    def drawn(width: int) -> list[str]:
        return ["".join(text for text, _ in line) for line in lines(grid, width, bar)]

    wide = [line for line in drawn(100) if "█" in line]
    shares = {row.key: row.share for row in grid.rows if row.share is not None}
    assert len(wide) == len([share for share in shares.values() if share >= 0.007])
    assert sum(shares.values()) == pytest.approx(1)
    longest = max(wide, key=lambda line: line.count("█"))
    assert longest.split()[0] == max(shares, key=lambda key: shares[key]).removeprefix("params.")
    assert all(len(line) <= 100 for line in wide)
    assert not [line for line in drawn(50) if "█" in line]
    assert drawn(50) == ["".join(text for text, _ in line) for line in lines(grid, 50)]
