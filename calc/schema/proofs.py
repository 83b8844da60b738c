"""What was proven."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class CheckFacts(Document):
    """One figure of one operation, as the table says it and as it was counted."""

    target: str
    path: str
    operation: str
    quantity: str = Field(description="parameters, forward, visible, backward, decode, cache, ...")
    formula: str
    context: int = Field(description="positions that the pass ends with; 0 for parameters")
    expected: int
    counted: int | None = Field(description="null where the reference did not tell the mask that it applied")


class ProofFacts(Document):
    """What was compared under one name."""

    name: str
    holds: bool
    checks: list[CheckFacts]


class FootprintFacts(Document):
    """Peak memory and time of one pass of a twin, on a device that tells them. Units: bytes, seconds."""

    target: str
    phase: Literal["forward", "training"]
    batch: int
    tokens: int
    resident: int = Field(description="allocated before the pass")
    peak: int = Field(description="the most at once, what was allocated before included")
    seconds: float = Field(description="median")
    modelled: float | None = Field(description="the time model's, where the device is a known accelerator")


class Validate(Answer):
    """``calc validate``."""

    kind: Literal["validate"]
    device: str
    versions: dict[str, str]
    holds: bool
    figures: int
    differ: int
    measured: list[FootprintFacts] = Field(description="on a GPU; empty elsewhere")
    targets: list[ProofFacts]
