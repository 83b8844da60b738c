"""KV cache against context."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, dotted, shared_length, sources, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.errors import SpecError
from calc.model import Model
from calc.units import counted, figure

FIRST = 2**10
LONGEST = 2**20
BESIDES = 2**13
"""Contexts drawn beside a model's own where that is short."""


def data(asked: Asked) -> ChartData:
    """Return the bytes of keys, values, latents and states that one batch keeps, over contexts."""
    models, batch, form = asked.models, asked.batch or 1, asked.cache_dtype or "bf16"
    last = asked.context or min(max(model.max_context or 0 for model in models) or BESIDES, LONGEST)
    contexts = _contexts(min(FIRST, max(last // 64, 1)), last)
    series = tuple(_series(model, contexts, batch, form) for model in models)
    if not any(value for each in series for value in each.y):
        raise SpecError(f"{models[0].heading} keeps nothing between steps: it has no cache to draw")
    panel = Panel(
        x=Axis(label="context, tokens", unit="tokens", scale="log", base=2, low=contexts[0], high=last),
        y=Axis(label=_label(batch, form), unit="B", scale="log", base=2),
        series=(*series, *_memories(asked, series)),
    )
    return ChartData(
        chart="cache",
        finding=_finding(series, last),
        panels=(panel,),
        conventions="Logical bytes: what the mathematics needs, recurrent states included, without an engine's paging."
        + dotted(series),
        source=sources(models),
    )


def _memories(asked: Asked, series: tuple[Series, ...]) -> list[Series]:
    """Return the memory of accelerators that the caches come near, as levels."""
    most = max(value for each in series for value in (*each.y, *(each.high or ())))
    return [
        Series(name=f"memory of one {each.title}", look="limit", x=(series[0].x[0],), y=(float(each.memory_bytes),))
        for each in asked.accelerators
        if each.memory_bytes < 16 * most
    ]


def _label(batch: int, form: str) -> str:
    who = "one sequence" if batch == 1 else f"{batch:,} sequences"
    return f"cache of {who}, {form} (bytes)"


def _contexts(first: int, last: int) -> list[int]:
    """Return contexts for a smooth line, powers of two and their quarters, up to the last."""
    first = 2 ** (first.bit_length() - 1)
    found = [first * 2**octave * quarter // 4 for octave in range(40) for quarter in (4, 5, 6, 7)]
    return [*sorted({context for context in found if context < last}), last]


def _series(model: Model, contexts: list[int], batch: int, form: str) -> Series:
    def held(of: Model) -> tuple[int, ...]:
        caches = (of.cache(context, batch, form) for context in contexts)
        return tuple(cache.bytes + cache.state_bytes for cache in caches)

    ends = model.bounds()
    return Series(
        name=model.heading,
        x=tuple(contexts),
        y=held(model),
        low=held(ends[0]) if ends else None,
        high=held(ends[1]) if ends else None,
        stated=model.max_context,
        provenance="estimate" if ends else "exact",
        note=figure(held(model)[-1], "B"),
    )


def _finding(series: tuple[Series, ...], last: int) -> str:
    """Compare the most and the least at the longest context that half of the models state, among those that do.

    What does not grow with the context (a recurrent state) is compared only with its like.
    """
    growing = tuple(each for each in series if each.y[-1] > each.y[0])
    series = growing or series
    at = int(shared_length((each.stated for each in series if each.y[-1]), series[0].x))
    index = series[0].x.index(at)
    held = {each.name: each.y[index] for each in series if min(each.stated or last, last) >= at and each.y[index]}
    least, most = min(held, key=lambda name: held[name]), max(held, key=lambda name: held[name])
    if held[least] == held[most]:
        kept = f"{least} keeps {figure(held[least], 'B')}"
        if not growing and len(series[0].x) > 1:
            return f"{kept}, however long the context is"
        return f"{kept} for {counted(at, 'token')}" + (f": {figure(held[least] / at, 'B')} for each" if at > 1 else "")
    ratio = times(held[most] / held[least])
    high, low = figure(held[most], "B"), figure(held[least], "B")
    return f"At {counted(at, 'token')} {most} keeps {high}, {least} {low}: {ratio} less"


CHART = Chart(
    about="KV cache against context, by architecture",
    data=data,
    draw=draw,
    models=("gpt-3", "llama-2-70b", "llama-3.1-405b", "deepseek-v3", "gemma-3-27b", "qwen3-next-80b-a3b", "mamba-2.8b"),
    accelerators=("h100-sxm", "b300"),
    takes=("batch", "context", "cache_dtype", "accelerators"),
)
