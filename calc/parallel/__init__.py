"""A model on many devices: layouts, the tables of one rank, pipeline stages, the collectives between ranks."""

from __future__ import annotations

from calc.parallel.layout import Layout
from calc.parallel.pipeline import bubble, chunks, stages
from calc.parallel.sharding import check, is_expert, shard

__all__ = ["Layout", "bubble", "check", "chunks", "is_expert", "shard", "stages"]
