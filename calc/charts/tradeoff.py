"""Throughput against latency of serving: what a deployment can give, over the number of its users."""

from __future__ import annotations

from collections.abc import Iterable

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Mark, Panel, Series
from calc.charts.drawing.lines import draw
from calc.charts.served import INPUT, OUTPUT, over_users
from calc.confidence import error_of
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.serving import Serving

GPUS = 8
USERS = tuple(2**power for power in range(10))
DEGREES = (1, 2, 4, 8)
READING = 20.0
"""Tokens a second at which deployments are compared: faster than people read."""


def data(asked: Asked) -> ChartData:
    """Return tokens a second of each device against those of each user, for tensor degrees or several accelerators."""
    gpus = asked.gpus or GPUS
    found: dict[str, list[Serving]] = {}
    for device in asked.accelerators:
        for tp in (degree for degree in DEGREES if gpus % degree == 0):
            name = f"tp {tp}" if len(asked.accelerators) == 1 else device.title
            found.setdefault(name, []).extend(_over_users(asked, device, gpus, tp))
    kept = {name: _front(each) if len(asked.accelerators) > 1 else _by_speed(each) for name, each in found.items()}
    kept = {name: each for name, each in kept.items() if each}
    if not kept:
        raise SpecError(
            f"{asked.models[0].heading} fits {gpus} × {asked.accelerators[0].title} in no layout; give more --gpus"
        )
    series = tuple(_series(name, each) for name, each in kept.items())
    x = [value for each in series for value in each.x]
    everything = [(name, one) for name, each in kept.items() for one in each]
    quick = [one for one in everything if _speed(one[1]) >= READING]
    name, best = max(quick, key=lambda one: _rate(one[1])) if quick else max(everything, key=lambda one: _speed(one[1]))
    panel = Panel(
        x=Axis(label="tokens a second of one user (log scale)", scale="log", low=min(x), high=max(x)),
        y=Axis(label="tokens a second written by one device (log scale)", scale="log"),
        series=series,
        marks=(Mark(x=_speed(best), y=_rate(best), text=f"{best.asked.concurrency:,.0f} users"),),
    )
    machine = f"{gpus} × {best.asked.accelerator.title}" if len(asked.accelerators) == 1 else f"{gpus} × {name}"
    layout = f" with {name}" if len(asked.accelerators) == 1 else ""
    known = error_of("serving.tpot")
    return ChartData(
        chart="tradeoff",
        finding=f"{machine}{layout} write {_rate(best):,.0f} tokens a second and device of {asked.models[0].heading} "
        f"and {_speed(best):,.0f} for each of {best.asked.concurrency:,.0f} users",
        panels=(panel,),
        conventions=f"{gpus} devices, copies of the model side by side; prompts of {INPUT:,} and answers of {OUTPUT:,} "
        f"tokens, 1 to {USERS[-1]:,} users at once, {best.asked.engine.name}. Modelled; time per token "
        f"{known.text()}.",
        source=sources(asked.models),
    )


def _over_users(asked: Asked, device: Accelerator, gpus: int, tp: int) -> list[Serving]:
    users = (each for each in USERS if each >= gpus // tp)
    return [one for one in over_users(asked, device, gpus, users, tp) if one.steady is not None]


def _speed(of: Serving) -> float:
    return 1 / float(of.tpot_s or 1.0)


def _rate(of: Serving) -> float:
    return float(of.output_tokens_per_s_per_gpu or 0.0)


def _by_speed(every: Iterable[Serving]) -> list[Serving]:
    return sorted(every, key=_speed)


def _front(every: Iterable[Serving]) -> list[Serving]:
    """Return the deployments that no other beats in both figures, the slowest for a user first."""
    best, kept = 0.0, []
    for one in sorted(every, key=_speed, reverse=True):
        if _rate(one) > best:
            best = _rate(one)
            kept.append(one)
    return kept[::-1]


def _series(name: str, every: list[Serving]) -> Series:
    known = error_of("serving.throughput")
    rates = tuple(_rate(one) for one in every)
    return Series(
        name=name,
        x=tuple(_speed(one) for one in every),
        y=rates,
        low=tuple(rate * known.low for rate in rates),
        high=tuple(rate * known.high for rate in rates),
        provenance="modelled",
    )


CHART = Chart(
    about="Throughput against latency of serving, by tensor parallelism or accelerator (modelled)",
    data=data,
    draw=draw,
    models=("llama-3-70b",),
    accelerators=("h100-sxm",),
    most=1,
    takes=("gpus", "weights_dtype", "cache_dtype", "accelerators"),
)
