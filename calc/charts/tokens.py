"""Token budgets of images."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, sources, times, title_of
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.errors import CalcError, SpecError
from calc.media import media, read
from calc.model import Model

SIDES = (224, 336, 448, 560, 672, 896, 1024, 1344, 1536, 1792, 2048)
AT = 1024


def data(asked: Asked) -> ChartData:
    """Return the tokens that a square image becomes, over its side in pixels."""
    series = tuple(_series(model) for model in asked.models)
    panel = Panel(
        x=Axis(label="side of a square image, pixels", scale="log", base=2, low=SIDES[0], high=SIDES[-1]),
        y=Axis(label="tokens of one image in the prompt (log scale)", unit="tokens", scale="log", base=2),
        series=series,
    )
    at = SIDES.index(AT)
    most, least = (pick(series, key=lambda each: each.y[at]) for pick in (max, min))
    found = f"An image of {AT} × {AT} pixels takes {most.y[at]:,.0f} tokens of {most.name}"
    if most.y[at] > least.y[at]:
        found += f", {times(most.y[at] / least.y[at])} as many as of {least.name}"
    return ChartData(
        chart="tokens",
        finding=found,
        panels=(panel,),
        conventions="Tokens that stand in the prompt, special ones around them included, as each model's preprocessing "
        "makes them; flat where images are resized to one size.",
        source=sources(asked.models),
    )


def _series(model: Model) -> Series:
    try:
        counts = tuple(image_tokens(model, side) for side in SIDES)
    except CalcError as error:
        raise SpecError(f"{title_of(model)}: {error}") from None
    return Series(name=title_of(model), x=SIDES, y=counts)


def image_tokens(model: Model, side: int) -> int:
    """Return the tokens of one square image."""
    found, _ = media(model, read(images=f"1@{side}x{side}", text=1))
    return found.inputs[0].tokens


CHART = Chart(
    about="Tokens that an image becomes, against its size",
    data=data,
    draw=draw,
    models=(
        "llava-1.5-7b", "llava-v1.6-mistral-7b", "paligemma-3b-pt-224", "gemma-3-27b", "llama-4-scout",
        "qwen2.5-vl-7b", "qwen3-vl-8b",
    ),
    most=12,
)  # fmt: skip
