"""What ``calc serve`` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class ServedModel(Document):
    """Which model."""

    name: str
    source: str


class LayoutFacts(Document):
    """Degrees of parallelism of the devices that decode."""

    tp: int
    pp: int
    ep: int
    dp: int


class EngineFacts(Document):
    """The engine, at the version whose behaviour is modelled."""

    name: str
    version: str
    source: str


class MediaFacts(Document):
    """One kind of input in a prompt: ``asked`` as it was written, the tokens that it becomes."""

    kind: Literal["image", "audio", "video"]
    asked: str
    tokens: int


class LoadFacts(Document):
    """What was asked for; neither concurrency nor rate: all places taken."""

    input_tokens: int = Field(description="of a prompt, with those of images and sound")
    media: list[MediaFacts] = Field(description="what stands in every prompt beside its text")
    output_tokens: int
    concurrency: float | None
    rate: float | None = Field(description="requests per second, Poisson arrivals")
    cached: float = Field(description="share of the prompt that a prefix cache has")
    guesses: int
    accepted: float = Field(description="tokens that a step yields on average")


class ServingMemoryFacts(Document):
    """Bytes of one device; capacities of the whole deployment, for sequences of the whole length."""

    capacity: int
    weights: int
    drafter: int = Field(description="of the weights, those of what guesses tokens ahead")
    towers: int = Field(description="of the weights, those of encoders of images and sound")
    overhead: int = Field(description="activations, context, graphs")
    cache: int
    cache_capacity_tokens: int = Field(description="as the engine allocates")
    cache_capacity_sequences: float
    logical_tokens: int = Field(description="what the mathematics alone would hold")
    reported_tokens: int | None = Field(description="what one engine's log prints; null where it prints bytes")


class ThroughputFacts(Document):
    """Of the whole deployment, per second."""

    output_tokens_per_s: float | None
    output_tokens_per_s_per_gpu: float | None
    requests_per_s: float | None
    saturation_requests_per_s: float | None
    running: float | None = Field(description="sequences that decode at a time")
    prompt_share: float | None = Field(description="share of the devices' time that prompts take")


class CostFacts(Document):
    """US dollars; null where no price is known."""

    usd_per_hour: float | None
    usd_per_million_input_tokens: float | None
    usd_per_million_output_tokens: float | None


class AlternativeFacts(Document):
    """The same question with one thing changed."""

    change: str
    fits: bool
    output_tokens_per_s_per_gpu: float | None
    tpot_s: float | None
    gain: float | None = Field(description="null where it alone makes the model fit")


class Range(Document):
    """Where eight of ten published measurements lay around such a figure."""

    low: float
    high: float


class ChangeFacts(Document):
    """What is different before or since a version."""

    before: str | None
    since: str | None
    fields: dict[str, str | int | float | bool]


class EnginePreset(Document):
    """A line of ``calc list engines``."""

    name: str
    title: str
    version: str
    source: str
    budget: str = Field(description="what the cache may have: total, static, free or context")
    memory_fraction: float | None
    block_tokens: int
    max_batched_tokens: int
    max_sequences: int
    prefill: str
    reported: str = Field(description="what the engine's log prints of its cache")
    overhead_bytes: int
    changes: list[ChangeFacts]


class Engines(Answer):
    """``calc list engines``."""

    kind: Literal["engines"]
    engines: list[EnginePreset]


class LimitFacts(Document):
    """A limit of a mean latency, in seconds, and what there is; null where nothing is answered."""

    name: Literal["ttft", "tpot"]
    limit: float
    value: float | None
    met: bool


class SolvedFacts(Document):
    """An inverse question."""

    question: str
    value: int | str | None
    unit: str
    condition: str


class Serve(Answer):
    """``calc serve``."""

    kind: Literal["serve"]
    model: ServedModel
    accelerator: str
    gpus: int
    prefill_gpus: int
    layout: LayoutFacts
    engine: EngineFacts
    load: LoadFacts
    weights_dtype: str
    cache_dtype: str
    fits: bool
    reason: str
    memory: ServingMemoryFacts
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    encoding_s: float = Field(description="towers, for the images and sound of one prompt")
    queue_s: float | None
    transfer_s: float
    stable: bool | None
    throughput: ThroughputFacts
    cost: CostFacts
    joules_per_output_token: float | None = Field(description="all devices at their power limit, without hosts")
    bound: str = Field(description="the first limit")
    improvement: str | None = Field(description="the single change that helps most")
    alternatives: list[AlternativeFacts]
    ranges: dict[str, Range]
    limits: list[LimitFacts] = Field(description="those of the question")
    solved: list[SolvedFacts]
    not_modelled: str
