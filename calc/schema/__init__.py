"""The JSON contract: what ``--format json`` prints, and what a preset file holds.

Integers are exact and in base units (bytes, FLOP, parameters). A figure that is an expectation (the bytes of expert
weights that a batch touches) is a float. The tests validate every command's output against these models.
"""

from __future__ import annotations

from typing import Any

from calc.errors import UnknownName
from calc.schema.accuracy import Accuracy
from calc.schema.base import Answer
from calc.schema.calibrations import Calibration
from calc.schema.claims import Audit, Quantities
from calc.schema.devices import Accelerators, Card
from calc.schema.exchanges import Exchange
from calc.schema.formulas import Crossover, Formula, Formulas
from calc.schema.kernels import Kernels
from calc.schema.models import Compare, List, Operations, Show
from calc.schema.objectives import Objective
from calc.schema.planning import Fleet, Plan
from calc.schema.plots import Charts, Gallery, Plot
from calc.schema.proofs import Validate
from calc.schema.reasoning import Adapt, Reason, Speculate
from calc.schema.scaling import Curve, Experts, Lengths, Routed, Scale
from calc.schema.serving import Engines, Serve
from calc.schema.training import Train

DOCUMENTS: dict[str, type[Answer]] = {
    "show": Show,
    "compare": Compare,
    "kernels": Kernels,
    "list": List,
    "ops": Operations,
    "formula": Formula,
    "formulas": Formulas,
    "crossover": Crossover,
    "exchange": Exchange,
    "validate": Validate,
    "accuracy": Accuracy,
    "calibration": Calibration,
    "train": Train,
    "audit": Audit,
    "quantities": Quantities,
    "accelerator": Card,
    "accelerators": Accelerators,
    "plot": Plot,
    "charts": Charts,
    "gallery": Gallery,
    "scale": Scale,
    "curve": Curve,
    "routed": Routed,
    "experts": Experts,
    "lengths": Lengths,
    "serve": Serve,
    "plan": Plan,
    "fleet": Fleet,
    "engines": Engines,
    "reason": Reason,
    "speculate": Speculate,
    "adapt": Adapt,
    "objective": Objective,
}


def schema(what: str) -> dict[str, Any]:
    """Return the JSON schema of a file (``preset``, ``accelerator-preset``, ``claims``) or of a command's JSON output.

    Raises:
        UnknownName: no such document.

    >>> schema("show")["properties"]["schema_version"]["const"]
    1
    """
    if what == "preset":
        from calc.catalog import adapter

        return adapter().json_schema()
    if what == "accelerator-preset":
        from calc.catalog import accelerator_adapter

        return accelerator_adapter().json_schema()
    if what == "claims":
        from calc.claims.files import json_schema

        return json_schema()
    if what not in DOCUMENTS:
        raise UnknownName("document", what, ["preset", "accelerator-preset", "claims", *DOCUMENTS])
    return DOCUMENTS[what].model_json_schema(by_alias=True)
