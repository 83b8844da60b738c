"""A plan: what a user's speed costs, and the devices of the day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calc.charts.chart import Asked, Chart, Size
from calc.charts.data import Axis, ChartData, Mark, Panel, Series
from calc.charts.drawing.lines import draw
from calc.charts.reading import only_answer
from calc.errors import SpecError


def data(asked: Asked) -> ChartData:
    """Return the front of a plan with its cheapest deployment, and that one's devices by hour.

    ``results`` are what ``calc plan --format json`` printed.
    """
    plan = only_answer("plan", asked.results)
    if not plan["choices"]:
        raise SpecError("the plan has no deployment to draw: nothing would do")
    best, demand, wanted = plan["choices"][0], plan["demand"], plan["objectives"]
    flat = min(plan["gpus_by_hour"]) == max(plan["gpus_by_hour"])
    bill = "" if plan["usd_per_day"] is None else f" for {plan['usd_per_day']:,.0f} USD a day"
    return ChartData(
        chart="plan",
        finding=f"{best['gpus']:,} × {best['accelerator']} answer {demand['rate']:,g} requests a second of "
        f"{plan['model']}{bill}",
        panels=(_front(plan),) if flat else (_front(plan), _day(plan)),
        conventions=f"Prompts of {demand['input_tokens']:,.0f} and answers of {demand['output_tokens']:,.0f} tokens; "
        f"{wanted['ttft']:g} s to the first token and {1e3 * wanted['tpot']:g} ms for each further one in "
        f"{wanted['quantile']:.0%} of requests. Modelled; {plan['evaluated']:,} deployments looked at.",
        source="calc plan",
    )


def _front(plan: Mapping[str, Any]) -> Panel:
    best, points = plan["choices"][0], plan["front"]
    mark = Mark(
        x=1 / best["mean_tpot_s"], y=best["output_tokens_per_s_per_gpu"], text=f"cheapest: {best['gpus']:,} GPUs"
    )
    line = Series(
        name="the fastest at each price",
        x=tuple(point["tokens_per_s_per_user"] for point in points),
        y=tuple(point["output_tokens_per_s_per_gpu"] for point in points),
        provenance="modelled",
    )
    return Panel(
        x=Axis(label="tokens a second of a user", scale="log"),
        y=Axis(label="output tokens a second of a GPU", scale="log"),
        series=(line,),
        marks=(mark,),
    )


def _day(plan: Mapping[str, Any]) -> Panel:
    hours: list[int] = plan["gpus_by_hour"]
    following = Series(
        name="following the day",
        x=tuple(float(hour + end) for hour in range(len(hours)) for end in (0, 1)),
        y=tuple(float(gpus) for gpus in hours for _ in (0, 1)),
        provenance="modelled",
    )
    peak = Series(name="for the peak", look="limit", x=(0.0, 24.0), y=(float(max(hours)),) * 2, provenance="modelled")
    return Panel(
        x=Axis(label="hour of the day", low=0, high=24),
        y=Axis(label="GPUs of the cheapest", low=0),
        series=(following, peak),
    )


def _size(chart: ChartData) -> Size:
    return (8.0, 4.0) if len(chart.panels) == 1 else (10.0, 4.2)


CHART = Chart(
    about="What a user's speed costs, and the GPUs of the day (from calc plan --format json)",
    data=data,
    draw=draw,
    least=0,
    most=0,
    takes=("results",),
    size=_size,
)
