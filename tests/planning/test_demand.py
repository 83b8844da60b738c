"""What is asked of a plan: lengths from histograms, the day's profile, objectives; every refusal names its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from calc.errors import SpecError
from calc.planning import Demand, Lengths, Objectives

ROWS = [(100, 50, 1), (300, 50, 1), (500, 200, 2)]


def test_a_histogram_is_its_means_and_spreads() -> None:
    lengths = Lengths.of_histogram(ROWS)
    assert lengths.input_tokens == (100 + 300 + 2 * 500) / 4
    assert lengths.output_tokens == (50 + 50 + 2 * 200) / 4
    deviation = ((250**2 + 50**2 + 2 * 150**2) / 4) ** 0.5
    assert lengths.input_spread == pytest.approx(deviation / 350)
    assert lengths.output_spread == pytest.approx(75 / 125)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "input,output,share\n100,50,1\n300,50,1\n500,200,2\n"),
        ("a.csv", "# of last week\n100,50,1\n300,50,1\n500,200,2"),
        ("a.csv", "share,output_tokens,input_tokens\n1,50,100\n1,50,300\n2,200,500\n"),
        ("a.csv", "input,output\n100,50\n300,50\n500,200\n500,200\n"),
        ("a.json", "[[100, 50, 0.25], [300, 50, 0.25], [500, 200, 0.5]]"),
        ("a.json", "[[100, 50], [300, 50], [500, 200], [500, 200]]"),
        (
            "a.json",
            '[{"input": 100, "output": 50}, {"input": 300, "output": 50}, '
            '{"share": 2, "input_tokens": 500, "output_tokens": 200}]',
        ),
    ],
)
def test_a_histogram_is_read_from_a_file(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert Lengths.read(path) == Lengths.of_histogram(ROWS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "a histogram has rows"),
        ("100,50,1,1\n", "is not a row of input, output and share: 1000,200,0.5 or {"),
        ("100\n", "is not a row"),
        ("a,b,c\n1,2,3\n", "is not a row"),
        ("input,share\n1,2\n", "is not a row"),
        ("input,output,share\n1,2,x\n", "is not a row"),
        ("input,output,share\n1,2\n3\n", "is not a row"),
        ("1,2,-3\n", "none of them negative"),
        ("1,2,nan\n", "is not a row"),
        ("1,inf,1\n", "is not a row"),
        ('{"input": 1, "output": 2}', "holds a JSON dict, not a list"),
        ('[{"input": 1, "output": 2, "shore": 1}]', "is not a row"),
        ("[true]", "is not a row"),
        ('["ab"]', "is not a row"),
        ("[1,", "is not valid JSON"),
    ],
)
def test_a_file_that_is_no_histogram_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.json" if text[:1] in ("[", "{") else "a.csv")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=words):
        Lengths.read(path)


def test_a_profile_is_shares_of_its_peak(tmp_path: Path) -> None:
    text = ",".join(str(hour) for hour in range(1, 25))
    path = tmp_path / "day.csv"
    path.write_text("\n".join(text.split(",")), encoding="utf-8")
    shares = Demand.read_profile(text)
    assert shares == Demand.read_profile(str(path))
    demand = Demand(rate=1, lengths=Lengths(input_tokens=1, output_tokens=1), profile=shares)
    assert demand.profile[-1] == 1
    assert demand.profile[0] == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Demand(rate=0, lengths=Lengths(input_tokens=1, output_tokens=1)), "rate = 0"),
        (lambda: Demand(rate=True, lengths=Lengths(input_tokens=1, output_tokens=1)), "rate = True"),
        (lambda: Demand(rate=1, lengths=Lengths(input_tokens=1, output_tokens=1), profile=(1.0,) * 23), "not 23"),
        (lambda: Demand(rate=1, lengths=Lengths(input_tokens=1, output_tokens=1), profile=(0.0,) * 24), "profile"),
        (lambda: Demand(rate=1, lengths=Lengths(input_tokens=1, output_tokens=1), profile=("x",) * 24), "profile"),
        (lambda: Demand.read_profile("1,2,x"), "no row of 1 numbers"),
        (lambda: Lengths(input_tokens=0, output_tokens=1), "input_tokens = 0"),
        (lambda: Lengths(input_tokens=1, output_tokens=float("nan")), "output_tokens = nan"),
        (lambda: Lengths(input_tokens=1, output_tokens=1, input_spread=-1), "input_spread = -1"),
        (lambda: Objectives(ttft=0, tpot=1), "ttft = 0"),
        (lambda: Objectives(ttft=1, tpot=float("inf")), "tpot = inf"),
        (lambda: Objectives(ttft=1, tpot=1, quantile=1), "quantile = 1"),
        (lambda: Objectives(ttft=1, tpot=1, quantile="p90"), "quantile = 'p90'"),
    ],
)  # fmt: skip
def test_what_is_no_demand_is_refused(build: object, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build()  # type: ignore[operator]
