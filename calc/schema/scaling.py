"""What ``calc scale``, ``calc experts`` and ``calc lengths`` print."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class OptimumFacts(Document):
    """The best split of a budget."""

    size: float = Field(description="parameters, as the law counts them")
    tokens: float
    loss: float | None = Field(description="nats per token of the law's own text; null: the law has none")


class ScaledModel(Document):
    """The model that is held against the laws."""

    name: str
    tokens: float | None
    context: int
    flops_per_token: float = Field(description="training, forward and backward, read off the tables")
    six_n: int = Field(description="six times the active parameters")
    expansion: float = Field(description="experts over experts used; 1: dense")


class LawSource(Document):
    """One law: what it says, where its coefficients are from."""

    name: str
    title: str
    counted: Literal["total", "non_embedding", "active"] = Field(description="what its N counts")
    formula: str
    source: str
    fitted: str = Field(description="range of the experiments; beyond it an extrapolation")


class LawFacts(LawSource):
    """One law at a budget, or for a model."""

    optimum: OptimumFacts
    size: int | None = Field(default=None, description="the model's N")
    tokens: float | None = None
    compute: float | None = Field(default=None, description="6·N·D, FLOP")
    loss: float | None = None
    excess_loss: float | None = Field(default=None, description="above the best split of the same compute")


class Scale(Answer):
    """``calc scale``."""

    kind: Literal["scale"]
    compute: float | None = Field(description="FLOP: the budget, or what the model's tables count for its tokens")
    model: ScaledModel | None
    laws: list[LawFacts]


class PointFacts(Document):
    """The best split of one budget by one law."""

    law: str
    compute: float
    size: float
    tokens: float
    loss: float | None


class Curve(Answer):
    """``calc scale`` with several budgets: loss against compute."""

    kind: Literal["curve"]
    points: list[PointFacts]
    laws: list[LawSource]


class RoutedLawFacts(Document):
    """One law of routing."""

    name: str
    formula: str
    source: str
    cutoff: float = Field(description="parameters from which on routing does not help")


class RoutedPoint(Document):
    """One number of experts."""

    law: str
    experts: int
    loss: float
    dense_equal: float = Field(description="dense parameters of the same loss")


class Routed(Answer):
    """``calc.routed_laws``."""

    kind: Literal["routed"]
    size: float
    laws: list[RoutedLawFacts]
    points: list[RoutedPoint]


class ChoiceFacts(Document):
    """One architecture at the budget."""

    expansion: int
    granularity: int = Field(description="dense width over the width of an expert")
    activation: int = Field(description="dense widths that a token uses")
    n_experts: int
    n_active_experts: int
    d_expert: int
    total: int
    active: int
    weight_bytes: int = Field(description="in bf16")
    flops_per_token: float
    tokens: float
    loss_joint: float | None = Field(description="nats; law in experts and activation")
    loss_granular: float | None = Field(description="nats; law in the experts' size, 64-fold expansion")
    extrapolated: bool = Field(description="more experts than loss_joint was fitted on")


class Experts(Answer):
    """``calc experts``."""

    kind: Literal["experts"]
    model: str
    compute: float
    context: int
    memory: float | None
    choices: list[ChoiceFacts]
    best: dict[str, ChoiceFacts]
    left_out: int = Field(description="choices whose weights do not fit the memory")


class CrossoverFacts(Document):
    """Where softmax becomes dearer for good, and both costs there."""

    from_: int | None = Field(alias="from", description="tokens; null: not up to 2^30")
    softmax: int | None
    rival: int | None


class RivalFacts(Document):
    """One mixer beside softmax attention."""

    name: str
    family: str
    crossovers: dict[str, CrossoverFacts]


class Lengths(Answer):
    """``calc lengths``."""

    kind: Literal["lengths"]
    model: str
    heads: int
    kv_heads: int
    head_dim: int
    counts: Literal["matmul", "all"]
    rivals: list[RivalFacts]
