"""Parameters by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.bars import draw, size
from calc.errors import SpecError
from calc.model import Model
from calc.records import Record, named_record, replace
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


@named_record
class Split(Record):
    """The parameters of one model by part, and what its total is written as."""

    title: str
    parts: Mapping[str, int]
    total: str
    source: str


def data(asked: Asked) -> ChartData:
    """Return the share of each part of each model's parameters, and the total."""
    splits = [_of_model(model) for model in asked.models] + [each for a in asked.results for each in _of_answer(a)]
    totals = [sum(split.parts.values()) for split in splits]
    shares = {
        part: tuple(split.parts[part] / total for split, total in zip(splits, totals, strict=True)) for part in PARTS
    }
    shown = [part for part in PARTS if max(shares[part]) >= DRAWN]
    small = tuple(1 - sum(shares[part][index] for part in shown) for index in range(len(splits)))
    rows = tuple(float(index) for index in range(len(splits)))
    series = [Series(name=PARTS[part], look="bar", x=shares[part], y=rows) for part in shown]
    if "rest" not in shown and max(small) > 1e-4:
        series.append(Series(name=PARTS["rest"], look="bar", x=small, y=rows))
    series[0] = replace(series[0], texts=tuple(split.total for split in splits))
    names = tuple(split.title for split in splits)
    panel = Panel(
        x=Axis(label="", unit="percent", high=1.0),
        y=Axis(label="share of all parameters; total to the right", scale="names", names=names),
        series=tuple(series),
    )
    return ChartData(
        chart="parameters",
        finding=_finding(names, shares),
        panels=(panel,),
        conventions="Parameters that a checkpoint of the main model stores: tied tables once, prediction modules "
        "apart.",
        source=sources(split.source for split in splits),
    )


def _of_model(model: Model) -> Split:
    parts, ends = by_part(model), model.bounds()
    total = count(sum(parts.values()))
    if ends is not None:
        total = _range(sum(parts.values()), *(end.params().total for end in ends))
    return Split(title=model.heading, parts=parts, total=total, source=model.source)


def _range(middle: int, low: int, high: int) -> str:
    return f"≈ {count(middle, 3)} [{count(low, 3)} – {count(high, 3)}]"


def _of_answer(answer: Mapping[str, Any]) -> Iterator[Split]:
    """Yield the models of ``calc show`` or ``calc compare``, whose feed-forward parts hold the routed experts."""
    if answer.get("kind") not in ("show", "compare"):
        raise SpecError("the chart parameters is drawn of models, or of what `calc show --format json` printed")
    for entry in answer.get("models", [answer]):
        params = entry["params"]
        parts = {part: params.get(part, 0) for part in PARTS}
        parts["rest"] = params["router"] + params["norm"] + params["other"]
        total = count(params["total"])
        if entry.get("low") and entry.get("high"):
            total = _range(params["total"], *(entry[end]["params"]["total"] for end in ("low", "high")))
        yield Split(title=entry["model"]["title"], parts=parts, total=total, source=entry["model"]["source"])


def _finding(names: tuple[str, ...], shares: dict[str, tuple[float, ...]]) -> str:
    """Name the part that differs most between the models, or the largest part of the only one."""
    if len(names) == 1:
        part = max(PARTS, key=lambda part: shares[part][0])
        return f"{shares[part][0]:.0%} of {names[0]} is {PARTS[part]}"
    part = max(PARTS, key=lambda part: max(shares[part]) - min(shares[part]))
    most, least = (shares[part].index(pick(shares[part])) for pick in (max, min))
    name = PARTS[part]
    found = f"{name.capitalize()} {'are' if name.endswith('s') else 'is'} {shares[part][most]:.0%} of {names[most]}"
    if not shares[part][least]:
        return f"{found}; {names[least]} has none"
    return f"{found} and {shares[part][least]:.0%} of {names[least]}"


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
    takes=("results",),
    size=size,
)
