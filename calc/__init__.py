"""What does this transformer cost? Parameters, FLOPs, KV cache and memory traffic, with the formulas and the proof.

>>> import calc
>>> calc.load("llama-3-8b").params().total
8030261248
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from calc.version import __version__ as __version__

if TYPE_CHECKING:
    from calc.calibration import calibrate as calibrate
    from calc.catalog import load as load
    from calc.catalog import load_accelerator as load_accelerator
    from calc.charts import plot as plot
    from calc.charts.gallery import draw_gallery as draw_gallery
    from calc.charts.gallery import list_charts as list_charts
    from calc.claims import audit as audit
    from calc.devices import accelerators as accelerators
    from calc.errors import CalcError as CalcError
    from calc.exchanges import exchange as exchange
    from calc.hardware import Accelerator as Accelerator
    from calc.identify import find_accelerator as find_accelerator
    from calc.measured import accuracy as accuracy
    from calc.memory import training_memory as training_memory
    from calc.model import Model as Model
    from calc.model import Pass as Pass
    from calc.objectives import objective as objective
    from calc.parallel import Layout as Layout
    from calc.planning import fleet as fleet
    from calc.planning import plan as plan
    from calc.reasoning import adapt as adapt
    from calc.reasoning import reason as reason
    from calc.reasoning import speculate as speculate
    from calc.report.page import html_report as html_report
    from calc.scaling import curve as curve
    from calc.scaling import experts as experts
    from calc.scaling import granular_optimum as granular_optimum
    from calc.scaling import lengths as lengths
    from calc.scaling import routed_laws as routed_laws
    from calc.scaling import scale as scale
    from calc.serving import Serving as Serving
    from calc.serving import serve as serve
    from calc.sweeps import sweep as sweep
    from calc.symbolic import crossover as crossover
    from calc.symbolic import explain as explain
    from calc.symbolic import formula as formula
    from calc.symbolic import formulas as formulas
    from calc.timings import kernel_table as kernel_table
    from calc.training import train as train
    from calc.validate import prove as prove
    from calc.views import compare as compare
    from calc.views import listing as listing
    from calc.views import operation_table as operation_table
    from calc.views import show as show

_HOMES = {
    "Accelerator": "calc.hardware",
    "CalcError": "calc.errors",
    "Layout": "calc.parallel",
    "Model": "calc.model",
    "Pass": "calc.passes",
    "Serving": "calc.serving",
    "accelerators": "calc.devices",
    "accuracy": "calc.measured",
    "adapt": "calc.reasoning",
    "audit": "calc.claims",
    "calibrate": "calc.calibration",
    "compare": "calc.views",
    "crossover": "calc.symbolic",
    "curve": "calc.scaling",
    "draw_gallery": "calc.charts.gallery",
    "exchange": "calc.exchanges",
    "experts": "calc.scaling",
    "explain": "calc.symbolic",
    "find_accelerator": "calc.identify",
    "fleet": "calc.planning",
    "formula": "calc.symbolic",
    "formulas": "calc.symbolic",
    "granular_optimum": "calc.scaling",
    "kernel_table": "calc.timings",
    "lengths": "calc.scaling",
    "html_report": "calc.report.page",
    "list_charts": "calc.charts.gallery",
    "listing": "calc.views",
    "load": "calc.catalog",
    "load_accelerator": "calc.catalog",
    "objective": "calc.objectives",
    "operation_table": "calc.views",
    "plan": "calc.planning",
    "plot": "calc.charts",
    "prove": "calc.validate",
    "reason": "calc.reasoning",
    "routed_laws": "calc.scaling",
    "scale": "calc.scaling",
    "serve": "calc.serving",
    "show": "calc.views",
    "speculate": "calc.reasoning",
    "sweep": "calc.sweeps",
    "train": "calc.training",
    "training_memory": "calc.memory",
}

__all__ = [
    "Accelerator",
    "CalcError",
    "Layout",
    "Model",
    "Pass",
    "Serving",
    "accelerators",
    "accuracy",
    "adapt",
    "audit",
    "calibrate",
    "compare",
    "crossover",
    "curve",
    "draw_gallery",
    "exchange",
    "experts",
    "explain",
    "find_accelerator",
    "fleet",
    "formula",
    "formulas",
    "granular_optimum",
    "html_report",
    "kernel_table",
    "lengths",
    "list_charts",
    "listing",
    "load",
    "load_accelerator",
    "objective",
    "operation_table",
    "plan",
    "plot",
    "prove",
    "reason",
    "routed_laws",
    "scale",
    "serve",
    "show",
    "speculate",
    "sweep",
    "train",
    "training_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'calc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
