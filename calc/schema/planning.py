"""What ``calc plan`` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from calc.schema.accuracy import KnownErrorFacts
from calc.schema.base import Answer, Document


class DemandFacts(Document):
    """What is asked for; spreads are standard deviations over means."""

    rate: float = Field(description="requests per second, at the peak")
    input_tokens: float
    output_tokens: float
    input_spread: float
    output_spread: float
    profile: list[float] = Field(description="shares of the peak, by hour of the day")


class ObjectiveFacts(Document):
    """Seconds that hold at the quantile."""

    ttft: float
    tpot: float
    quantile: float


class ChoiceFacts(Document):
    """A deployment. A unit is one model copy, or ``dp`` copies that share their experts."""

    accelerator: str
    engine: str
    tp: int
    pp: int
    ep: int
    dp: int
    weights_dtype: str
    cache_dtype: str
    disaggregated: bool
    units: int = Field(description="that decode")
    reading_units: int = Field(description="that only read prompts")
    gpus: int
    ttft_s: float = Field(description="at the objective's quantile")
    tpot_s: float
    mean_ttft_s: float
    mean_tpot_s: float
    rate: float
    saturation: float = Field(description="requests per second at which the queue grows without end")
    output_tokens_per_s_per_gpu: float
    usd_per_hour: float | None = Field(description="of all devices; null where no price is known")
    usd_per_million_output_tokens: float | None = Field(description="all that is paid over what is written")


class PointFacts(Document):
    """A deployment that no other beats in both speeds."""

    tokens_per_s_per_user: float
    output_tokens_per_s_per_gpu: float
    deployment: ChoiceFacts


class QuantileFacts(Document):
    """Times of the cheapest deployment."""

    quantile: float
    ttft_s: float
    tpot_s: float


class RejectedFacts(Document):
    """A family with which nothing would do."""

    family: str
    disaggregated: bool
    reason: str = Field(description="the first limit, a colon, and by how much it misses")


class PlanFacts(Document):
    """One model's plan."""

    model: str
    demand: DemandFacts
    objectives: ObjectiveFacts
    max_gpus: int
    evaluated: int = Field(description="deployments that were looked at")
    choices: list[ChoiceFacts] = Field(description="one for each family, cheapest first")
    quantiles: list[QuantileFacts]
    front: list[PointFacts]
    rejected: list[RejectedFacts]
    gpus_by_hour: list[int] = Field(description="of the first choice; empty where there is none")
    usd_per_day: float | None
    usd_per_month: float | None
    errors: dict[str, KnownErrorFacts]
    not_modelled: str


class Plan(Answer, PlanFacts):
    """``calc plan MODEL``."""

    kind: Literal["plan"]


class Fleet(Answer):
    """``calc plan MODEL --also MODEL:RATE``."""

    kind: Literal["fleet"]
    plans: list[PlanFacts]
    gpus: dict[str, int] = Field(description="by accelerator, in the busiest hour of all models together")
    gpus_by_hour: dict[str, list[int]]
    beyond: int = Field(description="devices above what a model may have at most")
    usd_per_day: float | None = Field(description="null where a price is unknown or a model has no deployment")
