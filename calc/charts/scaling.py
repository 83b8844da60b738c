"""The frontier of scaling laws: the best size for a compute budget."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.charts.drawing.ticks import POWER, power_of_ten
from calc.scaling import curve
from calc.units import count

BUDGETS = tuple(10.0 ** (18 + step / 4) for step in range(37))
AT = 1e25


def data(asked: Asked) -> ChartData:
    """Return the size that each published law finds best for budgets of training FLOPs, and the tokens for it."""
    answer = curve(list(BUDGETS)).data
    titles = {each["law"] if "law" in each else each["name"]: each["title"] for each in answer["laws"]}
    by_law: dict[str, list[dict[str, float]]] = {}
    for point in answer["points"]:
        if point["size"] is not None and point["tokens"] is not None:
            by_law.setdefault(point["law"], []).append(point)
    size = _series(by_law, titles, "size")
    ratio = tuple(
        Series(
            name=titles[name],
            x=tuple(point["compute"] for point in points),
            y=tuple(point["tokens"] / point["size"] for point in points),
        )
        for name, points in by_law.items()
    )
    x = Axis(label="training compute, FLOP", unit=POWER, scale="log", low=BUDGETS[0], high=BUDGETS[-1])
    return ChartData(
        chart="scaling",
        finding=_finding(size, ratio),
        panels=(
            Panel(
                title="Best size",
                x=x,
                y=Axis(label="parameters (log scale)", unit="parameters", scale="log"),
                series=size,
            ),
            Panel(
                title="Its tokens",
                x=x,
                y=Axis(label="tokens for each parameter (log scale)", scale="log"),
                series=ratio,
            ),
        ),
        conventions="Parameters as each law counts them, compute as 6·N·D. Laws were fitted to budgets far below the "
        "largest drawn here.",
        source="; ".join(dict.fromkeys(each["source"].split(";")[0] for each in answer["laws"] if each.get("source"))),
    )


def _series(by_law: dict[str, list[dict[str, float]]], titles: dict[str, str], what: str) -> tuple[Series, ...]:
    return tuple(
        Series(
            name=titles[name],
            x=tuple(point["compute"] for point in points),
            y=tuple(point[what] for point in points),
        )
        for name, points in by_law.items()
    )


def _finding(size: tuple[Series, ...], ratio: tuple[Series, ...]) -> str:
    index = min(range(len(BUDGETS)), key=lambda at: abs(BUDGETS[at] - AT))
    found = [(each.y[index], tokens.y[index], each.name) for each, tokens in zip(size, ratio, strict=True)]
    most, least = max(found), min(found)
    return (
        f"For {power_of_ten(BUDGETS[index])} FLOP the laws differ {times(most[0] / least[0])} in the best size: "
        f"{count(least[0], 3)} ({least[2]}) to {count(most[0], 3)} ({most[2]})"
    )


CHART = Chart(
    about="Frontier of published scaling laws: best size and tokens for a compute budget",
    data=data,
    draw=draw,
    least=0,
    most=0,
)
