"""The JSON of ``calc train``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.accuracy import KnownErrorFacts
from calc.schema.base import Answer, Document


class RunFacts(Document):
    """The configuration."""

    model: str
    accelerator: str
    gpus: int
    tp: int
    pp: int
    cp: int
    ep: int
    dp: int
    zero: int
    virtual_stages: int
    schedule: Literal["gpipe", "1f1b", "interleaved", "zero_bubble"]
    sequence_parallel: bool
    micro_batch: int
    global_batch: int
    micro_batches: int
    context: int
    precision: str
    recompute: Literal["none", "selective", "full"]
    optimizer: str
    method: Literal["full", "lora", "qlora"]
    mtp: bool
    framework: str


class PartFacts(Document):
    """Bytes of the fullest device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    other: float
    total: float
    capacity: int = Field(description="bytes of a device that programs can have")


class DeviceMemory(Document):
    """Memory, and of which pipeline stage."""

    per_gpu: PartFacts
    stage: int


class TimeParts(Document):
    """Seconds on the critical path; they add up to the iteration."""

    compute: float
    recompute: float
    tensor: float
    expert: float
    context: float
    pipeline: float
    data: float
    bubble: float
    optimizer: float


class TimeFacts(Document):
    """Seconds of a step; compute, communication, bubble and optimizer add up to the iteration."""

    iteration: float
    compute: float = Field(description="with what is computed again")
    communication: float = Field(description="that is not hidden")
    bubble: float
    optimizer: float
    parts: TimeParts


class BudgetFacts(Document):
    """The token budget, and the seconds it takes."""

    tokens: int
    seconds: float


class TrainingFacts(Document):
    """One configuration and what it costs."""

    run: RunFacts
    fits: bool
    limit: str | None = Field(description="the first limit hit")
    change: str | None = Field(description="the smallest change that would make it fit")
    memory: DeviceMemory
    time: TimeFacts
    mfu: float
    hfu: float
    tokens_per_second: float
    tokens_per_second_per_gpu: float
    budget: BudgetFacts | None = None
    days: float | None = None
    gpu_hours: float | None = None
    usd: float | None = None
    joules: float | None = None
    errors: dict[str, KnownErrorFacts]
    provenance: Literal["modelled"]
    others: list[TrainingFacts] = Field([], description="what a search found beside it, fastest first")


class Train(Answer, TrainingFacts):
    """``calc train``."""

    kind: Literal["train"]
