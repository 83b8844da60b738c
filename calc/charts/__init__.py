"""Charts: one a file, each a question asked of models and a finding computed from the answer.

Importing this package imports no matplotlib: that comes with the first picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calc.model import Model

if TYPE_CHECKING:
    from calc.charts.picture import Picture

KINDS: dict[str, str] = {
    "active": "calc.charts.active",
    "prefill": "calc.charts.prefill",
    "cache": "calc.charts.cache",
    "parameters": "calc.charts.parameters",
    "intensity": "calc.charts.intensity",
    "roofline": "calc.charts.roofline",
    "operations": "calc.charts.operations",
    "masks": "calc.charts.masks",
    "complexity": "calc.charts.complexity",
    "latent": "calc.charts.latent",
    "experts": "calc.charts.experts",
    "balance": "calc.charts.balance",
    "memory": "calc.charts.memory",
    "training": "calc.charts.training",
    "tradeoff": "calc.charts.tradeoff",
    "price": "calc.charts.price",
    "day": "calc.charts.day",
    "plan": "calc.charts.plan",
    "scaling": "calc.charts.scaling",
    "tokens": "calc.charts.tokens",
    "accuracy": "calc.charts.accuracy",
    "proof": "calc.charts.proof",
}
"""Name → the module whose ``CHART`` it is."""


def plot(name: str, models: str | Path | Model | Iterable[str | Path | Model] = (), **options: Any) -> Picture:
    """Return a chart of some models; without models, of those that the gallery shows.

    ``options`` are ``batch, context, weights_dtype, cache_dtype, accelerators, results``, as far as the chart takes
    them. Notebooks show what is returned; ``.save("chart.svg")`` writes it, ``.data`` are the plotted values.

    Raises:
        CalcError: an unknown chart or model; an option that changes nothing in this chart.

    >>> plot("cache", ["llama-3-8b"]).data.finding
    'Llama 3 8B keeps 1 GiB for 8,192 tokens: 128 KiB for each'
    """
    from calc.charts.chart import ask, chart
    from calc.charts.picture import Picture

    kind = chart(name)
    return Picture(kind, kind.data(ask(name, models, options)))
