"""Where the FLOPs, or on an accelerator the time, of a pass go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from calc.charts.chart import Asked, Chart, Size
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.bars import draw, height
from calc.errors import SpecError
from calc.timings import kernel_table
from calc.units import figure
from calc.views import operation_table

MOST = 10
"""Operations that have a bar of their own."""


def data(asked: Asked) -> ChartData:
    """Return the share of each operation, added up over layers, of a prefill's and a decode step's total."""
    answers = list(asked.results) or _answers(asked)
    if any(answer.get("kind") not in ("ops", "kernels") for answer in answers):
        raise SpecError("the chart operations is drawn of models, or of what `calc ops --format json` printed")
    timed = answers[0]["kind"] == "kernels"
    name = asked.models[0].heading if asked.models else str(answers[0]["model"]["name"])
    device = f" on {answers[0]['accelerator']}" if timed else ""
    what = "time" if timed else "FLOPs"
    conventions = (
        "Modelled time of the kernels that engines launch, collectives left out."
        if timed
        else "Matrix products, causal: the pairs that masks let through."
    )
    return ChartData(
        chart="operations",
        finding=_finding(name, answers, what, device),
        panels=tuple(_panel(answer, what) for answer in answers),
        conventions=f"{conventions} Operations of all layers together.",
        source=", ".join(dict.fromkeys(str(answer["model"].get("source", "")) for answer in answers)),
    )


def _answers(asked: Asked) -> list[dict[str, Any]]:
    given: dict[str, Any] = {
        "context": asked.context,
        "batch": asked.batch or 1,
        "weights_dtype": asked.weights_dtype,
        "cache_dtype": asked.cache_dtype or "bf16",
    }
    model = asked.models[0]
    if asked.accelerators:
        machine = asked.accelerators[0]
        return [kernel_table(model, machine, phase=phase, **given).to_dict() for phase in ("prefill", "decode")]
    return [operation_table(model, phase=phase, **given).to_dict() for phase in ("prefill", "decode")]


def shares(answer: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of each operation or kernel of a pass's FLOPs or time, the largest first; the rest together."""
    timed = answer["kind"] == "kernels"
    found: dict[str, float] = {}
    for entry in answer["kernels" if timed else "operations"]:
        name, value = (entry["kernel"], entry["seconds"]) if timed else (entry["operation"], entry["flops"])
        found[name] = found.get(name, 0.0) + value
    total = sum(found.values())
    ranked = sorted(((name, value / total) for name, value in found.items() if value), key=lambda one: -one[1])
    rest = sum(share for _, share in ranked[MOST:])
    return dict(ranked[:MOST]) | ({f"{len(ranked) - MOST} others": rest} if rest else {})


def _panel(answer: Mapping[str, Any], what: str) -> Panel:
    found = shares(answer)
    size = answer["pass"]
    total = figure(answer["total"]["seconds"], "s") if what == "time" else figure(answer["total"]["flops"], "FLOP")
    rows = tuple(float(index) for index in range(len(found)))
    texts = tuple(f"{share:.1%}" for share in found.values())
    return Panel(
        title=f"{size['phase'].capitalize()}, {size['batch']:,} × {size['context']:,} tokens: {total}",
        x=Axis(label="", unit="percent"),
        y=Axis(label=f"share of the {what}", scale="names", names=tuple(found)),
        series=(
            Series(
                name=f"share of the {what}",
                look="bar",
                x=tuple(found.values()),
                y=rows,
                texts=texts,
                provenance="modelled" if what == "time" else "exact",
            ),
        ),
    )


def _finding(name: str, answers: Iterable[Mapping[str, Any]], what: str, device: str) -> str:
    parts = []
    for answer in answers:
        (most, share), *_ = shares(answer).items()
        parts.append(f"{share:.0%} of the {answer['pass']['phase']} {what} is {most}")
    return f"{name}{device}: {', '.join(parts)}"


def _size(data: ChartData) -> Size:
    return (8.0, height(max(len(panel.y.names) for panel in data.panels), around=2.4))


CHART = Chart(
    about="Where the FLOPs of a pass go, or on an accelerator its time",
    data=data,
    draw=draw,
    models=("deepseek-v3",),
    most=1,
    takes=("context", "batch", "weights_dtype", "cache_dtype", "accelerators", "results"),
    size=_size,
)
