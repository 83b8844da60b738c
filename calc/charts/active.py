"""Active against total parameters."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, several, sources, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.points import draw
from calc.model import Model, Parameters
from calc.units import count

SHARES = (1.0, 0.3, 0.1, 0.03)


def data(asked: Asked) -> ChartData:
    """Return both numbers of each model; those whose every parameter is used by every token apart."""
    counted = {model: model.params() for model in asked.models}
    sparse = [model for model, params in counted.items() if params.active < params.total]
    dense = [model for model in asked.models if model not in sparse]
    groups = (("some experts used by each token", sparse), ("all used by every token", dense))
    series = [_points(name, models, counted) for name, models in groups if models]
    totals = [params.total for params in counted.values()]
    ends = (min(totals) / 1.5, max(totals) * 1.5)
    guides = [
        Series(name=f"{share:.0%}", look="limit", x=ends, y=(share * ends[0], share * ends[1])) for share in SHARES
    ]
    panel = Panel(
        x=Axis(label="all parameters", unit="parameters", scale="log", low=ends[0], high=ends[1]),
        y=Axis(label="parameters active for a token; dashed: their share of all", unit="parameters", scale="log"),
        series=(*guides, *series),
    )
    return ChartData(
        chart="active",
        finding=_finding(sparse, dense, counted),
        panels=(panel,),
        conventions="Active: all less the routed experts that a token does not use; the embedding table counts. "
        "Bars: from the least to the most that an unpublished model may be.",
        source=sources(asked.models),
    )


def _points(name: str, models: list[Model], counted: dict[Model, Parameters]) -> Series:
    bounds = [model.bounds() or (model, model) for model in models]
    return Series(
        name=name,
        look="points",
        x=tuple(counted[model].total for model in models),
        y=tuple(counted[model].active for model in models),
        low=tuple(low.params().active for low, _ in bounds),
        high=tuple(high.params().active for _, high in bounds),
        texts=tuple(each.heading for each in models),
        provenance="estimate" if any(model.bounds() for model in models) else "exact",
    )


def _finding(sparse: list[Model], dense: list[Model], counted: dict[Model, Parameters]) -> str:
    if not sparse:
        return f"{several(each.heading for each in dense)}: a token uses every parameter"
    share = {model: counted[model].active / counted[model].total for model in sparse}
    least = min(sparse, key=lambda model: share[model])
    active, total = count(counted[least].active, 3), count(counted[least].total, 3)
    found = f"{least.heading} uses {share[least]:.1%} of its parameters for a token: {active} of {total}"
    larger = [model for model in dense if counted[model].active > counted[least].active]
    if larger:
        nearest = max(larger, key=lambda model: counted[model].active)
        ratio = times(counted[nearest].active / counted[least].active)
        found += f"; dense {nearest.heading} uses {ratio} as many"
    return found


CHART = Chart(
    about="Active against total parameters",
    data=data,
    draw=draw,
    models=(
        "gpt-3", "llama-3-8b", "llama-3-70b", "llama-3.1-405b", "qwen3-32b", "gemma-3-27b",
        "mixtral-8x7b", "mixtral-8x22b", "dbrx", "deepseek-v2", "deepseek-v3", "kimi-k2", "gpt-oss-20b",
        "gpt-oss-120b", "qwen3-30b-a3b", "qwen3-235b-a22b", "llama-4-maverick", "minimax-m2", "glm-4.5",
        "qwen3-next-80b-a3b", "gemini-2.5-pro",
    ),
    most=200,
)  # fmt: skip
