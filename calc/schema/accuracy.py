"""Predicted against measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class ErrorFacts(Document):
    """Errors over ``n`` measurements: |predicted / measured − 1|; the bias keeps the sign."""

    n: int
    median: float
    mean: float
    p90: float
    bias: float
    low: float = Field(description="10th percentile of measured / predicted")
    high: float = Field(description="90th percentile of measured / predicted")


class KnownErrorFacts(ErrorFacts):
    """The measured error of one kind of figure (``calc accuracy``)."""

    quantity: str


class BarFacts(Document):
    """What the program sets out to reach."""

    statistic: Literal["median", "mean"]
    at_most: float


class ScoredFacts(Document):
    """A measurement, and what is predicted for it in its unit."""

    id: str
    quantity: str
    metric: str
    unit: str
    measured: int | float
    predicted: int | float
    error: float
    source: str


class RefusedFacts(Document):
    """A measurement that is not predicted, and why."""

    id: str
    source: str
    reason: str


class Accuracy(Answer):
    """``calc accuracy``."""

    kind: Literal["accuracy"]
    errors: dict[str, dict[str, ErrorFacts]] = Field(description="by quantity, kind, source, hardware and model")
    bars: dict[str, BarFacts]
    rows: list[ScoredFacts]
    not_modelled: list[RefusedFacts]
