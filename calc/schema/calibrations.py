"""The JSON of ``calc calibrate``; its file holds the same."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from calc.schema.accuracy import ErrorFacts
from calc.schema.base import Answer, Document


class LayerFacts(Document):
    """A whole layer, predicted and measured in the same run. Units: seconds."""

    name: str
    form: str
    predicted: float
    measured: float
    error: float


class Calibration(Answer):
    """``calc calibrate``."""

    kind: Literal["calibration"]
    device: str
    date: str
    versions: dict[str, str]
    accelerator: dict[str, Any] = Field(description="the device, as an accelerator's preset holds it")
    constants: dict[str, Any] = Field(description="of the time model, as `calc.roofline.Efficiency` names them")
    errors: dict[str, ErrorFacts] = Field(description="by kind, and over all; of points that took no part in the fit")
    fitted: int
    left_out: int
    unrest: float = Field(description="median over shapes of (median / least time − 1) of the repetitions")
    layers: list[LayerFacts]
    measurements: list[dict[str, Any]] = Field(description="shape, seconds, and whether it was fitted")
