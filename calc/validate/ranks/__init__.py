"""Proof of collectives: sharded models run as processes that send to each other, and what they send is counted."""

from __future__ import annotations

from calc.validate.ranks.run import prove_collectives

__all__ = ["prove_collectives"]
