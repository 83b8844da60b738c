"""The modelled figures against published measurements: how far off they are, by source, hardware and model."""

from __future__ import annotations

from calc.deviations import Errors
from calc.measured.rows import Measurement, NotModelled, Prediction, read
from calc.measured.scores import Accuracy, Scored, accuracy, record_errors, score

__all__ = [
    "Accuracy",
    "Errors",
    "Measurement",
    "NotModelled",
    "Prediction",
    "Scored",
    "accuracy",
    "read",
    "record_errors",
    "score",
]
