"""The JSON of ``calc exchange``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from calc.schema.base import Answer, Document
from calc.schema.kernels import MeasuredError
from calc.schema.models import OperationsModel


class ExchangePass(Document):
    """What was asked for, of one model copy."""

    phase: Literal["prefill", "decode", "train"]
    batch: int
    context: int


class CallFacts(Document):
    """One collective that a rank takes part in, ``count`` times."""

    after: str = Field(description="where it comes from: the operation whose result it is, or what is exchanged")
    kind: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]
    axis: Literal["tp", "cp", "ep", "expert_tp", "expert_dp", "dp", "pp"]
    direction: Literal["forward", "backward", "step"]
    ranks: int
    span: int = Field(description="devices from the first to the last rank of the group")
    count: int
    bytes: float = Field(description="the whole tensor of one call as one rank sees it")
    sent_bytes: float = Field(description="the least that a rank sends, all calls")
    seconds: float | None = Field(description="all calls, modelled; null without an accelerator")


class CallTotals(Document):
    """All calls of one direction."""

    count: int
    sent_bytes: float
    seconds: float | None


class Exchange(Answer):
    """``calc exchange``."""

    kind: Literal["exchange"]
    model: OperationsModel
    pass_: ExchangePass = Field(alias="pass")
    layout: dict[str, Any]
    stage: int
    wire: dict[str, str | None] = Field(description="number formats of what is exchanged")
    ways: dict[str, str | bool]
    accelerator: str | None
    calls: list[CallFacts]
    total: dict[Literal["forward", "backward", "step"], CallTotals]
    error: MeasuredError | None
