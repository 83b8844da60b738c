"""Prefill FLOPs against length, and where one model becomes dearer than another."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from calc.charts.chart import Asked, Chart, dotted, shared_length, sources, times
from calc.charts.data import Axis, ChartData, Mark, Panel, Series
from calc.charts.drawing.lines import draw
from calc.model import Model, Pass
from calc.units import flop

FIRST = 2**8
LONGEST = 2**20
MOST_MARKS = 8


def data(asked: Asked) -> ChartData:
    """Return the FLOPs of a prompt for each of its tokens; equal figures lie where equal totals do."""
    last = max(asked.context or LONGEST, 2 * FIRST)
    lengths = _lengths(last)
    totals = {model: _flops(model, lengths) for model in asked.models}
    series = tuple(_series(model, lengths, totals[model]) for model in totals)
    crossings = [one for pair in combinations(asked.models, 2) for one in crossings_of(*pair, lengths, totals)]
    crossings.sort(key=lambda one: one[0])
    marks = tuple(
        Mark(x=float(length), y=_at(model, length) / length, text=f"{length:,}")
        for length, model, _ in crossings[:MOST_MARKS]
    )
    panel = Panel(
        x=Axis(label="prompt, tokens", unit="tokens", scale="log", base=2, low=FIRST, high=last),
        y=Axis(label="prefill FLOPs for each token of the prompt (log scale); rings: equal", unit="FLOP", scale="log"),
        series=series,
        marks=marks,
    )
    return ChartData(
        chart="prefill",
        finding=_finding(asked.models, totals, lengths, crossings),
        panels=(panel,),
        conventions="Matrix products only, causal: the pairs that masks let through. Logits for every position."
        + dotted(series),
        source=sources(asked.models),
    )


def _lengths(last: int) -> list[int]:
    found = [FIRST * 2**octave * eighth // 8 for octave in range(40) for eighth in (8, 9, 10, 11, 12, 13, 14, 15)]
    return [*(length for length in found if length < last), last]


def _at(model: Model, length: int) -> int:
    flops: int = model.flops(Pass.prefill(length))
    return flops


def _flops(model: Model, lengths: list[int]) -> tuple[int, ...]:
    return tuple(_at(model, length) for length in lengths)


def _series(model: Model, lengths: list[int], flops: tuple[int, ...]) -> Series:
    def each(totals: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(total / length for total, length in zip(totals, lengths, strict=True))

    ends = model.bounds()
    return Series(
        name=model.heading,
        x=tuple(lengths),
        y=each(flops),
        low=each(_flops(ends[0], lengths)) if ends else None,
        high=each(_flops(ends[1], lengths)) if ends else None,
        stated=model.max_context,
        provenance="estimate" if ends else "exact",
    )


def crossings_of(a: Model, b: Model, lengths: list[int], totals: dict[Model, Any]) -> list[tuple[int, Model, Model]]:
    """Return (length, the one that is dearer from there on, the other) wherever the order changes; exact to the token.

    Between two of the lengths one change is looked for, by halving.
    """
    found = []
    for index in range(1, len(lengths)):
        before = totals[a][index - 1] > totals[b][index - 1]
        if before == (totals[a][index] > totals[b][index]):
            continue
        low, high = lengths[index - 1], lengths[index]
        while high - low > 1:
            middle = (low + high) // 2
            same = (_at(a, middle) > _at(b, middle)) == before
            low, high = (middle, high) if same else (low, middle)
        found.append((high, b, a) if before else (high, a, b))
    return found


def _finding(
    models: tuple[Model, ...],
    totals: dict[Model, tuple[int, ...]],
    lengths: list[int],
    crossings: list[tuple[int, Model, Model]],
) -> str:
    if len(models) == 1:
        flops = totals[models[0]]
        at = int(shared_length((models[0].max_context,), lengths))
        first, last = flops[0] / lengths[0], flops[lengths.index(at)] / at
        return (
            f"A token of a prompt of {at:,} costs {models[0].heading} {flop(last, 3)}, "
            f"{times(last / first)} as much as one of {lengths[0]:,}"
        )
    if crossings:
        # a crossing at a length that either model states, if there is one
        stated = [one for one in crossings if one[0] <= max(one[1].max_context or one[0], one[2].max_context or one[0])]
        crossings = stated or crossings
        length, dearer, cheaper = max(crossings, key=lambda one: _steepness(one, totals))
        return f"From {length:,} tokens on a prompt costs {dearer.heading} more than {cheaper.heading}"
    at = int(shared_length((model.max_context for model in models), lengths))
    index = lengths.index(at)
    most, least = (pick(models, key=lambda model: totals[model][index]) for pick in (max, min))
    ratio = times(totals[most][index] / totals[least][index])
    return f"A prompt of {at:,} tokens costs {most.heading} {ratio} as much as {least.heading}"


def _steepness(crossing: tuple[int, Model, Model], totals: dict[Model, tuple[int, ...]]) -> float:
    """Return how far apart two models are at the longest prompt: the crossing that matters most."""
    _, dearer, cheaper = crossing
    return totals[dearer][-1] / totals[cheaper][-1]


CHART = Chart(
    about="Prefill FLOPs against prompt length, with the lengths from which one model is dearer than another",
    data=data,
    draw=draw,
    models=("llama-3-8b", "llama-3-70b", "deepseek-v3", "deepseek-v3.2", "qwen3-30b-a3b", "qwen3-next-80b-a3b"),
    takes=("context",),
    most=12,
)
