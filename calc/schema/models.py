"""Cards, comparisons, lists and operation tables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class ModelFacts(Document):
    """Which model the figures are of."""

    name: str
    title: str
    source: str
    n_layers: int
    d_model: int
    vocab_size: int
    max_context: int | None


class PassFacts(Document):
    """The setting: sequences, tokens (of the encoder, too, where there is one), and what is counted."""

    batch: int
    context: int
    source: int | None
    causal: bool
    counts: Literal["matmul", "all"]


class ParameterFacts(Document):
    """Parameters; the seven parts add up to ``total``."""

    total: int
    active: int = Field(description="total less the routed experts that a token does not use")
    active_matmul: int = Field(description="active, less tables that are looked up and not multiplied by")
    embedding: int
    attention: int
    ffn: int
    router: int
    norm: int
    head: int
    other: int
    mtp: int = Field(description="multi-token prediction modules, not in the total")


class WeightFacts(Document):
    """Bytes of the weights."""

    dtype: str
    bytes: int


class CacheFacts(Document):
    """Logical bytes that the batch keeps between steps."""

    dtype: str
    bytes_per_token: int | float = Field(
        description="what one sequence's cache grows by with a further token; the mean where entries stand for several"
    )
    bytes: int = Field(description="keys, values and latents of the positions kept")
    state_bytes: int = Field(description="recurrent and convolution states, whose size does not depend on the context")
    multi_head_bytes: int = Field(description="what multi-head attention with the same heads would keep, in bf16")
    by_kind: dict[str, int]


class FlopFacts(Document):
    """FLOPs: a prompt of ``context`` tokens per sequence, one new token each, one training step."""

    prefill: int
    decode: int
    train: int


class PhaseFacts(Document):
    """One figure for each phase of serving."""

    prefill: int | float
    decode: int | float


class ComplexityFacts(Document):
    """The power of the sequence length in a prefill's attention FLOPs."""

    exponent: float


class Traffic(Document):
    """Bytes moved, by the role of the tensor."""

    weight: int | float
    activation: int | float
    cache: int | float


class TowerFacts(Document):
    """An encoder of images or sound; no other figure includes it."""

    modality: Literal["image", "audio"]
    source: str
    n_layers: int
    d_model: int
    params: int
    projector_params: int = Field(description="of them in what turns its output into tokens")
    weight_bytes: int


class Costs(Document):
    """One model's costs in one setting."""

    model: ModelFacts
    pass_: PassFacts = Field(alias="pass")
    params: ParameterFacts
    towers: list[TowerFacts]
    weights: WeightFacts
    cache: CacheFacts
    flops: FlopFacts
    flops_by_form: dict[str, dict[str, int]] = Field(
        description="FLOPs by phase, for a mechanism that can be computed in several forms (naive, absorbed)"
    )
    traffic: PhaseFacts = Field(description="bytes moved when nothing is fused")
    traffic_by_role: dict[str, Traffic]
    intensity: PhaseFacts = Field(description="FLOP per byte moved")
    complexity: dict[str, ComplexityFacts]
    provenance: Literal["exact", "modelled", "estimate"]
    low: Costs | None = Field(None, description="the least that an estimated architecture may cost")
    high: Costs | None = Field(None, description="the most")


class InputFacts(Document):
    """One entry of what stands in a prompt beside the text; ``tokens`` of one sequence, FLOPs of the batch."""

    kind: Literal["image", "audio", "video"]
    asked: str
    count: int
    tiles: int = Field(description="passes through the tower: images, tiles of them, frames, chunks of sound")
    positions: int | None = Field(description="what the tower's layers see in each pass; null without a known tower")
    tokens: int = Field(description="in the text, with the special tokens around them")
    markers: int = Field(description="of them special tokens")
    encoder_flops: int | None = Field(description="null where a maker publishes the tokens and no encoder")
    projector_flops: int | None


class MediaPart(Document):
    """What one kind of input costs: in its tower, in the prefill as its own queries, in the cache."""

    kind: Literal["image", "audio", "video", "text"]
    tokens: int
    encoder_flops: int | None
    prefill_flops: int
    cache_bytes: int


class AttentionBlock(Document):
    """Queries of one part, keys of another; pairs of one layer by its mask, null where they depend on the data."""

    query: Literal["image", "audio", "video", "text"]
    key: Literal["image", "audio", "video", "text"]
    pairs: dict[str, int | None]
    flops: int = Field(description="scores and values, of all layers whose pairs are known")


class MediaFacts(Document):
    """A prompt with images, sound or clips."""

    tokens: int
    inputs: list[InputFacts]
    parts: list[MediaPart]
    attention: list[AttentionBlock]


class Show(Answer, Costs):
    """``calc show``."""

    kind: Literal["show"]
    media: MediaFacts | None = None


class PartFacts(Document):
    """What one part of a layer costs in a prefill of n tokens: the leading term, and how many layers cost it."""

    part: Literal["attention", "projections", "ffn", "cache"]
    unit: Literal["FLOP", "values"]
    layers: int
    formula: str = Field(description="in the legend's symbols; cache: values of one token")


class FormulaFacts(Document):
    """The formulas of one model."""

    model: str
    parts: list[PartFacts]


class TrainingFacts(Document):
    """The training that a model's maker states; null where it does not."""

    model: str
    tokens: float | None
    usd: float | None
    flops: float | None = Field(description="of training on these tokens, in sequences of the setting's length")


class Compare(Answer):
    """``calc compare``."""

    kind: Literal["compare"]
    models: list[Costs]
    formulas: list[FormulaFacts]
    training: list[TrainingFacts]


class ListedModel(Document):
    """A line of ``calc list``."""

    name: str
    title: str
    params: int
    active: int
    layers: int
    mechanisms: str
    max_context: int | None
    source: str


class List(Answer):
    """``calc list``."""

    kind: Literal["list"]
    models: list[ListedModel]


class OperationsModel(Document):
    """Which model a table is of."""

    name: str
    source: str


class OperationsPass(PassFacts):
    """The setting of an operation table."""

    phase: Literal["prefill", "decode"]


class OperationFacts(Document):
    """A line of the operation table; figures include ``repeat``."""

    path: str
    layer_kind: str
    operation: str
    formula: str
    repeat: int
    params: int
    flops: int
    bytes: int | float
    bytes_by_role: Traffic


class OperationTotals(Document):
    """The table's sums."""

    params: int
    flops: int
    bytes: int | float


class Operations(Answer):
    """``calc ops``."""

    kind: Literal["ops"]
    model: OperationsModel
    pass_: OperationsPass = Field(alias="pass")
    operations: list[OperationFacts]
    total: OperationTotals
