"""What ``calc reason``, ``calc speculate`` and ``calc adapt`` print."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.base import Answer, Document


class ChainFacts(Document):
    """The chain that was asked about."""

    steps: int
    step_tokens: int
    check_tokens: int
    redo: float = Field(description="chance that a step is rejected")
    attempts: int | None = Field(description="most attempts of a step; null: as many as it takes")
    answer_tokens: int
    tries: float = Field(description="expected attempts of a step")
    accepted: float = Field(description="chance that every step is accepted within its attempts")
    samples: int


class TokenFacts(Document):
    """Expected tokens, of all samples together."""

    prompt: int
    kept: int
    generated: float
    discarded: float = Field(description="rejected attempts and checks")
    peak_context: int = Field(description="of one sample")


class ChainFlops(Document):
    """Expected FLOPs; the four parts add up to the total."""

    prefill: float
    steps: float
    answer: float
    judge: float
    total: float


class PlainFacts(Document):
    """The answer alone, without a chain."""

    generated: int
    flops: float


class ChainCache(Document):
    """The cache at the longest context, in bytes."""

    dtype: str
    bytes: int = Field(description="samples share the prompt's positions")
    unshared_bytes: int
    state_bytes: int


class ChanceFacts(Document):
    """The chance of a right answer."""

    one: float
    by: Literal["best", "majority"]
    of_all: float


class TimeFacts(Document):
    """At the user's rate, or modelled on one accelerator; samples side by side."""

    seconds: float | None
    low: float | None = Field(description="of a modelled time: the 10th percentile of measured over predicted")
    high: float | None
    tokens_per_second: float | None = Field(description="of one sample")
    accelerator: str | None
    provenance: Literal["exact", "modelled"]


class Reason(Answer):
    """``calc reason``."""

    kind: Literal["reason"]
    model: str
    judge: str | None
    chain: ChainFacts
    tokens: TokenFacts
    flops: ChainFlops
    plain: PlainFacts | None
    cache: ChainCache
    chance: ChanceFacts | None
    time: TimeFacts
    usd: float | None


class RoundFacts(Document):
    """One number of guesses."""

    drafted: int
    tokens: float = Field(description="expected tokens of a round")
    flops: float = Field(description="of a token")
    flops_ratio: float = Field(description="to a plain decode step")
    bytes: float = Field(description="weights and cache of a token")
    memory_speedup: float = Field(description="plain bytes over bytes, for a token")
    leviathan: float = Field(description="their Theorem 3.8, the drafter's cost as the ratio of bytes")


class Speculate(Answer):
    """``calc speculate``."""

    kind: Literal["speculate"]
    target: str
    drafter: str
    acceptance: float
    context: int
    batch: int
    chosen: RoundFacts
    fastest: int = Field(description="guesses of the highest memory_speedup")
    rounds: list[RoundFacts]
    drafter_cache_bytes: int


class ExitFacts(Document):
    """Tokens that leave after a layer."""

    layer: int
    chance: float
    flops: float
    filling: float = Field(description="FLOPs that fill the caches of the layers left out")
    heads: float = Field(description="FLOPs of the heads that were asked")


class Adapt(Answer):
    """``calc adapt``: FLOPs of one decode step."""

    kind: Literal["adapt"]
    model: str
    method: Literal["early exit", "mixture of depths"]
    context: int
    expected: float
    full: float
    share: float
    mean_layers: float
    exits: list[ExitFacts] = Field(default=[])
    capacity: float | None = None
    every: int | None = None
    routed_layers: int | None = None
    keys: int | None = Field(default=None, description="keys that a routed layer holds at the context")
    cache_bytes: int | None = None
    full_cache_bytes: int | None = None
