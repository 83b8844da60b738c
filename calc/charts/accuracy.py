"""Predicted against measured."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from calc.charts.chart import Asked, Chart, Size
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.strips import draw
from calc.charts.reading import only_answer
from calc.deviations import quantile

LIMITS = (0.25, 4.0)
"""Ratios beyond are drawn at the edge."""
FEWEST = 5
"""Measurements below which a source is not drawn on its own."""


def data(asked: Asked) -> ChartData:
    """Return predicted over measured of every published measurement, by quantity and source.

    ``results`` are what ``calc accuracy --format json`` printed.
    """
    answer = only_answer("accuracy", asked.results)
    groups = _grouped(answer)
    names = tuple(f"{name} ({len(ratios)})" for name, ratios in groups.items())
    panel = Panel(
        x=Axis(label="predicted / measured (log scale)", scale="log", low=LIMITS[0], high=LIMITS[1]),
        y=Axis(label="quantity and where it was published (measurements)", scale="names", names=names),
        series=tuple(_series(row, name, ratios) for row, (name, ratios) in enumerate(groups.items())),
    )
    every = [1 + row["error"] for row in answer["rows"]]
    within = sum(0.8 <= ratio <= 1.25 for ratio in every) / len(every)
    return ChartData(
        chart="accuracy",
        finding=f"{within:.0%} of {len(every):,} published measurements are within a quarter of what is predicted; "
        f"the median error is {median(abs(ratio - 1) for ratio in every):.0%}",
        panels=(panel,),
        conventions="Dots: measurements; bars: the middle eight of ten; strokes: medians. Beyond a factor of four at "
        f"the edge. {len(answer['not_modelled']):,} further measurements are not modelled. Sources with fewer than "
        f"{FEWEST} measurements together.",
        source="published measurements that the program carries",
    )


QUANTITIES = {
    "training.memory": "training memory",
    "training.time": "training time",
    "training.gpu_hours": "GPU hours",
    "serving.cache": "cache tokens",
    "serving.cache_given_memory": "cache, memory known",
    "serving.cache_bytes": "cache bytes",
    "serving.weights": "weights loaded",
    "serving.memory": "memory in use",
    "serving.tpot": "time per token",
    "serving.ttft": "time to first token",
    "serving.throughput": "throughput",
    "serving.decode": "decode step",
    "serving.prefill": "prefill",
    "operator.gemm": "matrix products",
    "operator.grouped_gemm": "grouped products",
    "operator.attention": "attention",
    "operator.mla": "latent attention",
    "operator.collective": "collectives",
}
"""Quantity → what a reader calls it; one that is not here keeps its name."""


def _grouped(answer: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the ratios by quantity and source; small sources of a quantity together."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in answer["rows"]:
        found.setdefault((row["quantity"], _short(row["source"])), []).append(1 + row["error"])
    order = list(QUANTITIES)
    merged: dict[tuple[int, str, str], list[float]] = {}
    for (quantity, source), ratios in found.items():
        place = order.index(quantity) if quantity in order else len(order)
        key = place, QUANTITIES.get(quantity, quantity), source if len(ratios) >= FEWEST else "others"
        merged.setdefault(key, []).extend(ratios)
    return {f"{name}, {source}": ratios for (_, name, source), ratios in sorted(merged.items())}


def _short(source: str) -> str:
    """Return a repository's name, or a paper's without what stands behind it."""
    for mark in (" (", " @", ", values", ", ID", ";", ": ", " https:"):
        source = source.partition(mark)[0]
    words = source.partition(" ")[0].split("/")
    return "/".join(words[:2]) if len(words) > 1 else source.strip()[:40]


def _series(row: int, name: str, ratios: list[float]) -> Series:
    ordered = sorted(ratios)
    inside = tuple(min(max(ratio, LIMITS[0]), LIMITS[1]) for ratio in ordered)
    return Series(
        name=name,
        look="points",
        x=inside,
        y=(float(row),) * len(inside),
        low=(quantile(ordered, 0.1),) * len(inside),
        high=(quantile(ordered, 0.9),) * len(inside),
        provenance="modelled",
    )


def _size(data: ChartData) -> Size:
    return (8.0, min(2.4 + 0.26 * len(data.panel.y.names), 24.0))


CHART = Chart(
    about="Predicted against measured, by quantity and source (from calc accuracy --format json)",
    data=data,
    draw=draw,
    least=0,
    most=0,
    takes=("results",),
    size=_size,
)
