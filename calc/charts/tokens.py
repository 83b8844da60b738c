"""Token budgets of images, sound and video."""

from __future__ import annotations

from typing import Any

from calc.charts.chart import Asked, Chart, Size, sources, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing import bars, lines
from calc.charts.drawing.canvas import Canvas
from calc.errors import CalcError, SpecError
from calc.media import media, read
from calc.model import Model

SIDES = (224, 336, 448, 560, 672, 896, 1024, 1344, 1536, 1792, 2048)
AT = 1024
MINUTE = {"sound": {"audio": "60s"}, "video": {"video": "60s@1fps@640x360"}}
"""What is asked for a minute of."""


def data(asked: Asked) -> ChartData:
    """Return the tokens of a square image over its side, and those of a minute of sound and of video."""
    images = tuple(series for model in asked.models for series in _images(model))
    minutes = {f"{kind}, {m.heading}": count for m in asked.models for kind, count in _minutes(m).items()}
    panels = ([_sides(images)] if images else []) + ([_minute(minutes)] if minutes else [])
    if not panels:
        raise SpecError(f"{asked.models[0].heading} reads neither images nor sound nor video")
    return ChartData(
        chart="tokens",
        finding=_finding(images, minutes),
        panels=tuple(panels),
        conventions="Tokens that stand in the prompt, special ones around them included, as each model's preprocessing "
        "makes them; flat where images are resized to one size. Video: a frame a second of 640 × 360 pixels. "
        "What a model cuts off a sound makes no tokens.",
        source=sources(asked.models),
    )


def tokens_of(model: Model, **what: Any) -> int | None:
    """Return the tokens of something in a prompt, or None where a model does not read it."""
    try:
        found, _ = media(model, read(text=1, **what))
    except CalcError:
        return None
    return found.inputs[0].tokens


def _images(model: Model) -> tuple[Series, ...]:
    counts = [tokens_of(model, images=f"1@{side}x{side}") for side in SIDES]
    if not all(counts):
        return ()
    return (Series(name=model.heading, x=SIDES, y=tuple(count or 0 for count in counts)),)


def _minutes(model: Model) -> dict[str, int]:
    found = {kind: tokens_of(model, **what) for kind, what in MINUTE.items()}
    return {kind: count for kind, count in found.items() if count}


def _sides(images: tuple[Series, ...]) -> Panel:
    return Panel(
        title="An image",
        x=Axis(label="side of a square image, pixels", scale="log", base=2, low=SIDES[0], high=SIDES[-1]),
        y=Axis(label="tokens in the prompt (log scale)", unit="tokens", scale="log", base=2),
        series=images,
    )


def _minute(minutes: dict[str, int]) -> Panel:
    counts = tuple(float(count) for count in minutes.values())
    rows = tuple(float(row) for row in range(len(minutes)))
    texts = tuple(f"{count:,}" for count in minutes.values())
    return Panel(
        title="A minute of sound or video",
        x=Axis(label="", unit="tokens"),
        y=Axis(label="tokens in the prompt", scale="names", names=tuple(minutes)),
        series=(Series(name="tokens of a minute", look="bar", x=counts, y=rows, texts=texts),),
    )


def _finding(images: tuple[Series, ...], minutes: dict[str, int]) -> str:
    if not images:
        most = max(minutes, key=lambda name: minutes[name])
        return f"A minute takes {minutes[most]:,} tokens of {most}"
    at = SIDES.index(AT)
    dearest, least = (pick(images, key=lambda each: each.y[at]) for pick in (max, min))
    found = f"An image of {AT} × {AT} pixels takes {dearest.y[at]:,.0f} tokens of {dearest.name}"
    if dearest.y[at] > least.y[at]:
        found += f", {times(dearest.y[at] / least.y[at])} as many as of {least.name}"
    return found


def draw(data: ChartData, canvas: Canvas) -> None:
    """Draw images as lines, and minutes as bars beside them."""
    for panel, slot in canvas.placed(data.panels, 2):
        (bars if panel.y.names else lines).draw_panel(panel, canvas, slot)


def _size(data: ChartData) -> Size:
    return (8.0 + 2.0 * (len(data.panels) - 1), 5.0)


CHART = Chart(
    about="Tokens that images, sound and video become",
    data=data,
    draw=draw,
    models=(
        "llava-1.5-7b", "llava-v1.6-mistral-7b", "gemma-3-27b", "llama-4-scout", "qwen2.5-vl-7b", "qwen3-vl-8b",
        "gemini-2.5-pro", "qwen2-audio-7b", "voxtral-mini-3b",
    ),
    most=12,
    size=_size,
)  # fmt: skip
