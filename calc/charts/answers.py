"""The chart of a command's answer: ``result.plot()``."""

from __future__ import annotations

from calc.charts import plot
from calc.charts.picture import Picture
from calc.errors import SpecError
from calc.results import Result

ANSWERS: dict[str, str] = {
    "show": "parameters",
    "compare": "parameters",
    "ops": "operations",
    "kernels": "roofline",
    "validate": "proof",
    "accuracy": "accuracy",
    "plan": "plan",
}
"""Kind of answer → its chart."""


def plot_result(result: Result) -> Picture:
    """Return the chart of an answer.

    Raises:
        SpecError: there is none for answers of this kind.
    """
    if result.kind not in ANSWERS:
        known = ", ".join(ANSWERS)
        raise SpecError(f"there is no chart of {result.kind!r}; answers of {known} have one, calc.plot draws others")
    return plot(ANSWERS[result.kind], results=[result.to_dict()])
