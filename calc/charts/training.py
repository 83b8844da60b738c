"""Time of a training step by layout."""

from __future__ import annotations

from itertools import product

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.bars import draw, size
from calc.confidence import error_of
from calc.errors import SpecError
from calc.training import Training, train
from calc.training.run import Recompute
from calc.units import duration

PARTS = {
    "kernels": ("compute",),
    "recompute": ("recompute",),
    "between devices": ("tensor", "expert", "context", "pipeline", "data"),
    "pipeline bubble": ("bubble",),
    "update": ("optimizer",),
}
DEGREES = (1, 2, 4, 8)
AGAIN: tuple[Recompute, ...] = ("none", "selective", "full")
GPUS = 64
SHOWN = 10


def data(asked: Asked) -> ChartData:
    """Return the seconds of a step by what they go into, for the fastest layouts that fit."""
    model, device, gpus = asked.models[0], asked.accelerators[0], asked.gpus or GPUS
    tried = [
        found
        for tp, pp in product(DEGREES, DEGREES)
        if gpus % (tp * pp) == 0
        for found in (_first_that_fits(asked, tp, pp, gpus),)
        if found is not None
    ]
    fitting = sorted((each for each in tried if each.fits), key=lambda each: each.time.iteration)
    if not fitting:
        raise SpecError(f"{model.heading} fits {gpus:,} × {device.title} in no layout tried; give more --gpus")
    shown = fitting[:SHOWN]
    rows = tuple(float(row) for row in range(len(shown)))
    series = [
        Series(
            name=part,
            look="bar",
            x=tuple(sum(float(getattr(each.time, field)) for field in fields) for each in shown),
            y=rows,
            texts=tuple(_text(each) for each in shown) if part == "kernels" else (),
            provenance="modelled",
        )
        for part, fields in PARTS.items()
    ]
    first = shown[0].run
    panel = Panel(
        x=Axis(label="", unit="s"),
        y=Axis(
            label=f"time of a step of {first.global_batch:,} × {first.context:,} tokens; to the right with its MFU",
            scale="names",
            names=tuple(map(_name, shown)),
        ),
        series=tuple(each for each in series if any(each.x)),
    )
    ratio = shown[-1].time.iteration / shown[0].time.iteration
    slowest = f", {ratio:.2f} times faster than {_name(shown[-1])}" if len(shown) > 1 else ""
    known = error_of("training.time")
    return ChartData(
        chart="training",
        finding=f"{gpus:,} × {device.title} train {model.heading} fastest with {_name(shown[0])}{slowest}",
        panels=(panel,),
        conventions=f"Tensor (tp), pipeline (pp) and data parallelism (dp), ZeRO 1, least recomputation that fits; "
        f"{len(fitting)} of {len(tried)} layouts fit. bf16, Adam, Megatron's habits. Modelled: {known.text()}.",
        source=sources(asked.models),
    )


def _first_that_fits(asked: Asked, tp: int, pp: int, gpus: int) -> Training | None:
    """Return the run with the least recomputation that fits, or with the most; None where the layout cannot be."""
    found = None
    for again in AGAIN:
        try:
            found = train(
                asked.models[0],
                asked.accelerators[0],
                gpus,
                tp=tp,
                pp=pp,
                zero=1,
                recompute=again,
                context=asked.context,
                global_batch=asked.batch or 2 * gpus,
            )
        except SpecError:
            return None
        if found.fits:
            return found
    return found


def _name(of: Training) -> str:
    layout, again = of.run.layout, of.run.recompute
    return f"tp{layout.tp}·pp{layout.pp}·dp{layout.dp}" + (f", {again} recompute" if again != "none" else "")


def _text(of: Training) -> str:
    return f"{duration(float(of.time.iteration), 3)}, {of.mfu:.0%}"


CHART = Chart(
    about="Time of a training step by layout (modelled)",
    data=data,
    draw=draw,
    models=("llama-3-70b",),
    accelerators=("h100-sxm",),
    most=1,
    takes=("context", "batch", "gpus", "accelerators"),
    size=size,
)
