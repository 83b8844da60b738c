"""The JSON of ``calc ops`` with an accelerator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document
from calc.schema.models import OperationsModel


class TimedPass(Document):
    """What was asked for."""

    phase: Literal["prefill", "decode", "train"]
    batch: int
    context: int
    source: int | None
    causal: bool
    counts: Literal["matmul", "all"]


class KernelFacts(Document):
    """One kernel; figures include ``repeat`` unless their name says ``each`` or is one of the three parts of it."""

    path: str
    kernel: str
    kind: Literal["gemm", "grouped_gemm", "attention", "memory", "scan", "lookup"]
    operations: list[str]
    direction: Literal["forward", "backward"]
    repeat: int
    form: str = Field(description="format of the matrix products")
    shape: dict[str, float] = Field(description="m, n, k, groups of a product; batch, heads, ... of an attention")
    flops: float
    bytes: float
    seconds: float = Field(description="all launches")
    seconds_each: float
    compute_seconds: float = Field(description="of one launch, as memory_seconds and launch_seconds")
    memory_seconds: float
    launch_seconds: float
    bound: Literal["compute", "memory", "launch"]
    share: float = Field(description="of the pass")
    intensity: float = Field(description="FLOP/B")
    ridge: float = Field(description="FLOP/B from which on the peak of this format is the limit")
    of_roofline: float = Field(description="least time that peak and bandwidth leave, over the modelled time")


class KernelTotals(Document):
    """The pass; ``low`` and ``high``: where eight of ten measured operators lay around such times."""

    seconds: float
    low: float
    high: float
    flops: float
    bytes: float
    flops_per_second: float
    of_roofline: float
    compute_bound_seconds: float
    memory_bound_seconds: float
    launch_bound_seconds: float


class MeasuredError(Document):
    """|predicted / measured − 1| over ``n`` measurements; ``low`` and ``high`` of measured / predicted."""

    quantity: str
    n: int
    median: float
    mean: float
    p90: float
    low: float
    high: float


class Kernels(Answer):
    """``calc ops --accelerator``."""

    kind: Literal["kernels"]
    model: OperationsModel
    pass_: TimedPass = Field(alias="pass")
    accelerator: str
    tp: int
    fusion: Literal["fused", "eager"]
    launch: Literal["graph", "stream", "none"]
    kernels: list[KernelFacts]
    total: KernelTotals
    provenance: Literal["modelled"]
    error: MeasuredError
