"""Devices that a day's traffic needs."""

from __future__ import annotations

from math import ceil, cos, pi

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.charts.price import LIMIT, fast_enough
from calc.charts.served import INPUT, OUTPUT
from calc.confidence import error_of
from calc.errors import SpecError
from calc.serving import Serving

PEAK = 100.0
"""Requests a second at the busiest minute."""
QUIET, BUSIEST = 0.25, 15.0
"""Share of the peak that is left at night, and the hour of the peak."""
STEPS = 96
"""Quarters of an hour."""


def traffic(hour: float) -> float:
    """Return the requests a second of an assumed day: a cosine between the quietest and the busiest hour.

    >>> traffic(15.0), traffic(3.0)
    (100.0, 25.0)
    """
    wave = (1 + cos(2 * pi * (hour - BUSIEST) / 24)) / 2
    return PEAK * (QUIET + (1 - QUIET) * wave)


def data(asked: Asked) -> ChartData:
    """Return the devices that follow an assumed day's traffic, and those that its peak needs all day."""
    model = asked.models[0]
    found: dict[str, Serving] = {}
    for device in asked.accelerators:
        best = max(fast_enough(asked, device), key=_per_device, default=None)
        if best is not None:
            found[f"{best.asked.gpus} × {device.title} a copy"] = best
    if not found:
        raise SpecError(f"no accelerator named here serves {model.heading} at {LIMIT:g} s a token")
    hours = tuple(24 * step / STEPS for step in range(STEPS + 1))
    series = tuple(
        Series(name=name, x=hours, y=tuple(float(devices(best, hour)) for hour in hours), provenance="modelled")
        for name, best in found.items()
    )
    panel = Panel(
        x=Axis(label="hour of the day", low=0, high=24),
        y=Axis(label=f"devices for {PEAK * QUIET:,.0f} to {PEAK:,.0f} requests a second"),
        series=series,
    )
    first = min(series, key=lambda each: max(each.y))
    following, always = sum(first.y[:-1]) / STEPS * 24, max(first.y) * 24
    known = error_of("serving.throughput")
    return ChartData(
        chart="day",
        finding=f"Following the day's traffic takes {following:,.0f} device hours with {first.name}, "
        f"{following / always:.0%} of what its peak would take all day",
        panels=(panel,),
        conventions=f"{model.heading}; assumed traffic, a cosine with its peak at {BUSIEST:.0f}:00. Prompts of "
        f"{INPUT:,} and answers of {OUTPUT:,} tokens, at most {LIMIT * 1e3:.0f} ms between tokens; whole copies, "
        f"started and stopped every quarter of an hour. Modelled; throughput {known.text()}.",
        source=sources(asked.models),
    )


def _per_device(of: Serving) -> float:
    return float(of.requests_per_s or 0.0) / of.asked.gpus


def devices(copy: Serving, hour: float) -> int:
    """Return the devices of as many whole copies as the traffic of an hour needs."""
    return ceil(traffic(hour) / float(copy.requests_per_s or 1.0)) * copy.asked.gpus


CHART = Chart(
    about="Devices that follow an assumed day's traffic (modelled)",
    data=data,
    draw=draw,
    models=("llama-3-70b",),
    accelerators=("h100-sxm", "h200", "b200"),
    most=1,
    takes=("gpus", "weights_dtype", "cache_dtype", "accelerators"),
)
