"""What ``calc list accelerators`` and ``calc show ACCELERATOR`` print."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.accuracy import ErrorFacts
from calc.schema.base import Answer, Document


class LinkFacts(Document):
    """What joins neighbouring devices; the innermost stands first."""

    kind: str
    bytes_per_s: float = Field(description="one direction, for each device, nominal")
    latency_s: float = Field(description="one hop of a small message")
    size: int | None = Field(description="devices that one domain joins; null: no limit stated")
    reduces: bool = Field(description="the switch adds up what it passes on")
    typical: bool = Field(description="a common deployment, not a property of the accelerator")
    source: str


class PriceFacts(Document):
    """What one device costs by the hour, when, and who asks it."""

    usd_per_hour: float
    date: str
    source: str


class CalibrationFacts(Document):
    """When constants were measured on this very device, and how far off they leave kernels and exchanges."""

    device: str
    date: str
    errors: dict[str, ErrorFacts]


class AcceleratorFacts(Document):
    """One accelerator, in base units."""

    name: str
    title: str
    vendor: str
    year: int
    memory_bytes: int = Field(description="nominal capacity")
    visible_bytes: int | None = Field(description="what the driver offers to programs, where reported")
    memory_bytes_per_s: float
    flops: dict[str, float] = Field(description="dense peak by format, FLOP/s (OP/s for integers)")
    half: str = Field(description="its 16-bit format: bf16, or fp16 where there is none")
    ridge_flop_per_byte: dict[str, float] = Field(description="peak over memory bandwidth, by format")
    n_cores: int | None
    clock_hz: float | None = Field(description="the clock that the stated peak is reached at")
    max_clock_hz: float | None
    cache_bytes: int | None
    links: list[LinkFacts]
    node_size: int = Field(description="devices of one host")
    tdp_watts: float | None
    price: PriceFacts | None
    sources: dict[str, str] = Field(description="for every stated value, where it is from")
    aliases: list[str]
    notes: list[str]
    calibration: CalibrationFacts | None = Field(description="null for a device whose generation's constants hold")


class Card(Answer, AcceleratorFacts):
    """``calc show ACCELERATOR``."""

    kind: Literal["accelerator"]


class Accelerators(Answer):
    """``calc list accelerators``."""

    kind: Literal["accelerators"]
    accelerators: list[AcceleratorFacts]
