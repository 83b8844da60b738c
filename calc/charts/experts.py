"""Experts that a batch touches."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, several, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.errors import SpecError
from calc.ffn.moe import MoE
from calc.model import Model
from calc.routing import touched

TOKENS = tuple(
    2**octave * quarter // 4 for octave in range(10) for quarter in (4, 5, 6, 7) if octave > 1 or quarter == 4
)
ALMOST = 0.9


def routers(model: Model) -> list[tuple[int, int]]:
    """Return (experts, active experts) of every kind of router in a model."""
    found = [layer.ffn for layer in model.kinds_of_layer() if isinstance(layer.ffn, MoE)]
    return list(dict.fromkeys((moe.n_experts, moe.n_active_experts) for moe in found))


def data(asked: Asked) -> ChartData:
    """Return the expected share of a layer's experts that a step reads, over the tokens of the batch."""
    named: dict[tuple[float, ...], list[str]] = {}
    for model in asked.models:
        kinds = routers(model)
        if not kinds:
            raise SpecError(f"{model.heading} has no experts")
        for experts, active in kinds:
            share = tuple(float(touched(experts, active, tokens)) / experts for tokens in TOKENS)
            named.setdefault(share, []).append(f"{model.heading} {active}/{experts}")
    # the share depends on k/E alone: 8 of 256 and 4 of 128 are one line
    series = tuple(Series(name=several(names), x=TOKENS, y=share) for share, names in named.items())
    panel = Panel(
        x=Axis(label="tokens that pass the layer together", scale="log", base=2, low=1, high=TOKENS[-1]),
        y=Axis(label="share of a layer's experts that at least one token uses", unit="percent", high=1.0),
        series=series,
    )
    return ChartData(
        chart="experts",
        finding=_finding(asked.models),
        panels=(panel,),
        conventions="Expected number of distinct experts with even routing, E·(1 − (1 − k/E)^n); routing that is not "
        "even touches fewer.",
        source=sources(asked.models),
    )


def _finding(models: tuple[Model, ...]) -> str:
    needed = {model: min(almost_all(*kind) for kind in routers(model)) for model in models}
    most, least = max(models, key=lambda model: needed[model]), min(models, key=lambda model: needed[model])
    found = f"{needed[most]:,} tokens touch {ALMOST:.0%} of {most.heading}'s experts in a layer"
    return found if most is least else f"{found}, {needed[least]:,} those of {least.heading}"


def almost_all(experts: int, active: int) -> int:
    """Return the fewest tokens that are expected to use 90 % of the experts.

    >>> almost_all(8, 2)
    9
    """
    low, high = 0, 1
    while touched(experts, active, high) < ALMOST * experts:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if touched(experts, active, middle) >= ALMOST * experts else (middle, high)
    return high


CHART = Chart(
    about="Experts touched against the tokens of a batch",
    data=data,
    draw=draw,
    models=("mixtral-8x7b", "gpt-oss-120b", "deepseek-v3", "kimi-k2", "qwen3-next-80b-a3b", "llama-4-maverick"),
)
