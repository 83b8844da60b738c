"""A model on many devices: layouts, the tables of one rank, pipeline stages, the collectives between ranks."""

from __future__ import annotations

from calc.parallel.collective import Collective, Ways, Wire
from calc.parallel.inside import inside
from calc.parallel.layout import Layout
from calc.parallel.outside import collectives
from calc.parallel.pipeline import bubble, chunks, stages
from calc.parallel.sharding import check, has_experts, is_expert, shard

__all__ = [
    "Collective", "Layout", "Ways", "Wire", "bubble", "check", "chunks", "collectives", "has_experts", "inside",
    "is_expert", "shard", "stages",
]  # fmt: skip
