"""What ``calc objective`` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class PhaseFacts(Document):
    """Passes of one model."""

    name: str
    model: str
    sequences: float
    tokens: float
    flops: float = Field(description="matmul FLOPs of all of them")
    note: str
    formula: str | None = Field(
        default=None, description="FLOPs of one sequence; n its tokens, P and Y of prompt, answer"
    )


class HeldFacts(Document):
    """A model's states, in bytes, all devices together."""

    role: str
    model: str
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    activations: int = Field(description="of one sequence, none recomputed; not in the total")
    total: int


class ObjectiveMemory(Document):
    """States of all models; activations and caches apart."""

    models: list[HeldFacts]
    total: int
    precision: str
    optimizer: str
    framework: str


class StoredFacts(Document):
    """What else is kept."""

    name: str
    bytes: float
    how: str


class Objective(Answer):
    """``calc objective``."""

    kind: Literal["objective"]
    objective: str
    model: str
    batch: int
    prompt: int
    answer: int
    whole: bool = Field(description="of a whole corpus or year, not of one step")
    phases: list[PhaseFacts]
    flops: float
    flops_per_token: float | None
    memory: ObjectiveMemory
    stored: list[StoredFacts]
    formula: str
    source: str
