"""Parameters by part."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, sources, title_of
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.bars import draw, size
from calc.model import Model
from calc.units import count

PARTS = {
    "ffn": "feed-forward",
    "experts": "routed experts",
    "attention": "attention and other mixers",
    "embedding": "embedding",
    "head": "head",
    "rest": "router, norms and others",
}
"""Part → what a reader calls it, in the order of the bars."""
DRAWN = 0.005
"""A part that is smaller than this in every model goes to the rest."""


def by_part(model: Model) -> dict[str, int]:
    """Return the parameters of each part; those of routed experts, of which a token uses some, apart."""
    found = dict.fromkeys(PARTS, 0)
    for block in model.blocks():
        for part, operation in block.parts():
            number = block.repeat * operation.parameters(block.letters)
            routed = part == "ffn" and operation.active_parameters(block.letters) < operation.parameters(block.letters)
            found["experts" if routed else part if part in PARTS else "rest"] += number
    return found


def data(asked: Asked) -> ChartData:
    """Return the share of each part of each model's parameters, and the total."""
    models = asked.models
    counted = [by_part(model) for model in models]
    totals = [sum(parts.values()) for parts in counted]
    shares = {part: tuple(parts[part] / total for parts, total in zip(counted, totals, strict=True)) for part in PARTS}
    shown = [part for part in PARTS if max(shares[part]) >= DRAWN]
    small = tuple(1 - sum(shares[part][index] for part in shown) for index in range(len(models)))
    texts = tuple(_total(model, total) for model, total in zip(models, totals, strict=True))
    rows = tuple(float(index) for index in range(len(models)))
    series = [Series(name=PARTS[part], look="bar", x=shares[part], y=rows) for part in shown]
    if "rest" not in shown and max(small) > 1e-4:
        series.append(Series(name=PARTS["rest"], look="bar", x=small, y=rows))
    series[0] = Series(name=series[0].name, look="bar", x=series[0].x, y=rows, texts=texts)
    panel = Panel(
        x=Axis(label="", unit="percent", high=1.0),
        y=Axis(label="share of all parameters; total to the right", scale="names", names=tuple(map(title_of, models))),
        series=tuple(series),
    )
    return ChartData(
        chart="parameters",
        finding=_finding(models, shares),
        panels=(panel,),
        conventions="Parameters that a checkpoint of the main model stores: tied tables once, prediction modules "
        "apart.",
        source=sources(models),
    )


def _total(model: Model, total: int) -> str:
    ends = model.bounds()
    if ends is None:
        return count(total)
    return f"≈ {count(total, 3)} [{count(ends[0].params().total, 3)} – {count(ends[1].params().total, 3)}]"


def _finding(models: tuple[Model, ...], shares: dict[str, tuple[float, ...]]) -> str:
    """Name the part that differs most between the models, or the largest part of the only one."""
    if len(models) == 1:
        part = max(PARTS, key=lambda part: shares[part][0])
        return f"{shares[part][0]:.0%} of {title_of(models[0])} is {PARTS[part]}"
    part = max(PARTS, key=lambda part: max(shares[part]) - min(shares[part]))
    most, least = (shares[part].index(pick(shares[part])) for pick in (max, min))
    name = PARTS[part]
    verb = "are" if name.endswith("s") else "is"
    low = f"{shares[part][least]:.0%} of {title_of(models[least])}" if shares[part][least] else "none"
    if not shares[part][least]:
        low = f"{title_of(models[least])} has none"
        return f"{name.capitalize()} {verb} {shares[part][most]:.0%} of {title_of(models[most])}; {low}"
    return f"{name.capitalize()} {verb} {shares[part][most]:.0%} of {title_of(models[most])} and {low}"


CHART = Chart(
    about="Parameters by part, as shares of the total",
    data=data,
    draw=draw,
    models=(
        "gpt2",
        "gpt-3",
        "llama-3-8b",
        "llama-3.1-405b",
        "gemma-3-270m",
        "mixtral-8x7b",
        "gpt-oss-120b",
        "deepseek-v3",
        "kimi-k2",
        "gemini-2.5-pro",
    ),
    size=size,
)
