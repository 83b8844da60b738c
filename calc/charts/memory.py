"""Memory of one device in training: by part, ZeRO stage and recomputation."""

from __future__ import annotations

from itertools import product

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.bars import draw, size
from calc.confidence import error_of
from calc.memory import TrainingMemory, training_memory
from calc.parallel import Layout
from calc.units import memory

PARTS = ("weights", "gradients", "optimizer", "activations", "other")
STAGES = {0: "replicated", 1: "optimizer divided", 2: "gradients too", 3: "weights too"}
RECOMPUTED = {"none": "keeps all", "selective": "attention again", "full": "layers again"}
GPUS = 64
CONTEXT = 8192


def data(asked: Asked) -> ChartData:
    """Return the bytes on one of so many data-parallel devices, for every ZeRO stage and recomputation."""
    model, gpus = asked.models[0], asked.gpus or GPUS
    context = asked.context or min(model.max_context or CONTEXT, CONTEXT)
    found = {
        (zero, again): training_memory(model, Layout(dp=gpus, zero=zero), context=context, recompute=again)
        for zero, again in product(STAGES, RECOMPUTED)
    }
    names = tuple(f"ZeRO {zero}, {RECOMPUTED[again]}" for zero, again in found)
    rows = tuple(float(row) for row in range(len(found)))
    known = error_of("training.memory")
    series = [
        Series(
            name=part,
            look="bar",
            x=tuple(float(getattr(each, part)) for each in found.values()),
            y=rows,
            texts=tuple(_total(each) for each in found.values()) if part == PARTS[0] else (),
            provenance="modelled",
        )
        for part in PARTS
    ]
    limits = [Series(name=each.title, look="limit", x=(float(each.capacity),), y=(0.0,)) for each in asked.accelerators]
    panel = Panel(
        x=Axis(label="", unit="B", base=2),
        y=Axis(label=f"memory of one of {gpus:,} data-parallel devices", scale="names", names=names),
        series=(*series, *limits),
    )
    return ChartData(
        chart="memory",
        finding=_finding(model.heading, found, asked),
        panels=(panel,),
        conventions=f"Sequences of {context:,} tokens, one in a micro-batch; bf16 with fp32 copies, Adam, Megatron's "
        f"habits. Modelled: {known.text()}.",
        source=sources(asked.models),
    )


def _total(of: TrainingMemory) -> str:
    return memory(float(of.total), 3)


def _finding(name: str, found: dict[tuple[int, str], TrainingMemory], asked: Asked) -> str:
    most, least = (pick(found, key=lambda key: float(found[key].total)) for pick in (max, min))
    text = (
        f"Training {name} takes {_total(found[most])} of a device, and with ZeRO {least[0]} and {least[1]} recompute "
    )
    text += _total(found[least])
    for device in asked.accelerators[:1]:
        fit = [key for key, each in found.items() if each.total <= device.capacity]
        text += f"; {len(fit)} of {len(found)} ways fit {device.title}"
    return text


CHART = Chart(
    about="Memory of one device in training by part, for each ZeRO stage and recomputation (modelled)",
    data=data,
    draw=draw,
    models=("llama-3-8b",),
    accelerators=("h100-sxm",),
    most=1,
    takes=("context", "gpus", "accelerators"),
    size=size,
)
