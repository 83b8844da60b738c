"""The roofline of an accelerator, with every kernel of a model on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from calc import catalog
from calc.charts.chart import Asked, Chart
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.points import draw
from calc.errors import SpecError
from calc.hardware import Accelerator
from calc.timings import kernel_table
from calc.units import figure

NAMED = 0.04
"""Share of a pass's time from which on a kernel is named."""
TOGETHER = 32
"""Sequences decoded together where no batch is asked for; a prompt is read alone."""
PHASES = {"prefill": "prefill", "decode": "decode", "train": "training"}


def data(asked: Asked) -> ChartData:
    """Return the intensity and the modelled rate of every kernel, under the peak and the bandwidth of a device."""
    answers = [answer for answer in asked.results if answer.get("kind") == "kernels"]
    if len(answers) < len(asked.results):
        raise SpecError("the chart roofline is drawn of models, or of what `calc ops -a --format json` printed")
    if not answers:
        answers = [
            kernel_table(
                asked.models[0],
                asked.accelerators[0],
                phase=phase,
                context=asked.context,
                batch=asked.batch or (1 if phase == "prefill" else TOGETHER),
                weights_dtype=asked.weights_dtype,
                cache_dtype=asked.cache_dtype or "bf16",
            ).to_dict()
            for phase in ("prefill", "decode")
        ]
    device = catalog.load_accelerator(answers[0]["accelerator"])
    groups = [_points(answer) for answer in answers]
    x = [value for series in groups for value in series.x]
    ends = min([*x, 0.5]), max([*x, 4 * device.ridge(device.half())]) * 1.5
    forms = dict.fromkeys(kernel["form"] for answer in answers for kernel in answer["kernels"] if kernel["flops"])
    panel = Panel(
        x=Axis(label="arithmetic intensity, FLOP per byte", unit="FLOP/B", scale="log", low=ends[0], high=ends[1]),
        y=Axis(label=f"rate on {device.title} (log scale)", unit="FLOP/s", scale="log"),
        series=(*_roofs(device, forms, ends), *groups),
    )
    error = answers[0]["error"]
    return ChartData(
        chart="roofline",
        finding=_finding(asked.models[0].heading if asked.models else answers[0]["model"]["name"], answers, device),
        panels=(panel,),
        conventions=f"Points: kernels of {_sizes(answers)}, as engines fuse them. Their rate is modelled: eight of ten "
        f"measured operators took {error['low']:.2f} to {error['high']:.2f} of such a time (bars). Kernels without "
        "matrix products have no place here.",
        source=f"peak and bandwidth: {device.source_of('flops') or 'the preset'}",
    )


def _sizes(answers: Iterable[Mapping[str, Any]]) -> str:
    passes = [answer["pass"] for answer in answers]
    return ", ".join(f"{PHASES[p['phase']]} of {p['batch']:,} × {p['context']:,} tokens" for p in passes)


def _roofs(device: Accelerator, forms: Iterable[str], ends: tuple[float, float]) -> list[Series]:
    """Return the roof of each format that some kernel multiplies in: bandwidth, then peak."""
    found = []
    for form in forms:
        peak = device.flops[device.multiplies(form) or device.half()]
        ridge = peak / device.memory_bytes_per_s
        found.append(
            Series(
                name=f"{figure(peak, 'FLOP/s')} in {form}",
                look="line",
                x=(ends[0], ridge, ends[1]),
                y=(ends[0] * device.memory_bytes_per_s, peak, peak),
            )
        )
    return found


def _points(answer: Mapping[str, Any]) -> Series:
    """Return the kernels of a pass that multiply matrices; equal ones of several layers are one point."""
    merged: dict[tuple[str, float], dict[str, float]] = {}
    for kernel in answer["kernels"]:
        if kernel["flops"]:
            key = (kernel["kernel"], round(kernel["intensity"], 6))
            entry = merged.setdefault(key, {"flops": 0.0, "seconds": 0.0, "share": 0.0})
            for name in entry:
                entry[name] += kernel[name]
    rates = [entry["flops"] / entry["seconds"] for entry in merged.values()]
    error = answer["error"]
    return Series(
        name=f"{PHASES[answer['pass']['phase']]}, {figure(answer['total']['seconds'], 's')}",
        look="points",
        x=tuple(intensity for _, intensity in merged),
        y=tuple(rates),
        low=tuple(rate / error["high"] for rate in rates),
        high=tuple(rate / error["low"] for rate in rates),
        texts=tuple(
            f"{name} {entry['share']:.0%}" if entry["share"] >= NAMED else "" for (name, _), entry in merged.items()
        ),
        provenance="modelled",
    )


def _finding(name: str, answers: Iterable[Mapping[str, Any]], device: Accelerator) -> str:
    parts = []
    for answer in answers:
        total = answer["total"]
        bound = max(("compute", "memory", "launch"), key=lambda name: total[f"{name}_bound_seconds"])
        share = total[f"{bound}_bound_seconds"] / total["seconds"]
        parts.append(f"{share:.0%} of {PHASES[answer['pass']['phase']]} is bound by {bound}")
    return f"{name} on {device.title}: {' and '.join(parts)}"


CHART = Chart(
    about="Roofline of an accelerator with every kernel of a model on it",
    data=data,
    draw=draw,
    models=("llama-3-8b",),
    accelerators=("h100-sxm",),
    most=1,
    takes=("context", "batch", "weights_dtype", "cache_dtype", "accelerators", "results"),
)
