"""How figures are written, and how sizes are read."""

from __future__ import annotations

import pytest

from calc import units
from calc.errors import SpecError
from calc.report.layout import shown
from calc.results import Figure


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1_000, "1 K"), (117_000_000, "117 M"), (8_030_261_248, "8.03 B"), (1.6e12, "1.6 T")],
)
def test_counts_are_powers_of_a_thousand(value: float, text: str) -> None:
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(512, "512 B"), (1024, "1 KiB"), (131_072, "128 KiB"), (80 * units.GIB, "80 GiB"), (1.5 * units.TIB, "1.5 TiB")],
)
def test_memory_is_powers_of_1024(value: float, text: str) -> None:
    assert units.memory(value) == text


def test_flop_has_a_decimal_prefix() -> None:
    assert units.flop(3.14e23) == "314 ZFLOP"
    assert units.flop(15) == "15 FLOP"


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(None, "B"), "–"),
        (Figure(1024, "B"), "1 KiB"),
        (Figure(0.055, "percent"), "5.5 %"),
        (Figure(9.996, "percent"), "1,000 %"),
        (Figure(40.03, "percent"), "4,003 %"),
        (Figure(12_345.6), "12,346"),
        (Figure(9_999.7), "10,000"),
        (Figure(1234.56, "FLOP/B"), "1,234.6"),
        (Figure(12_345), "12,345"),
        (Figure(True), "yes"),
    ],
)
def test_a_figure_is_written_by_its_unit(figure: Figure, text: str) -> None:
    assert units.figure(figure.value, figure.unit) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GiB", 80 * 1024**3),
        ("24 GB", 24 * 10**9),
        ("1_000_000", 10**6),
        ("1.5 MiB", 3 * 2**19),
        ("16gib", 16 * 1024**3),
        ("7 B", 7),
    ],
)
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-3 GB", "80 GiBB", "nan GB", "1/0 GB", "0", "80 gigs", "inf B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is not a size"):
        units.parse_bytes(text)


def test_formats_are_where_they_always_were() -> None:
    assert units.dtype("bf16") is units.FORMATS["bf16"]
    assert units.dtype(" torch.float8_e4m3fn ").name == "fp8"


def test_a_range_has_the_prefix_of_the_figure_beside_it() -> None:
    figure = Figure(990 * units.GIB, "B", "modelled", low=900 * units.GIB, high=1100 * units.GIB)
    assert shown(figure) == "990 GiB [900 – 1,100 GiB]"
    assert shown(Figure(None, "B", "modelled", low=900 * units.GIB, high=1100 * units.GIB)) == "0.8789 – 1.074 TiB"
