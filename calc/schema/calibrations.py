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


class LinkCalibrationFacts(Document):
    """What was found of the exchanges among ``ranks`` devices of a host, or processes of a CPU."""

    backend: str
    ranks: int
    constants: dict[str, Any] = Field(description="of the time model, as `calc.constants.NetworkConstants` names them")
    errors: dict[str, ErrorFacts] = Field(description="by kind of exchange, and over all")


class ExchangeFacts(Document):
    """One exchange: kind, ranks, bytes of the whole tensor, seconds of a call, and whether it was fitted."""

    kind: str
    ranks: int
    bytes: int
    seconds: float
    fitted: bool


class Calibration(Answer):
    """``calc calibrate``."""

    kind: Literal["calibration"]
    device: str
    date: str
    versions: dict[str, str]
    accelerator: dict[str, Any] = Field(description="the device, as an accelerator's preset holds it")
    constants: dict[str, Any] = Field(description="of the time model, as `calc.constants.Efficiency` names them")
    errors: dict[str, ErrorFacts] = Field(description="by kind, and over all; of points that took no part in the fit")
    links: LinkCalibrationFacts | None = Field(description="null where nothing was exchanged")
    fitted: int
    left_out: int
    unrest: float = Field(description="median over shapes of (median / least time − 1) of the repetitions")
    layers: list[LayerFacts]
    measurements: list[dict[str, Any]] = Field(description="shape, seconds, and whether it was fitted")
    exchanges: list[ExchangeFacts]
