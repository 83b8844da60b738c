"""Compute spent at inference: chains of steps, verification, many samples, guessed tokens, layers left out."""

from __future__ import annotations

from calc.reasoning.chains import Chain
from calc.reasoning.depth import adapt
from calc.reasoning.speculation import speculate
from calc.reasoning.thinking import reason

__all__ = ["Chain", "adapt", "reason", "speculate"]
