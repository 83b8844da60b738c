"""Latent attention: naive against absorbed."""

from __future__ import annotations

from collections.abc import Callable

from calc.charts.chart import Asked, Chart, sources, times
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.errors import SpecError
from calc.model import Model, Pass

FORMS = ("naive", "absorbed")
CONTEXTS = tuple(2**power for power in range(8, 18))


def data(asked: Asked) -> ChartData:
    """Return the FLOPs for each new token of a prefill and of a decode step, in both forms."""
    for model in asked.models:
        if not set(FORMS) <= set(model.forms()):
            raise SpecError(f"{model.heading} has no latent attention, hence no naive and absorbed form")
    last = asked.context or CONTEXTS[-1]
    contexts = (*(context for context in CONTEXTS if context < last), last)
    phases = (
        ("Prefill", "FLOPs for each token of a prompt", lambda n: Pass.prefill(n), True),
        ("Decode", "FLOPs for one new token", lambda n: Pass.decode(n), False),
    )
    panels = tuple(_panel(asked.models, contexts, *phase) for phase in phases)
    return ChartData(
        chart="latent",
        finding=_finding(asked.models, last),
        panels=panels,
        conventions="Matrix products only, causal. Naive: the latent is expanded to keys and values of every head; a "
        "decode step expands the whole context again. Absorbed: queries are mapped into the latent, which stands for "
        "both.",
        source=sources(asked.models),
    )


def _panel(
    models: tuple[Model, ...],
    contexts: tuple[int, ...],
    title: str,
    label: str,
    make: Callable[[int], Pass],
    shared: bool,
) -> Panel:
    series = []
    for number, model in enumerate(models):
        for form in FORMS:
            flops = [_flops(model, form, make(n)) / (n if shared else 1) for n in contexts]
            name = form if len(models) == 1 else f"{model.heading} {form}"
            series.append(Series(name=name, x=contexts, y=tuple(flops), group=2 * number + FORMS.index(form)))
    return Panel(
        title=title,
        x=Axis(label="context, tokens", unit="tokens", scale="log", base=2),
        y=Axis(label=f"{label} (log scale)", unit="FLOP", scale="log"),
        series=tuple(series),
    )


def _flops(model: Model, form: str, pass_: Pass) -> int:
    flops: int = model.in_form(form).flops(pass_)
    return flops


def _finding(models: tuple[Model, ...], last: int) -> str:
    model = models[0]
    decode = [_flops(model, form, Pass.decode(last)) for form in FORMS]
    prefill = [_flops(model, form, Pass.prefill(last)) for form in FORMS]
    steps, prompt = (
        f"{cheaper} {times(max(found) / min(found))} fewer" if min(found) < max(found) else "as many either way"
        for found, cheaper in ((flops, FORMS[flops.index(min(flops))]) for flops in (decode, prefill))
    )
    return f"FLOPs of {model.heading} at {last:,} tokens: in decode {steps}, in prefill {prompt}"


CHART = Chart(
    about="Latent attention computed naive and absorbed, in prefill and decode",
    data=data,
    draw=draw,
    models=("deepseek-v3",),
    most=4,
    takes=("context",),
)
