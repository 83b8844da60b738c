"""Arithmetic intensity of decoding against batch."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.costs import Setting, traffic
from calc.errors import SpecError
from calc.model import Model
from calc.records import replace

BATCHES = tuple(2**power for power in range(13))
CONTEXT = 8192


def data(asked: Asked) -> ChartData:
    """Return FLOPs over bytes of a decode step whose weights and cache are read once, over batches."""
    setting = asked.setting(min([CONTEXT, *(model.max_context or CONTEXT for model in asked.models)]))
    for model in asked.models:
        mixers = [layer.attention for layer in model.kinds_of_layer() if layer.attention]
        if any(mask.both_ways for mixer in mixers for mask in mixer.masks()):
            raise SpecError(f"{model.heading} does not decode token by token")
    series = tuple(_series(model, setting) for model in asked.models)
    panel = Panel(
        x=Axis(label="sequences decoded together", scale="log", base=2, low=BATCHES[0], high=BATCHES[-1]),
        y=Axis(label="FLOP for each byte of weights and cache read (log scale)", unit="FLOP/B", scale="log"),
        series=(*series, *_ridges(asked)),
    )
    weights = setting.weights_dtype or "as published"
    return ChartData(
        chart="intensity",
        finding=_finding(series, setting),
        panels=(panel,),
        conventions=f"One new token for each sequence of {setting.context:,}; weights {weights}, cache "
        f"{setting.cache_dtype}. Weights and cache are read once, of experts those that the batch is expected to "
        "touch; activations stay on the chip.",
        source=sources(asked.models),
    )


def _ridges(asked: Asked) -> list[Series]:
    """Return the intensity from which on computing, not memory, is the limit: one level for each accelerator."""
    return [
        Series(
            name=f"{each.title} computes as fast as it reads ({each.half()})",
            look="limit",
            x=(1.0,),
            y=(each.ridge(each.half()),),
        )
        for each in asked.accelerators
    ]


def intensity(model: Model, setting: Setting, batch: int) -> float:
    """Return FLOP per byte of a decode step whose activations stay on the chip."""
    blocks, at = model.blocks(), replace(setting, batch=batch)
    moved = traffic(blocks, at.phase("decode"), at.forms(model, blocks))
    flops: int = model.flops(at.phase("decode"))
    return flops / (moved["weight"] + moved["cache"])


def _series(model: Model, setting: Setting) -> Series:
    ends = model.bounds()
    found = [tuple(intensity(of, setting, batch) for batch in BATCHES) for of in (model, *(ends or ()))]
    return Series(
        name=model.heading,
        x=BATCHES,
        y=found[0],
        low=tuple(map(min, *found[1:])) if ends else None,
        high=tuple(map(max, *found[1:])) if ends else None,
        provenance="estimate" if ends else "exact",
    )


def _finding(series: tuple[Series, ...], setting: Setting) -> str:
    at = BATCHES.index(256)
    most, least = (pick(series, key=lambda each: each.y[at]) for pick in (max, min))
    tokens = f"contexts of {setting.context:,}"
    if len(series) == 1:
        return f"{most.name} does {most.y[0]:.2g} FLOP for each byte read alone and {most.y[at]:.3g} in a batch of 256"
    return (
        f"In batches of 256 and {tokens}, a byte read serves {most.y[at]:.3g} FLOP in {most.name} and "
        f"{least.y[at]:.3g} in {least.name}"
    )


CHART = Chart(
    about="Arithmetic intensity of decoding against batch",
    data=data,
    draw=draw,
    models=("llama-3-8b", "llama-3-70b", "llama-3.1-405b", "mixtral-8x7b", "deepseek-v3", "qwen3-next-80b-a3b"),
    accelerators=("h100-sxm",),
    takes=("context", "weights_dtype", "cache_dtype", "accelerators"),
)
