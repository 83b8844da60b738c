"""What a deployment can serve: memory, cache capacity, latency, throughput, money."""

from __future__ import annotations

from calc.serving.answer import Serving, serve

__all__ = ["Serving", "serve"]
