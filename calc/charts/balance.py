"""Load balance under the bias update."""

from __future__ import annotations

from calc.charts.chart import Asked, Chart, sources
from calc.charts.data import Axis, ChartData, Panel, Series
from calc.charts.drawing.lines import draw
from calc.charts.experts import routers
from calc.errors import SpecError
from calc.routing import Balance, Routing, simulate

GAMMAS = (0.0, 0.001, 0.01)
STEPS = 120
TOKENS = 2048
SMOOTHED = 5
"""Steps that a drawn value is the mean of: one batch's largest load is noisy."""


def data(asked: Asked) -> ChartData:
    """Return the imbalance of every step of a simulated router, for several update speeds γ."""
    model = asked.models[0]
    kinds = routers(model)
    if not kinds:
        raise SpecError(f"{model.heading} has no experts")
    experts, active = kinds[0]
    runs = {gamma: _run(experts, active, gamma) for gamma in GAMMAS}
    series = tuple(
        Series(name=f"γ = {gamma:g}" if gamma else "no update", x=tuple(range(STEPS)), y=_smoothed(run))
        for gamma, run in runs.items()
    )
    panel = Panel(
        x=Axis(label="steps of the router", high=STEPS - 1),
        y=Axis(label="largest load over the mean load of the experts; 1 is even", unit="x"),
        series=series,
    )
    fast = max(GAMMAS)
    before, after = runs[fast].imbalance[0], runs[fast].settled()
    return ChartData(
        chart="balance",
        finding=f"With γ = {fast:g} the bias update takes the fullest of {experts:,} experts from "
        f"{before:.1f} times the mean load to {after:.1f} times",
        panels=(panel,),
        conventions=f"Simulated: {TOKENS:,} random tokens a step, {active} of {experts:,} experts each, as in "
        f"{model.heading}; popularity spread 0.5, seed 0; means of {SMOOTHED} steps.",
        source=f"update of arXiv:2408.15664 Algorithm 1; {sources(asked.models)}",
    )


def _run(experts: int, active: int, gamma: float) -> Balance:
    return simulate(Routing(n_experts=experts, n_active=active, tokens=TOKENS, gamma=gamma), STEPS)


def _smoothed(run: Balance) -> tuple[float, ...]:
    seen = run.imbalance
    windows = (seen[max(0, step - SMOOTHED + 1) : step + 1] for step in range(len(seen)))
    return tuple(sum(window) / len(window) for window in windows)


CHART = Chart(
    about="Load of experts becoming even under the bias update (simulated)",
    data=data,
    draw=draw,
    models=("deepseek-v3",),
    most=1,
)
